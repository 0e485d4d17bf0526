"""Benchmarks: speed as ratios of interleaved pairs, on fresh and fragmented heaps, and sizes beside peers."""
