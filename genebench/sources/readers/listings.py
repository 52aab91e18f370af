"""Files that list things in a shape of their own: fasta, gmt, pickled lists."""

import io
import pickle
from typing import Any

import polars as pl

from genebench.sources.readers.containers import FileError
from genebench.sources.readers.delimited import clean_text

GMT_HEADER = ["set_name", "set_id", "member"]
PICKLE_HEADER = ["label", "identifier"]


def parse_fasta(content: bytes, fields: dict[str, str] | None = None) -> pl.DataFrame:
    """Parse sequences.

    Args:
        content: Text of one or more records.
        fields: For each further column a regular expression whose first group finds its value in
            the description line; null where it finds none.

    Returns:
        A row for each sequence: `header` (without the `>`), `sequence` (upper case, lines joined,
        without a final stop mark), then the fields.

    Raises:
        FileError: The text does not start with a record, or a record has no sequence.
    """
    text = clean_text(content).decode()
    if not text.startswith(">"):
        raise FileError("it does not begin with '>' as FASTA does")
    records = [record.partition("\n") for record in text[1:].split("\n>")]
    frame = pl.DataFrame(
        {
            "header": [header.strip() for header, _, _ in records],
            "sequence": [
                "".join(lines.split()).upper().removesuffix("*") for _, _, lines in records
            ],
        }
    )
    bare = frame.filter(pl.col("sequence") == "")
    if bare.height:
        raise FileError(f"{bare.height} records have no sequence, first {bare['header'][0]!r}")
    return frame.with_columns(
        pl.col("header").str.extract(pattern, 1).alias(name)
        for name, pattern in (fields or {}).items()
    )


def parse_gmt(content: bytes, header: list[str] | None = None) -> pl.DataFrame:
    """Parse gene sets: on each line a name, an identifier, then the members, between tabs.

    Args:
        content: Text.
        header: Names for the three columns, by default `set_name`, `set_id`, `member`.

    Returns:
        A row for each member of each set; a set without members gives one row with a null.

    Raises:
        FileError: A line has less than two fields.
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


class _ListsOnly(pickle.Unpickler):
    """Reads strings, numbers and their containers; refuses whatever names code."""

    def find_class(self, module: str, name: str) -> Any:
        raise FileError(
            f"it asks to load {module}.{name}; only lists of strings are read, nothing is run",
            "do not open it with anything else; fetch it from its owner",
        )

    def persistent_load(self, pid: Any) -> Any:  # noqa: ARG002 - the signature is pickle's
        raise FileError("it refers to objects outside itself; only lists of strings are read")


def parse_pickle(content: bytes, header: list[str] | None = None) -> pl.DataFrame:
    """Read a pickled dictionary from labels to lists of identifiers, without running anything.

    Args:
        content: The pickle, any protocol.
        header: Names for the two columns, by default `label`, `identifier`.

    Returns:
        A row for each identifier, in the order of the pickle.

    Raises:
        FileError: It is cut short, names any code, or holds something else.
    """
    label_column, member_column = header or PICKLE_HEADER
    try:
        value = _ListsOnly(io.BytesIO(content)).load()
    except FileError:
        raise
    # A damaged pickle can fail in any way: as a missing key, a bad index, a decoding error.
    except Exception as fault:
        raise FileError(f"it is no whole pickle ({type(fault).__name__}: {fault})") from fault
    if not isinstance(value, dict) or not all(isinstance(label, str) for label in value):
        raise FileError("it holds no dictionary from labels to lists")
    rows: list[tuple[str, str]] = []
    for label, members in value.items():
        if not isinstance(members, list | tuple | set | frozenset) or not all(
            isinstance(member, str) for member in members
        ):
            raise FileError(f"its label {label!r} has no list of strings")
        ordered = members if isinstance(members, list | tuple) else sorted(members)
        rows.extend((label, member) for member in ordered)
    return pl.DataFrame(
        rows, schema={label_column: pl.String, member_column: pl.String}, orient="row"
    )
