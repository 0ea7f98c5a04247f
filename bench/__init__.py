"""Benchmarks of kernelmill: corpora, peers, whole-process comparisons, and a pytest-benchmark suite."""
