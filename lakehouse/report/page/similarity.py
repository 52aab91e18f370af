"""How alike encoders are in what they find easy, and tasks in who finds them easy."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.evaluation.ranks import mean_ranks

Floats = npt.NDArray[np.float64]

MIN_SHARED = 3


@dataclass(frozen=True)
class Similarity:
    """A correlation matrix in the order of its tree.

    Attributes:
        names: Rows and columns, in the order of the tree's leaves.
        correlation: (n, n) Spearman correlations.
        links: The tree as brackets: (x, height) at four corners each; leaf number i stands at
            x = i + 0.5, heights are distances (1 minus correlation).
    """

    names: list[str]
    correlation: Floats
    links: list[list[tuple[float, float]]]


def compare_columns(means: pl.DataFrame, columns: str, rows: str) -> Similarity | None:
    """Correlate columns over the rows that all of them have.

    Args:
        means: Columns `columns`, `rows` and `mean`; one row a pair.
        columns: The column whose values are compared, such as `encoder_id`.
        rows: The column that they are compared over, such as `task_id`.

    Returns:
        Spearman correlations, ordered by average linkage (as the published figures S10 and S11);
        None where fewer than two have three rows in common.
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
    # scipy puts leaf number i at 10 i + 5.
    links = [
        [(x / 10, height) for x, height in zip(xs, heights, strict=True)]
        for xs, heights in zip(tree["icoord"], tree["dcoord"], strict=True)
    ]
    names = [wide.columns[leaf] for leaf in order]
    return Similarity(names, correlation[np.ix_(order, order)], links)


def _spearman(values: Floats) -> Floats:
    """(n, n) rank correlations of the columns; a constant column is like no other."""
    ranks = np.column_stack([mean_ranks(column) for column in values.T])
    centred = ranks - ranks.mean(axis=0)
    sizes = np.sqrt((centred**2).sum(axis=0))
    scaled = np.divide(centred, sizes, out=np.zeros_like(centred), where=sizes > 0)
    correlation: Floats = np.clip(scaled.T @ scaled, -1, 1)
    np.fill_diagonal(correlation, 1.0)
    return correlation


def correlate_pairs(first: Floats, second: Floats) -> float | None:
    """Pearson's correlation of two (n,) samples; None where it is not defined."""
    if len(first) < MIN_SHARED or np.ptp(first) == 0 or np.ptp(second) == 0:
        return None
    return float(np.corrcoef(first, second)[0, 1])
