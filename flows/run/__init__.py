"""What every flow run needs, from its start to its end.

- `parameters`: types and choices of flow parameters
- `run_names`: names of flow runs
- `writer_lock`: one writer per lake at a time
- `context`: settings, declarations and lake of a flow run
- `task_runners`: threads or Dask, by setting
- `progress`: progress bars, log lines and artifacts
- `gate`: check rows against their expectations, then commit them
- `summary`: what a flow run did, skipped and refused
"""
