"""The rooms behind snapdelta.redis_stream_manager; nothing here is public by this path.

Arrows point one way: manager -> task -> {discovery, trimming, report} -> {commands, scripts} -> policy ->
glob; fields and stats stand alone.
"""
