"""Reads FASTA files: one row for each sequence, with columns from its description line."""

import polars as pl

from genebench.sources.readers.containers import FileError
from genebench.sources.readers.delimited import clean_text


def parse_fasta(content: bytes, fields: dict[str, str] | None = None) -> pl.DataFrame:
    """Parse FASTA sequences.

    Args:
        content: The text, with one or more records.
        fields: Further column to a regular expression whose first group extracts its value from
            the description line; null without a match.

    Returns:
        One row for each sequence: `header` (without `>`), `sequence` (upper case, lines joined,
        without a final `*`), then the fields.

    Raises:
        FileError: The text does not start with a record, or a record has no sequence.
    """
    text = clean_text(content).decode()
    if not text.startswith(">"):
        raise FileError("it is not FASTA: it does not begin with '>'")
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
