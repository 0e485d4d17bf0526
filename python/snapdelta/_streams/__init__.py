"""The rooms behind snapdelta.redis_stream_manager; nothing here is public by this path.

Arrows point one way: manager -> task -> {trimming, report} -> {commands, scripts} -> policy -> glob; fields,
settings and stats are used from above and know nothing of it.
"""
