"""Held-out predictions as a table, for ROC and calibration curves and further metrics."""

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
    """Tabulate predictions, one row per held-out sample, fold and label: `PREDICTIONS_SCHEMA`."""
    frames = []
    for fold, output in enumerate(held_out.folds):
        truth = problem.targets[output.rows]
        for column in np.flatnonzero(output.fitted):
            match problem.kind:
                case "multilabel":
                    label_truth = truth[:, column]
                case "multiclass":
                    label_truth = truth == column
                case _:
                    label_truth = truth
            frames.append(
                pl.DataFrame(
                    {
                        "sample": output.rows,
                        "fold": np.full(len(output.rows), fold, dtype=np.int8),
                        "label": [problem.labels[column]] * len(output.rows),
                        "score": output.scores[:, column],
                        "truth": label_truth.astype(np.float64),
                    },
                    schema=PREDICTIONS_SCHEMA,
                )
            )
    return pl.concat(frames) if frames else PREDICTIONS_SCHEMA.to_frame()
