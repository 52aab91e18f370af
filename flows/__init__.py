"""The five verbs as Prefect flows, with the server and the command line that run them.

There is no domain logic here: flows call `genebench` and `lakehouse`, and check tables with
`expectations`.

- `refresh`, `curate`, `embed`, `score`, `report`: one flow for each verb, in the order of the data
- `benchmark`: the five flows one after the other
- `release`: freeze a release, import published results
- `run`: what every flow run needs
- `server`: the Prefect server, its deployments and workers
- `cli`: the command line
"""
