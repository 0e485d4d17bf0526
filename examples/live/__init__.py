"""A page with a live ranking: a simulated market through Redis and a gateway to browsers (docs/live.md)."""
