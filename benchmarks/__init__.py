"""Measurements of the probe engine, side by side with scikit-learn on the same rows.

`python -m benchmarks` prints tables and writes `benchmarks/results.json`. Each case runs in a
process of its own, so that its peak memory is its own too.
"""
