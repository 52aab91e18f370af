"""The five verbs as Prefect flows, and the command line over them; no domain logic."""
