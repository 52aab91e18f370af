"""The `genebench` command line.

- `app`: the entry point, and the commands for the server and inspection
- `options`: options that several commands share
- `verbs`: refresh, curate, embed, score, report and benchmark
- `results`: query, release, diff, compare, export and import
- `studies`: leakage, later and sensitivity
- `run_flows`: starts the Prefect server and runs flows; handles signals, filters logs
- `inspect`: prints what the registry and the lake contain
- `render`: prints tables, leaderboards, comparisons and run summaries
"""
