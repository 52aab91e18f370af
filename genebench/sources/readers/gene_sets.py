"""Reads gene sets: GMT files, and pickled dictionaries of labels to lists of genes."""

import io
import pickle
from typing import Any

import polars as pl

from genebench.pickles import has_sparse_memo
from genebench.sources.readers.containers import FileError
from genebench.sources.readers.delimited import clean_text

GMT_HEADER = ["set_name", "set_id", "member"]
PICKLE_HEADER = ["label", "identifier"]


def parse_gmt(content: bytes, header: list[str] | None = None) -> pl.DataFrame:
    """Parse GMT gene sets: each line has a name, an identifier and the members, tab-separated.

    Args:
        content: The text.
        header: Names of the three columns; by default `set_name`, `set_id`, `member`.

    Returns:
        One row for each member of each set; a set without members has one row with a null.

    Raises:
        FileError: A line has fewer than two fields.
    """
    names, ids, members = header or GMT_HEADER
    lines = clean_text(content).decode().rstrip("\n").split("\n")
    rows = [line.split("\t") for line in lines]
    short = [number for number, row in enumerate(rows, start=1) if len(row) < 2]
    if short:
        raise FileError(f"line {short[0]} has no tab between a set's name and its identifier")
    return pl.DataFrame(
        {
            names: [row[0] for row in rows],
            ids: [row[1] for row in rows],
            members: [[member for member in row[2:] if member] for row in rows],
        },
        schema_overrides={members: pl.List(pl.String)},
    ).explode(members, empty_as_null=True)


class _SafeUnpickler(pickle.Unpickler):
    """Loads strings, numbers and containers of them; rejects every reference to code."""

    def find_class(self, module: str, name: str) -> Any:
        raise FileError(
            f"it would import {module}.{name}; only lists of strings are read, no code is executed",
            "do not open it with other programs; download it from its publisher",
        )

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - the signature is pickle's
        raise FileError("it refers to external objects; only lists of strings are read")


def parse_pickle(content: bytes, header: list[str] | None = None) -> pl.DataFrame:
    """Read a pickled dictionary of labels to lists of identifiers, without executing code.

    Args:
        content: The pickle, in any protocol.
        header: Names of the two columns; by default `label`, `identifier`.

    Returns:
        One row for each identifier, in the order of the pickle.

    Raises:
        FileError: The pickle is truncated, refers to code, or has another content.
    """
    label_column, member_column = header or PICKLE_HEADER
    if has_sparse_memo(content):
        raise FileError("the pickle asks for more memory than it has data for")
    try:
        value = _SafeUnpickler(io.BytesIO(content)).load()
    except FileError:
        raise
    # A damaged pickle can raise anything: KeyError, IndexError, UnicodeDecodeError, ...
    except Exception as fault:
        raise FileError(f"it is not a complete pickle ({type(fault).__name__}: {fault})") from fault
    if not isinstance(value, dict) or not all(isinstance(label, str) for label in value):
        raise FileError("it is not a dictionary of labels to lists")
    rows: list[tuple[str, str]] = []
    for label, members in value.items():
        if not isinstance(members, list | tuple | set | frozenset) or not all(
            isinstance(member, str) for member in members
        ):
            raise FileError(f"its label {label!r} does not have a list of strings")
        ordered = members if isinstance(members, list | tuple) else sorted(members)
        rows.extend((label, member) for member in ordered)
    return pl.DataFrame(
        rows, schema={label_column: pl.String, member_column: pl.String}, orient="row"
    )
