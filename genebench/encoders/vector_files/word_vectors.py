"""Reads vectors from mappings of name to vector: word2vec (text and binary), JSON and pickle."""

from pathlib import Path

import numpy as np
import numpy.typing as npt

from genebench.encoders.vector_files.vector_format import NamedVectors, check_row_count
from genebench.errors import EncoderError


def read_word2vec(path: Path) -> NamedVectors:
    """Read word2vec text: each line has a name and its numbers.

    The first line may contain the number and width of the vectors.
    """
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
                    raise EncoderError(
                        f"{path}: line {number} holds no vector; correct the file or `with.format`"
                    ) from None
                if rows[-1].shape != rows[0].shape:
                    raise EncoderError(
                        f"{path}: line {number} has {rows[-1].size} numbers, not {rows[0].size}; "
                        "the file is truncated or damaged, download it again"
                    )
    found = (len(rows), rows[0].size if rows else 0)
    # The published header of Gene2vec is one less than the number of its vectors.
    if declared and (found[0] < declared[0] or found[1] != declared[1]):
        raise EncoderError(
            f"{path}: the first line declares {declared[0]} vectors of width {declared[1]}, but "
            f"there are {found[0]} of width {found[1]}; download the file again"
        )
    return check_row_count(path, names, np.stack(rows) if rows else np.zeros((0, 0)))


def read_word2vec_binary(path: Path) -> NamedVectors:
    """Read the binary format of word2vec."""
    content = path.read_bytes()
    header, _, rest = content.partition(b"\n")
    sizes = header.split()
    if len(sizes) != 2 or not all(s.isdigit() for s in sizes):
        raise EncoderError(
            f"{path}: does not begin with the count and width of its vectors; correct `with.format`"
        )
    count, width = map(int, sizes)
    if len(rest) < count * 4 * width:
        raise EncoderError(f"{path}: is truncated; download it again")
    names, matrix, position = [], np.empty((count, width), np.float32), 0
    for row in range(count):
        space = rest.find(b" ", position)
        end = space + 1 + 4 * width
        if space < 0 or end > len(rest):
            raise EncoderError(
                f"{path}: is truncated at vector {row + 1} of {count}; download it again"
            )
        names.append(rest[position:space].decode("utf-8").lstrip("\n"))
        matrix[row] = np.frombuffer(rest, "<f4", width, space + 1)
        position = end
    return names, matrix


def read_json_vectors(path: Path) -> NamedVectors:
    """Read a JSON object of name to vector."""
    from genebench.encoders.weights.checkpoints import read_json

    return _from_mapping(path, read_json(path))


def read_pickled_vectors(path: Path) -> NamedVectors:
    """Read a pickled dictionary of name to list of numbers, without running code in it."""
    from genebench.encoders.weights.checkpoints import read_pickle

    return _from_mapping(path, read_pickle(path))


def _from_mapping(path: Path, data: object) -> NamedVectors:
    if not isinstance(data, dict):
        raise EncoderError(f"{path}: is not a mapping of name to vector; correct the file")
    widths = {len(v) if isinstance(v, list) else -1 for v in data.values()}
    if len(widths) > 1 or -1 in widths:
        raise EncoderError(f"{path}: the vectors have different widths; correct the file")
    return check_row_count(path, [str(name) for name in data], list(data.values()))
