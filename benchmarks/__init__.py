"""Benchmarks: time, memory and accuracy of genebench, compared with scikit-learn and others.

`python -m benchmarks` prints tables and writes `benchmarks/results.json`. Each case runs in its own
process, so that peak memory is measured per case.
"""
