"""Readers of files of vectors: each gives names and a matrix.

Every column of identifiers is read as text: a gene called NA stays a gene.
"""

import io
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.declaration import describe_near
from genebench.errors import EncoderError

if TYPE_CHECKING:
    import h5py

from typing import Annotated, Literal

from pydantic import Field

from genebench.encoders.declaration import Arguments
from genebench.encoders.loaders.identifier_mapping import Namespace

Format = Literal[
    "csv",
    "tsv",
    "parquet",
    "npz",
    "h5ad",
    "word2vec",
    "word2vec_binary",
    "dataset",
    "json",
    "pickle",
]


class PrecomputedArguments(Arguments):
    """Arguments of `precomputed`.

    Args:
        namespace: What the identifiers are.
        format: None reads it from the file's name.
        key: Column with the identifiers (by default the first); in a npz file, the array of
            names; in a h5ad file, a column of `var` or `obs` (by default their index).
        vectors: Column that holds whole vectors (parquet, data set), or the array of a npz or
            h5ad file (`varm/<name>`, `obsm/<name>`); None takes every numeric column.
        skip: Columns that are neither identifiers nor numbers of the vector.
        has_header: Whether a CSV or TSV file begins with the names of its columns.
        incomplete: What to do with a row that lacks a number: refuse the file, or drop the row
            and count it.
        transform: Of each number: `log1p` is log(1 + x), for raw expression values.
    """

    namespace: Namespace = "symbol"
    format: Format | None = None
    key: str | None = None
    vectors: str | None = None
    skip: Annotated[tuple[str, ...], Field()] = ()
    has_header: bool = True
    incomplete: Literal["refuse", "drop"] = "refuse"
    transform: Literal["none", "log1p"] = "none"


Table = tuple[list[str], npt.NDArray[np.float32]]
SUFFIX_FORMATS = {
    ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".npz": "npz", ".h5ad": "h5ad",
    ".vec": "word2vec", ".w2v": "word2vec", ".txt": "word2vec", ".bin": "word2vec_binary",
    ".json": "json", ".pickle": "pickle", ".pkl": "pickle",
}  # fmt: skip


def read_vector_file(path: Path, arguments: PrecomputedArguments) -> Table:
    """Read a file of vectors.

    Returns:
        n names in the file's order, repeats kept, and an (n, d) matrix.

    Raises:
        EncoderError: The format is unknown, or the file is unreadable or not as declared.
    """
    name = arguments.format or _format_of(path)
    try:
        if name in _PLAIN_READERS:
            return _PLAIN_READERS[name](path)
        return _READERS[name](path, arguments)
    except EncoderError:
        raise
    except (
        OSError,
        ValueError,
        TypeError,
        LookupError,
        pl.exceptions.PolarsError,
        zipfile.BadZipFile,
    ) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise EncoderError(f"{path}: cannot be read as {name}: {reason}") from error


def _format_of(path: Path) -> str:
    if path.is_dir():
        return "dataset"
    suffixes = [s for s in path.suffixes if s not in (".gz", ".zst")]
    found = SUFFIX_FORMATS.get(suffixes[-1]) if suffixes else None
    if found is None:
        raise EncoderError(f"{path}: unknown format; declare `with: {{format: ...}}`")
    return found


def _read_delimited(path: Path, arguments: PrecomputedArguments) -> Table:
    separator = "," if (arguments.format or _format_of(path)) == "csv" else "\t"
    columns = pl.read_csv(
        path, separator=separator, has_header=arguments.has_header, n_rows=1, infer_schema=False
    ).columns
    text = {arguments.key or columns[0], arguments.vectors, *arguments.skip}
    frame = pl.read_csv(
        path,
        separator=separator,
        has_header=arguments.has_header,
        schema_overrides={c: pl.String if c in text else pl.Float32 for c in columns},
    )
    return _from_frame(path, frame, arguments)


def _read_parquet(path: Path, arguments: PrecomputedArguments) -> Table:
    return _from_frame(path, pl.read_parquet(path), arguments)


def _read_dataset(path: Path, arguments: PrecomputedArguments) -> Table:
    """A data set folder of Hugging Face: parquet shards, or what `save_to_disk` writes."""
    shards = sorted(path.rglob("*.parquet"))
    arrows = sorted(path.rglob("*.arrow"))
    if shards:
        frame = pl.concat([pl.read_parquet(shard) for shard in shards])
    elif arrows:
        frame = pl.concat([_read_arrow(arrow) for arrow in arrows])
    else:
        raise EncoderError(f"{path}: holds no parquet and no arrow file; is it a data set folder?")
    return _from_frame(path, frame, arguments)


