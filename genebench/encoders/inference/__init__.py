"""Runs models: devices, batches and windows.

- `devices`: chooses device, dtype and batch size.
- `batching`: batches by token budget, and recovery when a batch does not fit in memory.
- `windows`: splits long sequences into windows and averages the windows.
"""
