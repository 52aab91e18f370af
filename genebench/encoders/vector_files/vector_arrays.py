"""Reads vectors from files of named arrays: npz of numpy and h5ad of AnnData."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from genebench.encoders.declaration import suggest_nearest
from genebench.encoders.vector_files.vector_format import (
    NamedVectors,
    PrecomputedArguments,
    check_row_count,
)
from genebench.errors import EncoderError

if TYPE_CHECKING:
    import h5py


def read_npz(path: Path, arguments: PrecomputedArguments) -> NamedVectors:
    """Read a npz file with an array of names and a matrix."""
    with np.load(path, allow_pickle=False) as arrays:
        names_key = arguments.key or _only_key(path, arrays, lambda a: a.ndim == 1, "names")
        matrix_key = arguments.vectors or _only_key(path, arrays, lambda a: a.ndim == 2, "vectors")
        for key in (names_key, matrix_key):
            if key not in arrays:
                hint = suggest_nearest(key, arrays) or "; correct `with.key` or `with.vectors`"
                raise EncoderError(f"{path}: has no array {key!r}{hint}")
        return check_row_count(path, [str(n) for n in arrays[names_key]], arrays[matrix_key])


def _only_key(
    path: Path,
    arrays: Mapping[str, npt.NDArray[np.generic]],
    fits: Callable[[npt.NDArray[np.generic]], bool],
    content: str,
) -> str:
    # A member of a zip that is no array is read as bytes.
    found = [key for key in arrays if isinstance(arrays[key], np.ndarray) and fits(arrays[key])]
    if len(found) != 1:
        raise EncoderError(
            f"{path}: cannot tell which array contains the {content} "
            f"({', '.join(arrays) or 'none'}); declare `with.key` and `with.vectors`"
        )
    return found[0]


def read_h5ad(path: Path, arguments: PrecomputedArguments) -> NamedVectors:
    """Read an array of `varm` or `obsm`, or the matrix `X`, of a h5ad file."""
    try:
        import h5py
    except ImportError as error:
        raise EncoderError(
            f"{path}: reading h5ad needs the package h5py: pip install 'genebench-lakehouse[h5ad]'"
        ) from error
    array = arguments.vectors or ""
    axis = {"varm": "var", "obsm": "obs", "X": "obs"}.get(array.split("/")[0])
    if axis is None:
        raise EncoderError(
            f"{path}: declare `with: {{vectors: varm/<name>}}` or `with: {{vectors: obsm/<name>}}`"
        )
    with h5py.File(path, "r") as file:
        if array not in file:
            present = ", ".join(f"{array.split('/')[0]}/{k}" for k in file.get(axis + "m", {}))
            raise EncoderError(
                f"{path}: has no {array!r}; there are {present or 'none'}; correct `with.vectors`"
            )
        table = file[axis]
        key = arguments.key or table.attrs.get("_index", "_index")
        if key not in table:
            raise EncoderError(f"{path}: {axis} has no column {key!r}; correct `with.key`")
        column = table[key]
        if isinstance(column, h5py.Group):
            categories = _h5_names(column["categories"])
            # The code of a missing name is -1; the empty name maps to no entity.
            names = [categories[code] if code >= 0 else "" for code in column["codes"][:]]
        else:
            names = _h5_names(column)
        return check_row_count(path, names, file[array][:])


def _h5_names(column: "h5py.Dataset") -> list[str]:
    is_text = column.dtype.kind in "OS"
    return [str(name) for name in (column.asstr() if is_text else column)[:]]
