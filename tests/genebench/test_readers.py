"""Delimited text, containers and options are read correctly; damaged files raise one error."""

import gzip
import io
import lzma
import pickle
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from source_files import TABLE, Read, declare_file, zipped

from genebench.errors import SourceError
from genebench.parquet_files import load_parquet
from genebench.sources.readers.delimited import parse_delimited
from genebench.sources.readers.dispatch import read_source_file


def test_a_table_keeps_the_gene_na_and_turns_empty_cells_into_null(read_bytes: Read) -> None:
    frame = read_bytes(TABLE)
    assert frame.rows() == [("NA", "first"), ("BRX1", None)]
    assert set(frame.dtypes) == {pl.String}


def test_names_of_rows_may_stand_first_under_no_name(read_bytes: Read) -> None:
    frame = read_bytes(b"\tgene\tvalue\n0\tBRX1\tx\n")
    assert frame.columns == ["row", "gene", "value"]
    assert frame.rows() == [("0", "BRX1", "x")]


@pytest.mark.parametrize(
    "pack",
    [
        gzip.compress,
        lambda content: zipped(table=content),
        lambda content: zipped(table=gzip.compress(content)),
        lambda content: gzip.compress(gzip.compress(content)),
        lzma.compress,
        lambda content: lzma.compress(content[:9]) + b"\0" * 4 + lzma.compress(content[9:]),
        lambda content: lzma.compress(gzip.compress(content)),
    ],
    ids=["gzip", "zip", "gzip in zip", "gzip twice", "xz", "xz in two streams", "gzip in xz"],
)
def test_containers_are_recognised_by_their_bytes(
    read_bytes: Read, pack: Callable[[bytes], bytes]
) -> None:
    assert read_bytes(pack(TABLE.encode())).rows() == [("NA", "first"), ("BRX1", None)]


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + TABLE.encode(),
        TABLE.replace("\n", "\r\n").encode(),
        TABLE.encode() + b"\n\n",
        TABLE.encode().rstrip(b"\n"),
    ],
    ids=["byte order mark", "carriage returns", "blank end", "no last line end"],
)
def test_harmless_differences_do_not_change_what_is_read(read_bytes: Read, content: bytes) -> None:
    frame = read_bytes(content)
    assert frame.columns == ["Gene", "Name"]
    assert frame.rows() == [("NA", "first"), ("BRX1", None)]


def test_separators_line_ends_and_quotes_inside_quotes_belong_to_the_value(
    read_bytes: Read,
) -> None:
    frame = read_bytes('a,b\n"x,y","two\nlines"\n"say ""so""",z\n', format="csv")
    assert frame.rows() == [("x,y", "two\nlines"), ('say "so"', "z")]


def test_lines_may_end_in_carriage_returns_alone_as_excel_on_a_mac_writes_them(
    read_bytes: Read,
) -> None:
    assert read_bytes(TABLE.replace("\n", "\r")).rows() == [("NA", "first"), ("BRX1", None)]


def test_quotes_can_be_declared_ordinary_characters(read_bytes: Read) -> None:
    frame = read_bytes('a\tb\n5" end\tx\n', options={"quotes": False})
    assert frame.rows() == [('5" end', "x")]


def test_declared_latin_1_is_read(read_bytes: Read) -> None:
    frame = read_bytes("a\tb\nSjögren\tx\n".encode("latin-1"), options={"encoding": "latin-1"})
    assert frame["a"].to_list() == ["Sjögren"]


def greedy(content: bytes) -> bytes:
    """Pack with xz, and state that unpacking takes a dictionary of 4 GiB."""
    packed = bytearray(lzma.compress(content))
    end = 12 + (packed[12] + 1) * 4 - 4
    packed[packed.index(b"\x21\x01", 12, end) + 2] = 40
    packed[end : end + 4] = zlib.crc32(packed[12:end]).to_bytes(4, "little")
    return bytes(packed)


