"""Stores held-out predictions compactly: ranks in few levels, or half-precision numbers.

ROC AUC depends on the order of the predictions only. Their ranks within a fold and a column are
rounded to 16 levels (256 in a small fold), and each bit of the levels is stored as a plane of bits.
Rows within one level count as ties; `docs/method.md` states the measured error. Regressions keep
numbers.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from genebench.errors import GenebenchError
from genebench.evaluation.ranks import mean_ranks
from genebench.probes.declaration import Kind

# Bits of a level: more in a small fold, where they cost little and few rows share a level.
BITS, SMALL_FOLD_BITS, SMALL_FOLD_ROWS = 4, 8, 2_000

Floats = npt.NDArray[np.float64]


def encode_fold(kind: Kind, scores: Floats) -> bytes:
    """Encode the predictions of one fold.

    Args:
        kind: Kind of the task.
        scores: (n, columns), as `FoldOutput.scores`.
    """
    if kind == "regression":
        return scores.astype(np.float16).tobytes()
    if kind == "multiclass":
        # The probability of a class orders rows otherwise than its logit.
        shifted = scores - scores.max(axis=1, keepdims=True)
        scores = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    # Predictions from one number order all columns alike or reversed; then they compress well.
    is_reversed = scores[0] > np.median(scores, axis=0)
    ranks = np.apply_along_axis(mean_ranks, 0, np.where(is_reversed, -scores, scores))
    n_bits = level_bits(len(scores))
    levels = ((ranks - 0.5) / len(scores) * (1 << n_bits)).astype(np.uint8)
    planes = [np.packbits((levels >> bit) & 1, axis=0).T.tobytes() for bit in range(n_bits)]
    return np.packbits(is_reversed).tobytes() + b"".join(planes)


def encoded_size(kind: Kind, n_rows: int, n_columns: int) -> int:
    """Number of bytes that `encode_fold` returns."""
    if kind == "regression":
        return 2 * n_rows * n_columns
    return _n_bytes(n_columns) + level_bits(n_rows) * n_columns * _n_bytes(n_rows)


def level_bits(n_rows: int) -> int:
    """Number of bits of a level in a fold of some rows."""
    return SMALL_FOLD_BITS if n_rows < SMALL_FOLD_ROWS else BITS


def _n_bytes(n_bits: int) -> int:
    return (n_bits + 7) // 8


def decode_fold(kind: Kind, content: bytes, n_rows: int, n_columns: int) -> npt.NDArray[Any]:
    """Decode the predictions of one fold.

    Returns:
        (n_rows, n_columns): float64 numbers if regression, else uint8 levels.

    Raises:
        GenebenchError: The content has another length.
    """
    if len(content) != encoded_size(kind, n_rows, n_columns):
        raise GenebenchError(
            f"the predictions of a fold take {len(content)} bytes, not "
            f"{encoded_size(kind, n_rows, n_columns)}: the bundle is damaged or of other folds"
        )
    if kind == "regression":
        numbers = np.frombuffer(content, np.float16).astype(np.float64)
        return numbers.reshape(n_rows, n_columns)
    start = _n_bytes(n_columns)
    is_reversed = np.unpackbits(np.frombuffer(content[:start], np.uint8), count=n_columns) > 0
    planes = np.frombuffer(content[start:], np.uint8)
    n_bits = level_bits(n_rows)
    planes = planes.reshape(n_bits, n_columns, _n_bytes(n_rows))
    levels = np.zeros((n_rows, n_columns), np.uint8)
    for bit, plane in enumerate(planes):
        levels |= np.unpackbits(plane.T, axis=0, count=n_rows) << bit
    last = (1 << n_bits) - 1
    return np.where(is_reversed, last - levels, levels)
