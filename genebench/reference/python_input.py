"""Converts numpy, torch, polars, pandas and AnnData objects to names and a matrix."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.errors import GenebenchError


def to_names_and_matrix(
    data: Any, ids: Sequence[str] | str | None, array: str | None = None
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Convert an object to identifiers and a matrix, without importing its library.

    Args:
        data: A numpy array or torch tensor (rows, d); a polars or pandas frame with numeric
            columns; an AnnData object whose `obs` are genes, or whose `varm` holds vectors.
        ids: (rows,) identifiers; or the name of a column with them. Default: the first column of a
            polars frame, the index of a pandas frame, the names of an AnnData object.
        array: Array of an AnnData object: `X`, `obsm/<name>` or `varm/<name>`. Default: `X`.

    Raises:
        GenebenchError: The identifiers are missing, or the object has another type.
    """
    if isinstance(data, pl.DataFrame):
        return _from_polars(data, ids)
    if hasattr(data, "obs_names") and hasattr(data, "obsm"):
        return _from_anndata(data, ids, array or "X")
    if hasattr(data, "columns") and hasattr(data, "to_numpy"):
        return _from_pandas(data, ids)
    if hasattr(data, "detach"):
        data = data.detach().to("cpu").float().numpy()
    if ids is None or isinstance(ids, str):
        raise GenebenchError(
            "an array has no names: pass `ids`, one identifier for each row, such as gene symbols"
        )
    try:
        matrix = np.ascontiguousarray(data, dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise GenebenchError(
            f"{type(data).__name__} cannot be read as a matrix: {error}; pass a numpy array, a "
            "torch tensor, a polars or pandas frame, or an AnnData object"
        ) from error
    return [str(name) for name in ids], matrix


def _from_polars(
    data: pl.DataFrame, ids: Sequence[str] | str | None
) -> tuple[list[str], npt.NDArray[np.float32]]:
    key = data.columns[0] if ids is None else ids
    if not isinstance(key, str):
        return [str(name) for name in key], data.cast(pl.Float32).to_numpy()
    if key not in data.columns:
        raise GenebenchError(f"the frame has no column {key!r}; it has {', '.join(data.columns)}")
    names = data[key].cast(pl.String).fill_null("").to_list()
    rest = data.drop(key)
    if rest.width == 1 and rest.dtypes[0].is_nested():
        lists = rest.to_series()
        return names, np.asarray(lists.to_list(), dtype=np.float32)
    text = [name for name, dtype in rest.schema.items() if not dtype.is_numeric()]
    if text:
        raise GenebenchError(f"column {text[0]!r} holds no numbers; drop it from the frame")
    return names, rest.cast(pl.Float32).to_numpy()


def _from_pandas(
    data: Any, ids: Sequence[str] | str | None
) -> tuple[list[str], npt.NDArray[np.float32]]:
    if isinstance(ids, str):
        if ids not in data.columns:
            raise GenebenchError(f"the frame has no column {ids!r}")
        names, data = data[ids], data.drop(columns=[ids])
    else:
        names = data.index if ids is None else ids
    try:
        return [str(name) for name in names], data.to_numpy(dtype=np.float32)
    except (TypeError, ValueError) as error:
        raise GenebenchError(f"a column of the frame holds no numbers: {error}") from error


def _from_anndata(
    data: Any, ids: Sequence[str] | str | None, array: str
) -> tuple[list[str], npt.NDArray[np.float32]]:
    kind, _, name = array.partition("/")
    axis = "var" if kind == "varm" else "obs"
    try:
        values = data.X if kind == "X" else getattr(data, kind)[name]
    except (AttributeError, KeyError) as error:
        raise GenebenchError(f"the AnnData object has no array {array!r}") from error
    values = values.toarray() if hasattr(values, "toarray") else values
    table = getattr(data, axis)
    if isinstance(ids, str):
        if ids not in table.columns:
            raise GenebenchError(f"{axis} of the AnnData object has no column {ids!r}")
        names: Any = table[ids]
    else:
        names = getattr(data, f"{axis}_names") if ids is None else ids
    return [str(one) for one in names], np.ascontiguousarray(values, dtype=np.float32)