DAMAGED = {
    "cut xz": (lzma.compress(TABLE.encode() * 50)[:-30], {}, "xz file is truncated"),
    "corrupt xz": (
        lzma.compress(TABLE.encode())[:40] + b"\xff" + lzma.compress(TABLE.encode())[41:],
        {},
        "xz file is corrupt",
    ),
    "text after xz": (lzma.compress(TABLE.encode()) + b"more than this", {}, "xz file is corrupt"),
    "xz that needs 4 GiB": (greedy(TABLE.encode()), {}, "xz file is corrupt (Memory usage limit"),
    "xz bomb": (
        lzma.compress(b"0" * 1_000_000),
        {"options": {"max_unpacked_bytes": 10_000}},
        "unpacked size is more than 10,000 bytes",
    ),
    "cut gzip": (gzip.compress(TABLE.encode() * 50)[:-30], {}, "gzip file is truncated"),
    "corrupt gzip": (
        gzip.compress(TABLE.encode())[:-8] + b"\0" * 8,
        {},
        "gzip file is corrupt",
    ),
    "cut zip": (zipped(table=TABLE.encode() * 50)[:-40], {}, "zip file is truncated"),
    "corrupt zip member": (
        zipped(table=TABLE.encode() * 50)[:40] + b"\xff" + zipped(table=TABLE.encode() * 50)[41:],
        {},
        "zip file is",
    ),
    "empty zip": (zipped(), {}, "contains 0 files"),
    "several members": (zipped(a=b"x", b=b"y"), {}, "contains 2 files (a, b)"),
    "member not there": (zipped(a=b"x"), {"options": {"member": "b"}}, "contains no 'b', but a"),
    "other separator": (
        TABLE.replace("\t", ",").encode(),
        {},
        "separated by a comma, not by a tab",
    ),
    "latin-1": ("a\tb\nSjögren\tx\n".encode("latin-1"), {}, "line 2 is not UTF-8"),
    "utf-16": (TABLE.encode("utf-16"), {}, "UTF-16"),
    "nul bytes": (b"a\tb\nx\ty\0\n", {}, "line 2 contains a NUL byte"),
    "missing column": (TABLE.encode(), {"columns": ["Ensembl"]}, "column 'Ensembl' is missing"),
    "renamed column": (
        TABLE.encode(),
        {"columns": ["Names"]},
        "is it 'Name' now?",
    ),
    "missing key": (TABLE.encode(), {"key": ["Ensembl"]}, "column 'Ensembl' is missing"),
    "repeated column": (b"a\tb\ta\n1\t2\t3\n", {}, "'a' occurs 2 times in the header"),
    "nameless column": (b"a\t\tb\n1\t2\t3\n", {}, "column 2 has no name"),
    "web page": (b"\n<!DOCTYPE html><html><body>503</body></html>", {}, "web page"),
    "packed web page": (gzip.compress(b"<html>gone</html>"), {}, "web page"),
    "empty": (b"", {}, "it is empty"),
    "blank": (b"\n \n", {}, "it is empty"),
    "packed nothing": (gzip.compress(b""), {}, "it is empty"),
    "header alone": (b"a\tb\n", {}, "no rows"),
    "short row": (b"a\tb\n1\t2\n3\n4\t5\n", {}, "1 of 3 rows do not have 2 fields"),
    "long row": (b"a\tb\n1\t2\n3\t4\t5\n", {}, "the first, on line 3, has 3"),
    "open quote": (b'a\tb\n1\t"2\n3\t4\n', {}, "quote is never closed"),
    "quotes in values": (b'a\tb\n1\tx\n2\t5" y\n3\t3" z\n', {}, "inside a value on line 3"),
    "text after a quote": (b'a\tb\n1\t"y" z\n2\ty\n', {}, "inside a value on line 2"),
    "quoted over rows": (b'a\tb\n1\t"y\n3\tz\n4\t"w\n', {}, "inside a value on line 4"),
    "no row of the wanted": (
        b"#tax_id\ta\n10090\tx\n",
        {"options": {"where": {"#tax_id": "9606"}}},
        "none of its 1 rows has #tax_id '9606'",
    ),
    "too large": (TABLE.encode(), {"max_bytes": 5}, "more than the 5 declared"),
    "gzip bomb": (
        gzip.compress(b"0" * 1_000_000),
        {"options": {"max_unpacked_bytes": 10_000}},
        "unpacked size is more than 10,000 bytes",
    ),
    "zip bomb": (
        zipped(table=b"0" * 1_000_000),
        {"options": {"max_unpacked_bytes": 10_000}},
        "unpacked size is more than 10,000 bytes",
    ),
    "no json": (b'{"results": [', {"format": "json", "options": {"fields": {"a": "a"}}}, "JSON"),
    "json refusal": (
        b'{"messages": ["Invalid query"]}',
        {"format": "json", "options": {"rows": "results", "fields": {"a": "a"}}},
        "it says: Invalid query",
    ),
    "json without the field": (
        b'[{"b": 1}]',
        {"format": "json", "columns": ["a"], "options": {"fields": {"a": "a", "b": "b"}}},
        "column 'a' is missing",
    ),
    "json item for a list": (
        b'[{"k": "a", "l": [{"n": "x"}]}, {"k": "b", "l": {"n": "y", "m": "z"}}]',
        {"format": "json", "options": {"explode": "l", "fields": {"k": "k", "n": "l.n"}}},
        "its object 2 has no list at 'l'",
    ),
    "bad json line": (
        b'{"a": 1}\n{"a": \n',
        {"format": "jsonl", "options": {"fields": {"a": "a"}}},
        "line 2 is not JSON",
    ),
    "no parquet": (b"PAR1 nothing PAR1", {"format": "parquet"}, "not a complete Parquet file"),
    "no fasta": (b"MKV\n", {"format": "fasta"}, "does not begin with '>'"),
    "fasta without sequence": (b">a\n>b\nMK\n", {"format": "fasta"}, "1 records have no sequence"),
    "gmt without tab": (b"pathway R-HSA-1\n", {"format": "gmt"}, "line 1 has no tab"),
    "no pickle": (b"\x80\x04\x95cut", {"format": "pickle"}, "not a complete pickle"),
    "pickled list": (pickle.dumps(["a"]), {"format": "pickle"}, "not a dictionary"),
    "pickled numbers": (
        pickle.dumps({"a": [1]}),
        {"format": "pickle"},
        "does not have a list of strings",
    ),
    "no workbook": (
        zipped(**{"xl/workbook.xml": b"<x"}),
        {"format": "xlsx"},
        "not a complete xlsx",
    ),
}


