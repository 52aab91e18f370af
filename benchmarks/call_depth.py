"""Prints the files of the linear engine that one binary problem passes through.

Usage: python -m benchmarks.call_depth
"""

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from genebench.probes import linear

FOLDER = Path(linear.__file__).parent


def trace_files() -> list[str]:
    """Names of the engine's files whose functions run in `fit_columns` on one binary target."""
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(4000, 16)).astype(np.float32)
    target = vectors[:, 0] + rng.logistic(size=4000) > 0
    split = np.where(np.arange(4000)[:, None] % 5 == np.arange(5), 2, 1)
    files: dict[str, None] = {}

    def trace(frame: FrameType, event: str, _argument: Any) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parent == FOLDER:
            files.setdefault(path.name)

    sys.setprofile(trace)
    try:
        linear.fit_columns(vectors, target, split, threads=1)
    finally:
        sys.setprofile(None)
    return list(files)


if __name__ == "__main__":
    names = trace_files()
    print(f"{len(names)} files: {', '.join(names)}")
