"""The domain of genebench: sources, tasks, encoders, probes, metrics and digests.

Pure Python on frames and matrices; nothing here knows Prefect, Delta or Great Expectations, and
importing it loads no model library.
"""

from importlib import import_module
from typing import Any

_PUBLIC = {
    "load_registry": "genebench.registry.loading",
    "METRICS": "genebench.evaluation.metrics",
    "GenebenchError": "genebench.errors",
}

__all__ = ["METRICS", "GenebenchError", "load_registry"]


def __getattr__(name: str) -> Any:
    """Give the public names; each module is loaded when it is first asked for."""
    if name not in _PUBLIC:
        raise AttributeError(f"module 'genebench' has no attribute {name!r}")
    return getattr(import_module(_PUBLIC[name]), name)
