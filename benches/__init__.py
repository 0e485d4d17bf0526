"""Benchmarks: speed as ratios of interleaved pairs on a fresh and on a fragmented heap, and sizes beside peers."""
