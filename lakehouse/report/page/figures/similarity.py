"""Correlates encoders over tasks, or tasks over encoders, and orders them by clustering."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.evaluation.ranks import mean_ranks

Floats = npt.NDArray[np.float64]

MIN_SHARED = 3


@dataclass(frozen=True)
class Similarity:
    """A correlation matrix in the order of a dendrogram.

    Attributes:
        names: Rows and columns, in the order of the dendrogram's leaves.
        correlation: (n, n) Spearman correlations.
        links: The links of the dendrogram, each as four corners (x, height); leaf number i is at
            x = i + 0.5, heights are distances (1 minus correlation).
    """

    names: list[str]
    correlation: Floats
    links: list[list[tuple[float, float]]]


def correlate_columns(means: pl.DataFrame, columns: str, rows: str) -> Similarity | None:
    """Correlate columns over the rows that all of them have.

    Args:
        means: The columns named by `columns` and `rows`, and `mean`; one row per pair.
        columns: The column whose values are compared, such as `encoder_id`.
        rows: The column that they are compared over, such as `task_id`.

    Returns:
        Spearman correlations, ordered by average linkage (as the published figures S10 and S11);
        None if fewer than two columns have three rows in common.
    """
    from scipy.cluster.hierarchy import dendrogram, linkage

    wide = means.pivot(on=columns, index=rows, values="mean").drop(rows)
    wide = wide.select([name for name in wide.columns if wide[name].null_count() == 0] or [])
    if wide.width < 2:
        wide = means.pivot(on=columns, index=rows, values="mean").drop_nulls().drop(rows)
    if wide.width < 2 or wide.height < MIN_SHARED:
        return None
    correlation = _spearman(wide.to_numpy().astype(np.float64))
    n = len(correlation)
    distances = np.clip(1 - correlation[np.triu_indices(n, 1)], 0, 2)
    tree = dendrogram(linkage(distances, "average"), no_plot=True)
    order = [int(leaf) for leaf in tree["leaves"]]
    # scipy draws leaf number i at x = 10 i + 5.
    links = [
        [(x / 10, height) for x, height in zip(xs, heights, strict=True)]
        for xs, heights in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    names = [wide.columns[leaf] for leaf in order]
    return Similarity(names, correlation[np.ix_(order, order)], links)


def _spearman(values: Floats) -> Floats:
    """Return the (n, n) rank correlations of the columns; 0 for a constant column."""
    ranks = np.column_stack([mean_ranks(column) for column in values.T])
    centred = ranks - ranks.mean(axis=0)
    sizes = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, sizes, out=np.zeros_like(centred), where=sizes > 0)
    correlation: Floats = np.clip(scaled.T @ scaled, -1, 1)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def pearson_correlation(first: Floats, second: Floats) -> float | None:
    """Return Pearson's correlation of two (n,) samples; None if it is not defined."""
    if len(first) < MIN_SHARED or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])
