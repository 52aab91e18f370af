"""Held-out outputs of a task as rows, for curves, and for scores that nobody thought of yet."""

import numpy as np
import polars as pl

from genebench.probes.declaration import HeldOut, Problem

PREDICTIONS_SCHEMA = pl.Schema(
    {
        "sample": pl.Int64,
        "fold": pl.Int8,
        "label": pl.String,
        "score": pl.Float64,
        "truth": pl.Float64,
    }
)


def frame_predictions(problem: Problem, held_out: HeldOut) -> pl.DataFrame:
    """One row a held-out sample, fold and label: `PREDICTIONS_SCHEMA`."""
    frames = []
    for fold, output in enumerate(held_out.folds):
        truth = problem.targets[output.rows]
        for column in np.flatnonzero(output.fitted):
            match problem.kind:
                case "multilabel":
                    own = truth[:, column]
                case "multiclass":
                    own = truth == column
                case _:
                    own = truth
            frames.append(
                pl.DataFrame(
                    {
                        "sample": output.rows,
                        "fold": np.full(len(output.rows), fold, dtype=np.int8),
                        "label": [problem.labels[column]] * len(output.rows),
                        "score": output.scores[:, column],
                        "truth": own.astype(np.float64),
                    },
                    schema=PREDICTIONS_SCHEMA,
                )
            )
    return pl.concat(frames) if frames else PREDICTIONS_SCHEMA.to_frame()
