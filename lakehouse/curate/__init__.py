"""Curate: builds the silver tables from the bronze tables.

- `state`: which snapshots to read, the curation key, and whether the silver tables match it
- `build`: entities, xrefs, inputs, samples, labels and tasks
- `changes`: samples added, removed and relabelled between two curations
- `task_selection`: selecting tasks by name and family
"""
