"""Faults of a Redis server that snapdelta uses: `snapdelta doctor`. Reads only, changes nothing."""
