"""Reads delimited text (TSV, CSV, space-separated pairs); checks every row before parsing."""

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
    format_name: str,
    header: list[str] | None = None,
    has_quotes: bool = True,
    encoding: str = "utf-8",
) -> pl.DataFrame:
    """Parse delimited text into columns of strings.

    A byte order mark and carriage returns are removed. A separator or a line end inside quotes is
    part of the value. Every row must have as many fields as the header.

    Args:
        content: The unpacked bytes.
        format_name: `tsv`, `csv` or `pairs`.
        header: Column names of a file without a header line. In a header line, an unnamed first
            column is named `row`.
        has_quotes: Whether double quotes enclose values; if not, they are ordinary characters.
        encoding: The declared encoding.

    Returns:
        (rows, columns) of strings, empty fields as empty strings or nulls.

    Raises:
        FileError: The file is not text in the declared encoding, or rows do not match the header.
    """
    separator = SEPARATORS[format_name]
    # Blank lines at the end are not rows.
    text = clean_text(content, encoding).rstrip(b"\n") + b"\n"
    has_quotes = has_quotes and b'"' in text
    n_fields, starts = count_fields(text, separator, has_quotes)
    names = header or _header_names(
        text[: starts[1]] if len(starts) > 1 else text, separator, has_quotes
    )
    if len(names) == 1 and header is None:
        _check_separator(names[0], separator)
    _check_row_lengths(n_fields, len(names), header is None, text, starts)
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
            _check_quotes(text, separator)
        raise FileError(f"it cannot be parsed ({str(fault).splitlines()[0]})") from fault
    if header is None:
        frame = frame.slice(1)
    if frame.height != n_rows:
        _check_quotes(text, separator)
        raise FileError(f"it has {n_rows} rows, but only {frame.height} can be parsed")
    return frame


def clean_text(content: bytes, encoding: str = "utf-8") -> bytes:
    """Check that bytes are text; return UTF-8 without byte order mark and carriage returns.

    Raises:
        FileError: The bytes contain NUL, are not in the declared encoding, or are empty.
    """
    if content.startswith(UTF16_BOMS) and encoding == "utf-8":
        raise FileError("it is UTF-16 text", "declare options: encoding: utf-16")
    if encoding != "utf-8":
        try:
            content = content.decode(encoding).encode()
        except (UnicodeDecodeError, LookupError) as fault:
            raise FileError(
                f"it is not {encoding} text ({fault})", "correct options: encoding"
            ) from fault
    content = content.removeprefix(UTF8_BOM)
    if (place := content.find(b"\0")) >= 0:
        raise FileError(f"line {_line_at(content, place)} contains a NUL byte; the file is damaged")
    try:
        content.decode()
    except UnicodeDecodeError as fault:
        raise FileError(
            f"line {_line_at(content, fault.start)} is not UTF-8 text "
            f"(byte 0x{content[fault.start]:02x})",
            "run `genebench refresh`, or declare options: encoding, such as latin-1",
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
        text: Output of `clean_text` that ends with a line end.
        separator: A single character.
        has_quotes: Whether to ignore separators and line ends inside quotes.

    Returns:
        Two int64 arrays of shape (records,): number of fields, and byte offset of each record.

    Raises:
        FileError: A quote is never closed.
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
                f"a quote is never closed (the last quote is on line {_line_at(text, place)})",
                "run `genebench refresh`, or declare options: quotes: false if quotes are ordinary "
                "characters",
            )
        is_end &= ~is_inside
        is_separator &= ~is_inside
    ends = np.flatnonzero(is_end)
    starts = np.concatenate([[0], ends[:-1] + 1])
    positions = np.flatnonzero(is_separator)
    n_before = np.searchsorted(positions, ends)
    return np.diff(n_before, prepend=0) + 1, starts


def _header_names(line: bytes, separator: str, has_quotes: bool) -> list[str]:
    try:
        fields = pl.read_csv(
            line,
            has_header=False,
            separator=separator,
            quote_char='"' if has_quotes else None,
            infer_schema=False,
        ).row(0)
    except pl.exceptions.PolarsError as fault:
        raise FileError(f"its header cannot be parsed ({str(fault).splitlines()[0]})") from fault
    names = [(name or "").strip() for name in fields]
    if len(names) > 1:
        # R and pandas write row names into an unnamed first column.
        names[0] = names[0] or ROW_NAMES
    if "" in names:
        raise FileError(f"column {names.index('') + 1} has no name in the header")
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise FileError(
            f"the column {repeated[0]!r} occurs {names.count(repeated[0])} times in the header"
        )
    return names


def _check_separator(line: str, separator: str) -> None:
    for other in set(NAMES) - {separator, " "}:
        if other in line:
            raise FileError(
                f"its fields are separated by {NAMES[other]}, not by {NAMES[separator]}",
                "run `genebench refresh`, or correct the format in the declaration",
            )


def _check_row_lengths(
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


def _check_quotes(text: bytes, separator: str) -> None:
    """Raise with the line of the first quote inside a value; quotes must enclose whole values."""
    codes = np.frombuffer(text, dtype=np.uint8)
    is_quote = codes == QUOTE
    is_edge = is_quote | (codes == ord(separator)) | (codes == NEWLINE)
    is_opening = is_quote & np.logical_xor.accumulate(is_quote)
    begins = np.concatenate([[True], is_edge[:-1]])
    ends = np.concatenate([is_edge[1:], [True]])
    misplaced = np.flatnonzero(is_quote & ~np.where(is_opening, begins, ends))
    if len(misplaced):
        raise FileError(
            f"there is a quote inside a value on line {_line_at(text, int(misplaced[0]))}",
            "declare options: quotes: false if quotes are ordinary characters, or run `genebench "
            "refresh`",
        )


def _line_at(text: bytes, place: int) -> int:
    return text.count(b"\n", 0, place) + 1