def test_quotes_out_of_place_are_told_with_the_option_that_reads_them(read_bytes: Read) -> None:
    with pytest.raises(SourceError, match=r"options: quotes: false"):
        read_bytes(b'a\tb\n1\t"y" z\n2\ty\n')
    assert read_bytes(b'a\tb\n1\t"y" z\n', options={"quotes": False})["b"].item() == '"y" z'


@pytest.mark.parametrize("case", DAMAGED)
def test_a_damaged_file_gives_one_error_naming_file_fault_and_remedy(
    read_bytes: Read, case: str
) -> None:
    content, declaration, fault = DAMAGED[case]
    with pytest.raises(SourceError) as caught:
        read_bytes(content, **declaration)
    message = str(caught.value)
    assert "source demo, file table, version 1.0 (delivered): " in message
    assert fault in message
    assert "; " in message.partition(fault)[2], "the message says what to do"


def test_a_file_that_is_not_there_is_named_with_a_remedy(tmp_path: Path) -> None:
    source, file = declare_file()
    with pytest.raises(SourceError, match="does not exist; run `genebench refresh`"):
        read_source_file(tmp_path / "nothing", file, source, "1.0")


def test_another_name_of_a_column_becomes_the_declared_one(read_bytes: Read) -> None:
    options = {"aliases": {"symbol": ["HGNC symbol", "Gene"]}}
    assert read_bytes(TABLE, options=options).columns == ["symbol", "Name"]


def test_an_alias_does_not_replace_a_column_that_is_there(read_bytes: Read) -> None:
    options = {"aliases": {"Name": ["Gene"]}}
    assert read_bytes(TABLE, options=options).columns == ["Gene", "Name"]


