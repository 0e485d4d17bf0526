"""The rooms behind snapdelta.streams.manager; nothing here is public by this path.

Arrows point one way: manager -> task -> {trimming, report} -> {commands, scripts} -> policy -> glob; fields,
settings and stats are used from above and know nothing of it.
"""
