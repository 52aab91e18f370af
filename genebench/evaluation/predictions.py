"""Held-out predictions as a table, for ROC and calibration curves and further metrics."""

import numpy as np
import polars as pl

from genebench.probes.declaration import NOT_SCORED, HeldOut, Problem

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
    """Tabulate predictions, one row per held-out sample, fold and label: `PREDICTIONS_SCHEMA`.

    Cells that are not scored (`Problem.later`) have no row.
    """
    frames = []
    for fold, output in enumerate(held_out.folds):
        truth = problem.truth(output.rows)
        for column in np.flatnonzero(output.fitted):
            match problem.kind:
                case "multilabel":
                    label_truth = truth[:, column]
                case "multiclass":
                    label_truth = truth == column
                case _:
                    label_truth = truth
            use = slice(None) if problem.later is None else label_truth != NOT_SCORED
            rows = output.rows[use]
            frames.append(
                pl.DataFrame(
                    {
                        "sample": rows,
                        "fold": np.full(len(rows), fold, dtype=np.int8),
                        "label": [problem.labels[column]] * len(rows),
                        "score": output.scores[use, column],
                        "truth": label_truth[use].astype(np.float64),
                    },
                    schema=PREDICTIONS_SCHEMA,
                )
            )
    return pl.concat(frames) if frames else PREDICTIONS_SCHEMA.to_frame()
