"""The Prefect server on one machine: start it, set it up, stop it.

- `processes`: background processes and the files that record them
- `local_server`: the Prefect server of a folder
- `provision`: work pools, concurrency limits, automations; recovery of lost runs
- `local_stack`: server, deployments and workers, for `genebench up` and `genebench down`
- `hooks`: flow hooks that emit events and label runs
- `logs`: which log records reach the terminal
"""