def test_rows_of_other_species_and_stated_gaps_are_left_out(read_bytes: Read) -> None:
    content = "taxon\tgene\tname\n9606\tA\t-\n10090\tB\tb\n"
    frame = read_bytes(content, options={"where": {"taxon": 9606}, "missing": "-"})
    assert frame.rows() == [("9606", "A", None)]


def test_pairs_stand_beside_their_labels(tmp_path: Path) -> None:
    text, labels = tmp_path / "text", tmp_path / "labels"
    text.write_text("A B\nNA C\n")
    labels.write_text("1\n0\n")
    source, file = declare_file(
        format="pairs",
        options={"header": ["first", "second"]},
        companions={"labels": "https://example.org/labels"},
    )
    frame = read_source_file(text, file, source, "1.0", {"labels": labels})
    assert frame.rows() == [("A", "B", "1"), ("NA", "C", "0")]
    labels.write_text("1\n")
    with pytest.raises(SourceError, match="it has 2 rows, but its companion has 1 labels"):
        read_source_file(text, file, source, "1.0", {"labels": labels})
    with pytest.raises(SourceError, match="companion file of labels is missing"):
        read_source_file(text, file, source, "1.0")


cells = st.text(st.characters(codec="utf-8", exclude_characters="\r\0"), max_size=8)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(cells, cells, cells), min_size=1, max_size=6))
def test_whatever_is_written_quoted_is_read_back(rows: list[tuple[str, str, str]]) -> None:
    quoted = ["\t".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    content = "\n".join(["a\tb\tc", *quoted]) + "\n"
    frame = parse_delimited(content.encode(), "tsv")
    assert [tuple(cell or "" for cell in row) for row in frame.rows()] == rows


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=60))
def test_any_bytes_at_all_give_a_frame_or_a_source_error(
    tmp_path_factory: pytest.TempPathFactory, content: bytes
) -> None:
    path = tmp_path_factory.mktemp("any") / "delivered"
    path.write_bytes(content)
    for shape in ("tsv", "csv", "fasta", "gmt", "pickle", "parquet", "xlsx"):
        source, file = declare_file(format=shape)
        try:
            frame = read_source_file(path, file, source, "1.0")
        except SourceError:
            continue
        assert frame.height


def test_twenty_thousand_wide_rows_are_read_whole(read_bytes: Read) -> None:
    header = "\t".join(f"column {i}" for i in range(89))
    row = "\t".join(["Detected in many", '"a, b"', ""] * 29 + ["1", "2"])
    content = gzip.compress("\n".join([header, *([row] * 20_000)]).encode(), 1)
    assert read_bytes(content).shape == (20_000, 89)


@pytest.mark.parametrize("byte", [0x7F, 0xFF])
def test_a_parquet_file_with_any_byte_changed_is_a_table_or_a_typed_error(byte: int) -> None:
    # polars 2.1 ends the process at one of them: it asks for memory as the damaged byte says.
    content = io.BytesIO()
    pl.DataFrame({"id": ["P1", "P2"], "symbol": ["A", None]}).write_parquet(content)
    whole = content.getvalue()
    n_tables = 0
    for place in range(len(whole)):
        damaged = whole[:place] + bytes([byte]) + whole[place + 1 :]
        with suppress(pl.exceptions.PolarsError):
            n_tables += isinstance(load_parquet(damaged), pl.DataFrame)
    assert 0 < n_tables < len(whole)


def test_some_rows_of_a_parquet_file_are_the_first_and_a_missing_file_is_told_as_such(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.parquet"
    frame = pl.DataFrame({"id": ["P1", "P2"], "vector": [[1.0, 2.0], [3.0, 4.0]]})
    frame.write_parquet(path)
    assert load_parquet(path).equals(frame)
    assert load_parquet(path, 1).equals(frame.head(1))
    frame.clear().write_parquet(path)
    assert load_parquet(path, 1).equals(frame.clear())
    with pytest.raises(FileNotFoundError):
        load_parquet(tmp_path / "b.parquet")
