"""Streams that bound themselves; public under `snapdelta.redis_stream_manager`.

Imports point one way: manager -> scheduler -> {trimmer, report} -> store -> policy -> glob. The modules
field_codec, settings and stats import none of these.
"""
