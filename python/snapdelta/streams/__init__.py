"""Bounded streams; public under `snapdelta.redis_stream_manager`.

Imports point one way: manager -> {scheduler, report, settings}, scheduler -> trimmer -> {store, policy},
report -> {store, policy}, settings -> policy -> glob. field_codec and stats import none of these.
"""
