"""Delimited text: tsv, csv and space-separated pairs, checked row by row before it is parsed."""

import numpy as np
import polars as pl

from genebench.sources.readers.containers import FileError

SEPARATORS = {"tsv": "\t", "csv": ",", "pairs": " "}
NAMES = {"\t": "a tab", ",": "a comma", " ": "a space", ";": "a semicolon"}
UTF8_BOM = b"\xef\xbb\xbf"
UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")
QUOTE, NEWLINE = ord('"'), ord("\n")
ROW_NAMES = "row"


def parse_delimited(
    content: bytes,
    shape: str,
    header: list[str] | None = None,
    has_quotes: bool = True,
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """Parse delimited text into strings.

    A byte order mark and carriage returns are taken off; a separator or a line end inside quotes
    belongs to the value. Every row must have as many fields as the header.

    Args:
        content: The text, out of its containers.
        shape: `tsv`, `csv` or `pairs`.
        header: The column names of a file that has no header line. Of a header line, a first
            column without a name is called `row`.
        has_quotes: Whether a double quote encloses values; if not it is an ordinary character.
        encoding: The declared encoding.

    Returns:
        (rows, columns) of strings, empty fields as empty strings or nulls.

    Raises:
        FileError: Not text of the declared encoding, or rows that do not fit the header.
    """
    separator = SEPARATORS[shape]
    # Blank lines at the end are no rows.
    text = clean_text(content, encoding).rstrip(b"\n") + b"\n"
    has_quotes = has_quotes and b'"' in text
    n_fields, starts = count_fields(text, separator, has_quotes)
    names = header or _header_names(
        text[: starts[1]] if len(starts) > 1 else text, separator, has_quotes
    )
    if len(names) == 1 and header is None:
        _refuse_other_separator(names[0], separator)
    _refuse_ragged(n_fields, len(names), header is None, text, starts)
    n_rows = len(n_fields) - (0 if header else 1)
    try:
        frame = pl.read_csv(
            text,
            has_header=False,
            separator=separator,
            quote_char='"' if has_quotes else None,
            infer_schema=False,
            new_columns=names,
        )
    except pl.exceptions.PolarsError as fault:
        if has_quotes:
            _refuse_misplaced_quote(text, separator)
        raise FileError(f"it cannot be parsed ({str(fault).splitlines()[0]})") from fault
    if header is None:
        frame = frame.slice(1)
    if frame.height != n_rows:
        _refuse_misplaced_quote(text, separator)
        raise FileError(f"{n_rows} rows are there but {frame.height} can be parsed")
    return frame


def clean_text(content: bytes, encoding: str = "utf-8") -> bytes:
    """Check that the bytes are text and give them as UTF-8 without byte order mark and returns.

    Raises:
        FileError: NUL bytes, another encoding than the declared one, or no text at all.
    """
    if content.startswith(UTF16_BOMS) and encoding == "utf-8":
        raise FileError("it is UTF-16 text", "declare options: encoding: utf-16")
    if encoding != "utf-8":
        try:
            content = content.decode(encoding).encode()
        except (UnicodeDecodeError, LookupError) as fault:
            raise FileError(
                f"it is not {encoding} text ({fault})", "correct the encoding"
            ) from fault
    content = content.removeprefix(UTF8_BOM)
    if (place := content.find(b"\0")) >= 0:
        raise FileError(f"line {_line_at(content, place)} holds a NUL byte: the file is damaged")
    try:
        content.decode()
    except UnicodeDecodeError as fault:
        raise FileError(
            f"line {_line_at(content, fault.start)} is not UTF-8 text "
            f"(byte 0x{content[fault.start]:02x})",
            "fetch it again, or declare options: encoding: latin-1 if that is what it is",
        ) from fault
    if b"\r" in content:
        content = content.replace(b"\r\n" if b"\n" in content else b"\r", b"\n")
    if not content.strip():
        raise FileError("it is empty")
    return content


def count_fields(
    text: bytes, separator: str, has_quotes: bool
) -> tuple[
    np.ndarray[tuple[int], np.dtype[np.int64]],
    np.ndarray[tuple[int], np.dtype[np.int64]],
]:
    """Count the fields of each record.

    Args:
        text: Clean text that ends in a line end.
        separator: One character.
        has_quotes: Whether separators and line ends between quotes do not count.

    Returns:
        (records,) the number of fields, and (records,) the byte at which each record starts.

    Raises:
        FileError: A quote is opened and never closed.
    """
    codes = np.frombuffer(text, dtype=np.uint8)
    is_end = codes == NEWLINE
    is_separator = codes == ord(separator)
    if has_quotes:
        is_quote = codes == QUOTE
        is_inside = np.logical_xor.accumulate(is_quote)
        if is_inside[-1]:
            place = int(np.flatnonzero(is_quote)[-1])
            raise FileError(
                f"a quote is opened and never closed (the last one is on line "
                f"{_line_at(text, place)})",
                "fetch it again, or declare options: quotes: false if quotes are ordinary there",
            )
        is_end &= ~is_inside
        is_separator &= ~is_inside
    ends = np.flatnonzero(is_end)
    starts = np.concatenate([[0], ends[:-1] + 1])
    positions = np.flatnonzero(is_separator)
    n_before = np.searchsorted(positions, ends)
    return np.diff(n_before, prepend=0) + 1, starts


def _header_names(line: bytes, separator: str, has_quotes: bool) -> list[str]:
    fields = pl.read_csv(
        line,
        has_header=False,
        separator=separator,
        quote_char='"' if has_quotes else None,
        infer_schema=False,
    ).row(0)
    names = [(name or "").strip() for name in fields]
    if len(names) > 1:
        # R and pandas write the names of rows first, under no name.
        names[0] = names[0] or ROW_NAMES
    if "" in names:
        raise FileError(f"column {names.index('') + 1} has no name in the header")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise FileError(
            f"the column {repeated[0]!r} stands {names.count(repeated[0])} times in the header"
        )
    return names


def _refuse_other_separator(line: str, separator: str) -> None:
    for other in set(NAMES) - {separator, " "}:
        if other in line:
            raise FileError(
                f"its fields are separated by {NAMES[other]}, not by {NAMES[separator]}",
                "fetch it again, or correct the format in the declaration",
            )


def _refuse_ragged(
    n_fields: np.ndarray[tuple[int], np.dtype[np.int64]],
    n_columns: int,
    has_header: bool,
    text: bytes,
    starts: np.ndarray[tuple[int], np.dtype[np.int64]],
) -> None:
    first = 1 if has_header else 0
    ragged = np.flatnonzero(n_fields[first:] != n_columns) + first
    if len(ragged):
        worst = int(ragged[0])
        raise FileError(
            f"{len(ragged)} of {len(n_fields) - first} rows do not have {n_columns} fields; the "
            f"first, on line {_line_at(text, int(starts[worst]))}, has {int(n_fields[worst])}"
        )


def _refuse_misplaced_quote(text: bytes, separator: str) -> None:
    """Name the first quote that opens or closes inside a value; quotes enclose whole ones."""
    codes = np.frombuffer(text, dtype=np.uint8)
    is_quote = codes == QUOTE
    is_edge = is_quote | (codes == ord(separator)) | (codes == NEWLINE)
    is_opening = is_quote & np.logical_xor.accumulate(is_quote)
    begins = np.concatenate([[True], is_edge[:-1]])
    ends = np.concatenate([is_edge[1:], [True]])
    misplaced = np.flatnonzero(is_quote & ~np.where(is_opening, begins, ends))
    if len(misplaced):
        raise FileError(
            f"a quote stands inside a value on line {_line_at(text, int(misplaced[0]))}",
            "declare options: quotes: false if its quotes are ordinary characters, or fetch it "
            "again",
        )


def _line_at(text: bytes, place: int) -> int:
    return text.count(b"\n", 0, place) + 1