def _read_arrow(path: Path) -> pl.DataFrame:
    content = path.read_bytes()
    if content[:6] == b"ARROW1":
        return pl.read_ipc(io.BytesIO(content))
    return pl.read_ipc_stream(io.BytesIO(content))


def _from_frame(path: Path, frame: pl.DataFrame, arguments: PrecomputedArguments) -> Table:
    key = _column(path, frame, arguments.key) if arguments.key else frame.columns[0]
    names = frame[key].cast(pl.String).fill_null("").to_list()
    if arguments.vectors is not None:
        column = frame[_column(path, frame, arguments.vectors)]
        return names, _stack(path, column)
    columns = [c for c in frame.columns if c not in {key, *arguments.skip}]
    numbers = frame.select(pl.col(columns).cast(pl.Float32, strict=False))
    lists = [c for c in columns if frame[c].dtype.is_nested()]
    if lists:
        raise EncoderError(f"{path}: column {lists[0]!r} holds whole vectors; declare `vectors`")
    for name in columns:
        lost = numbers[name].null_count()
        if lost == frame.height and lost:
            raise EncoderError(f"{path}: column {name!r} holds no numbers; declare it in `skip`")
    # What is missing becomes a NaN here, which the loader refuses or drops by its declaration.
    return names, np.ascontiguousarray(numbers.to_numpy(), dtype=np.float32)


def _column(path: Path, frame: pl.DataFrame, name: str) -> str:
    if name not in frame.columns:
        raise EncoderError(f"{path}: has no column {name!r}{describe_near(name, frame.columns)}")
    return name


def _stack(path: Path, column: pl.Series) -> npt.NDArray[np.float32]:
    if column.dtype == pl.String:
        column = column.str.json_decode(pl.List(pl.Float64))
    if isinstance(column.dtype, pl.Array):
        column = column.arr.to_list()
    if column.dtype.base_type() != pl.List:
        raise EncoderError(f"{path}: column {column.name!r} holds no vectors")
    widths = column.list.len().unique()
    if column.null_count() or len(widths) != 1:
        raise EncoderError(
            f"{path}: the vectors of column {column.name!r} have different widths "
            f"({', '.join(str(w) for w in widths.sort().to_list()[:4])})"
        )
    flat = column.explode().cast(pl.Float32).to_numpy()
    return np.ascontiguousarray(flat.reshape(len(column), -1), dtype=np.float32)


def _read_npz(path: Path, arguments: PrecomputedArguments) -> Table:
    with np.load(path, allow_pickle=False) as arrays:
        names_key = arguments.key or _only(path, arrays, lambda a: a.ndim == 1, "names")
        matrix_key = arguments.vectors or _only(path, arrays, lambda a: a.ndim == 2, "vectors")
        for key in (names_key, matrix_key):
            if key not in arrays:
                raise EncoderError(f"{path}: has no array {key!r}{describe_near(key, arrays)}")
        return _paired(path, [str(n) for n in arrays[names_key]], arrays[matrix_key])


def _only(
    path: Path,
    arrays: Mapping[str, npt.NDArray[np.generic]],
    fits: Callable[[npt.NDArray[np.generic]], bool],
    what: str,
) -> str:
    found = [key for key in arrays if fits(arrays[key])]
    if len(found) != 1:
        raise EncoderError(
            f"{path}: cannot tell which array holds the {what} ({', '.join(arrays) or 'none'}); "
            "declare `key` and `vectors`"
        )
    return found[0]


def _paired(path: Path, names: list[str], matrix: npt.ArrayLike) -> Table:
    numbers = np.ascontiguousarray(matrix, dtype=np.float32)
    if numbers.ndim != 2 or len(numbers) != len(names):
        raise EncoderError(f"{path}: vectors of shape {numbers.shape} for {len(names)} names")
    return names, numbers


def _read_h5ad(path: Path, arguments: PrecomputedArguments) -> Table:
    try:
        import h5py
    except ImportError as error:
        raise EncoderError(
            f"{path}: reading h5ad needs the package h5py: pip install 'genebench[h5ad]'"
        ) from error
    array = arguments.vectors or ""
    axis = {"varm": "var", "obsm": "obs"}.get(array.split("/")[0])
    if axis is None:
        raise EncoderError(f"{path}: declare `vectors: varm/<name>` or `vectors: obsm/<name>`")
    with h5py.File(path, "r") as file:
        if array not in file:
            present = ", ".join(f"{array.split('/')[0]}/{k}" for k in file.get(axis + "m", {}))
            raise EncoderError(f"{path}: has no {array!r}; there are {present or 'none'}")
        table = file[axis]
        key = arguments.key or table.attrs.get("_index", "_index")
        if key not in table:
            raise EncoderError(f"{path}: {axis} has no column {key!r}")
        column = table[key]
        if isinstance(column, h5py.Group):
            categories = _h5_names(column["categories"])
            # A name that is missing has code -1, and maps to no entity.
            names = [categories[code] if code >= 0 else "" for code in column["codes"][:]]
        else:
            names = _h5_names(column)
        return _paired(path, names, file[array][:])


