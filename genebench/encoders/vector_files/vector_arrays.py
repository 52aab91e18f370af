"""Reads vectors from files of named arrays: npz of numpy and h5ad of AnnData."""

import mmap
import struct
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

# gzip packs at most a thousand bytes into one.
MAX_PACKING = 1100
# The start of a heap of texts in HDF5, the size of that start, and the header of a text.
HEAP = b"GCOL\x01\0\0\0"
N_HEAP_BYTES = 16
TEXT_HEADER = struct.Struct("<H6xQ")
# How an array of texts stores each of them.
TEXT = np.dtype([("n_bytes", "<u4"), ("heap", "<u8"), ("index", "<u4")])


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
    if _has_endless_heap(path):
        raise EncoderError(f"{path}: a heap of texts in it is damaged; download the file again")
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
            categories = _h5_names(path, column["categories"])
            codes = _held(path, column["codes"])[:]
            # The code of a missing name is -1; the empty name maps to no entity.
            names = [categories[code] if code >= 0 else "" for code in codes]
        else:
            names = _h5_names(path, column)
        return check_row_count(path, names, _held(path, file[array])[:])


def _has_endless_heap(path: Path) -> bool:
    """Whether free space in a heap has no size: HDF5 would look for its end forever."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        start = content.find(HEAP)
        while start >= 0:
            size = int.from_bytes(content[start + len(HEAP) : start + N_HEAP_BYTES], "little")
            position, end = start + N_HEAP_BYTES, min(start + size, len(content))
            while position + TEXT_HEADER.size <= end:
                index, n_bytes = TEXT_HEADER.unpack_from(content, position)
                # Free space has the index 0, and its size counts its header.
                if not index and not n_bytes:
                    return True
                position += TEXT_HEADER.size + -(-n_bytes // 8) * 8 if index else n_bytes
            start = content.find(HEAP, start + len(HEAP))
    return False


def _h5_names(path: Path, column: "h5py.Dataset") -> list[str]:
    is_text = column.dtype.kind in "OS"
    column = _held(path, column)
    _check_lengths(path, column)
    return [str(name) for name in (column.asstr() if is_text else column)[:]]


def _check_lengths(path: Path, column: "h5py.Dataset") -> None:
    """Refuse a text that is longer than the file: HDF5 would allocate it first.

    The lengths of arrays that are compressed are not read.
    """
    if column.dtype.kind != "O" or column.id.get_create_plist().get_nfilters():
        return
    if column.chunks is None:
        parts = [(column.id.get_offset(), column.id.get_storage_size())]
    else:
        chunks = [column.id.get_chunk_info(n) for n in range(column.id.get_num_chunks())]
        parts = [(chunk.byte_offset, chunk.size) for chunk in chunks]
    with path.open("rb") as file:
        for start, n_bytes in parts:
            file.seek(start or 0)
            content = file.read(n_bytes)
            lengths = np.frombuffer(content, TEXT, len(content) // TEXT.itemsize)["n_bytes"]
            if lengths.max(initial=0) > path.stat().st_size:
                raise EncoderError(
                    f"{path}: {column.name} has a text of {lengths.max():,} bytes, more than the "
                    "file; it is damaged, download it again"
                )


def _held(path: Path, array: "h5py.Dataset") -> "h5py.Dataset":
    """Return an array whose values are in the file.

    HDF5 makes up values that are missing, and reads other files that links and arrays name.
    """
    if array.file.filename != str(path) or array.external or array.is_virtual:
        raise EncoderError(
            f"{path}: {array.name} is stored in another file; write one that holds it itself"
        )
    n_stored = array.id.get_storage_size()
    if array.nbytes > MAX_PACKING * n_stored:
        raise EncoderError(
            f"{path}: {array.name} declares {array.nbytes:,} bytes, of which the file stores "
            f"{n_stored:,}; it is damaged, download it again"
        )
    return array
