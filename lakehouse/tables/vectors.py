"""Converts vectors between a numpy matrix and a polars list column."""

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import LakeError


def to_matrix(vectors: pl.Series) -> npt.NDArray[np.float32]:
    """Convert a column of vectors to a matrix, without a copy where the memory layout allows it.

    Args:
        vectors: n vectors of one dimension d; `List` or `Array` of floats, no nulls.

    Returns:
        (n, d) float32, C-contiguous, read-only where it shares the column's memory; (0, 0) for
        an empty list column, whose dimension is unknown.

    Raises:
        LakeError: A vector is missing, contains a null, or has another dimension than the others.

    >>> to_matrix(pl.Series([[1.0, 2.0], [3.0, 4.0]])).shape
    (2, 2)
    """
    if isinstance(vectors.dtype, pl.Array):
        vectors = vectors.arr.to_list()
    if not isinstance(vectors.dtype, pl.List) or not vectors.dtype.inner.is_float():
        raise LakeError(f"column {vectors.name!r} is {vectors.dtype}, not vectors of floats")
    if vectors.null_count():
        raise LakeError(f"{vectors.null_count()} of {len(vectors)} vectors are missing")
    dimensions = vectors.list.len().unique()
    if len(dimensions) > 1:
        raise LakeError(
            f"the vectors have different dimensions: {sorted(dimensions)[:5]}; "
            "read one encoder at a time"
        )
    n_columns = int(dimensions[0]) if len(dimensions) else 0
    numbers = vectors.explode(empty_as_null=False)
    if numbers.null_count():
        raise LakeError(f"{numbers.null_count()} numbers inside the vectors are null")
    matrix = numbers.cast(pl.Float32).to_numpy().reshape(len(vectors), n_columns)
    return np.ascontiguousarray(matrix)


def to_vectors(matrix: npt.NDArray[np.floating], name: str = "vector") -> pl.Series:
    """Convert the rows of a matrix to a `List(Float32)` column, the type that Delta stores.

    Args:
        matrix: (n, d), any float type; stored as float32.
        name: Name of the column.

    Raises:
        LakeError: The matrix does not have two dimensions.
    """
    if matrix.ndim != 2:
        raise LakeError(f"expected a matrix of shape (n, d), not {matrix.shape}")
    rows = np.ascontiguousarray(matrix, dtype=np.float32)
    if not rows.size:
        return pl.Series(name, [[]] * len(rows), dtype=pl.List(pl.Float32))
    return pl.Series(name, rows).arr.to_list()