def _h5_names(column: "h5py.Dataset") -> list[str]:
    is_text = column.dtype.kind in "OS"
    return [str(name) for name in (column.asstr() if is_text else column)[:]]


def _read_word2vec(path: Path) -> Table:
    """Text: an optional first line with count and width, then a name and its numbers a line."""
    names: list[str] = []
    rows: list[npt.NDArray[np.float32]] = []
    declared: tuple[int, int] | None = None
    with path.open(encoding="utf-8", newline="\n") as file:
        for number, line in enumerate(file, start=1):
            parts = line.split()
            if number == 1 and len(parts) == 2 and all(p.isdigit() for p in parts):
                declared = int(parts[0]), int(parts[1])
            elif parts:
                names.append(parts[0])
                try:
                    rows.append(np.array(parts[1:], dtype=np.float32))
                except ValueError:
                    raise EncoderError(f"{path}: line {number} holds no vector") from None
                if rows[-1].shape != rows[0].shape:
                    raise EncoderError(
                        f"{path}: line {number} has {rows[-1].size} numbers, not {rows[0].size}; "
                        "the file is truncated or damaged"
                    )
    found = (len(rows), rows[0].size if rows else 0)
    # Gene2vec's published header counts one vector less than the file has.
    if declared and (found[0] < declared[0] or found[1] != declared[1]):
        raise EncoderError(
            f"{path}: the first line promises {declared[0]} vectors of {declared[1]} numbers, "
            f"there are {found[0]} of {found[1]}; fetch the file again"
        )
    return _paired(path, names, np.stack(rows) if rows else np.zeros((0, 0)))


def _read_word2vec_binary(path: Path) -> Table:
    content = path.read_bytes()
    header, _, rest = content.partition(b"\n")
    sizes = header.split()
    if len(sizes) != 2 or not all(s.isdigit() for s in sizes):
        raise EncoderError(f"{path}: does not begin with the count and width of its vectors")
    count, width = map(int, sizes)
    if len(rest) < count * 4 * width:
        raise EncoderError(f"{path}: is truncated; fetch it again")
    names, matrix, position = [], np.empty((count, width), np.float32), 0
    for row in range(count):
        space = rest.find(b" ", position)
        end = space + 1 + 4 * width
        if space < 0 or end > len(rest):
            raise EncoderError(f"{path}: is truncated at vector {row + 1} of {count}")
        names.append(rest[position:space].decode("utf-8").lstrip("\n"))
        matrix[row] = np.frombuffer(rest, "<f4", width, space + 1)
        position = end
    return names, matrix


def _read_json(path: Path) -> Table:
    """An object of name to vector."""
    from genebench.encoders.weights.checkpoints import read_json

    return _from_mapping(path, read_json(path))


def _read_pickle(path: Path) -> Table:
    """A dictionary of name to a list of numbers; nothing of the file is executed."""
    from genebench.encoders.weights.checkpoints import read_pickle

    return _from_mapping(path, read_pickle(path))


def _from_mapping(path: Path, data: object) -> Table:
    if not isinstance(data, dict):
        raise EncoderError(f"{path}: is no mapping of name to vector")
    widths = {len(v) if isinstance(v, list) else -1 for v in data.values()}
    if len(widths) > 1 or -1 in widths:
        raise EncoderError(f"{path}: the vectors have different widths")
    return _paired(path, [str(name) for name in data], list(data.values()))


_READERS: Mapping[str, Callable[[Path, PrecomputedArguments], Table]] = {
    "csv": _read_delimited,
    "tsv": _read_delimited,
    "parquet": _read_parquet,
    "dataset": _read_dataset,
    "npz": _read_npz,
    "h5ad": _read_h5ad,
}
_PLAIN_READERS: Mapping[str, Callable[[Path], Table]] = {
    "word2vec": _read_word2vec,
    "word2vec_binary": _read_word2vec_binary,
    "json": _read_json,
    "pickle": _read_pickle,
}
