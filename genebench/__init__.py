"""The domain of genebench: sources, tasks, encoders, probes, metrics and digests.

Pure Python on frames and matrices, without Prefect, Delta or Great Expectations; importing it
loads no model library. Rooms in the order in which data passes them:

- `registry`: loads all declarations.
- `sources`: declarations of source files, and their readers.
- `entities`: the catalogue of genes and diseases, identifier resolution, encoder inputs.
- `tasks`: declarations of tasks, and the recipes that build samples and labels.
- `encoders`: declarations of encoders, and the loaders that compute vectors.
- `protocols`, `probes`: how vectors are scored, and the models that are fitted to them.
- `evaluation`: problems, folds, metrics and statistics.
- `reference`: compares new vectors with the encoders whose scores ship with the package.

Modules used by all rooms: `errors`, `settings`, `digest` (content digests), `cancellation` (polling
for termination), `matmul` (library of float32 products) and `map` (prints the module map).
"""

import os
from importlib import import_module
from typing import Any

# Read by OpenMP when torch is loaded. Threads that wait in a loop for a shared product take the
# cores from the work that it waits for, as soon as another process is busy.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_PUBLIC = {
    "evaluate": "genebench.reference.evaluate_vectors",
    "load_registry": "genebench.registry.loading",
    "METRICS": "genebench.evaluation.metrics",
    "GenebenchError": "genebench.errors",
}

__all__ = ["METRICS", "GenebenchError", "evaluate", "load_registry"]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'genebench' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
