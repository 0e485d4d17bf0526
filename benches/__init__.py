"""Benchmarks: speed as ratios of interleaved pairs, on the heaps of benches.heap, and sizes beside peers."""
