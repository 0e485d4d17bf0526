"""What every test has: hypothesis without a time limit for one example (the machine may be busy)."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile(
    "snapdelta",
    deadline=None,
    print_blob=True,
    # whole snapshots are large and slow to draw; that is not what is tested
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large, HealthCheck.large_base_example],
)
settings.load_profile("snapdelta")
