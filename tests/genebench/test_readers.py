"""Every shape of file is read right; every damaged one gives one error that says what to do."""

import gzip
import io
import json
import pickle
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genebench.errors import SourceError
from genebench.sources.declaration import Source, SourceFile
from genebench.sources.readers.delimited import parse_delimited
from genebench.sources.readers.dispatch import read_source_file

TABLE = "Gene\tName\nNA\tfirst\nBRX1\t\n"


def declare(**declaration: object) -> tuple[Source, SourceFile]:
    file = SourceFile.model_validate(
        {"url": "https://example.org/f", "format": "tsv"} | declaration
    )
    source = Source(
        id="demo",
        title="A demonstration",
        license="CC0",
        cite="demo2024",
        homepage="https://example.org",
        version="1.0",
        files={"table": file},
    )
    return source, file


@pytest.fixture
def read_bytes(tmp_path: Path) -> Callable[..., pl.DataFrame]:
    def read_content(content: bytes | str, **declaration: object) -> pl.DataFrame:
        path = tmp_path / "delivered"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        source, file = declare(**declaration)
        return read_source_file(path, file, source, "1.0")

    return read_content


Read = Callable[..., pl.DataFrame]


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()


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
    ],
    ids=["gzip", "zip", "gzip in zip", "gzip twice"],
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


DAMAGED = {
    "cut gzip": (gzip.compress(TABLE.encode() * 50)[:-30], {}, "gzip file is cut short"),
    "corrupt gzip": (
        gzip.compress(TABLE.encode())[:-8] + b"\0" * 8,
        {},
        "gzip file is corrupt",
    ),
    "cut zip": (zipped(table=TABLE.encode() * 50)[:-40], {}, "zip file is cut short"),
    "corrupt zip member": (
        zipped(table=TABLE.encode() * 50)[:40] + b"\xff" + zipped(table=TABLE.encode() * 50)[41:],
        {},
        "zip file is",
    ),
    "empty zip": (zipped(), {}, "holds 0 files"),
    "several members": (zipped(a=b"x", b=b"y"), {}, "holds 2 files (a, b)"),
    "member not there": (zipped(a=b"x"), {"options": {"member": "b"}}, "holds no 'b', but a"),
    "other separator": (
        TABLE.replace("\t", ",").encode(),
        {},
        "separated by a comma, not by a tab",
    ),
    "latin-1": ("a\tb\nSjögren\tx\n".encode("latin-1"), {}, "line 2 is not UTF-8"),
    "utf-16": (TABLE.encode("utf-16"), {}, "UTF-16"),
    "nul bytes": (b"a\tb\nx\ty\0\n", {}, "line 2 holds a NUL byte"),
    "missing column": (TABLE.encode(), {"columns": ["Ensembl"]}, "column 'Ensembl' is missing"),
    "renamed column": (
        TABLE.encode(),
        {"columns": ["Names"]},
        "is it 'Name' now?",
    ),
    "missing key": (TABLE.encode(), {"key": ["Ensembl"]}, "column 'Ensembl' is missing"),
    "repeated column": (b"a\tb\ta\n1\t2\t3\n", {}, "'a' stands 2 times in the header"),
    "nameless column": (b"a\t\tb\n1\t2\t3\n", {}, "column 2 has no name"),
    "web page": (b"\n<!DOCTYPE html><html><body>503</body></html>", {}, "web page"),
    "packed web page": (gzip.compress(b"<html>gone</html>"), {}, "web page"),
    "empty": (b"", {}, "it is empty"),
    "blank": (b"\n \n", {}, "it is empty"),
    "packed nothing": (gzip.compress(b""), {}, "it is empty"),
    "header alone": (b"a\tb\n", {}, "no rows"),
    "short row": (b"a\tb\n1\t2\n3\n4\t5\n", {}, "1 of 3 rows do not have 2 fields"),
    "long row": (b"a\tb\n1\t2\n3\t4\t5\n", {}, "the first, on line 3, has 3"),
    "open quote": (b'a\tb\n1\t"2\n3\t4\n', {}, "quote is opened and never closed"),
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
        "more than 10,000 bytes come out",
    ),
    "zip bomb": (
        zipped(table=b"0" * 1_000_000),
        {"options": {"max_unpacked_bytes": 10_000}},
        "more than 10,000 bytes come out",
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
        "its object 2 holds no list at 'l'",
    ),
    "bad json line": (
        b'{"a": 1}\n{"a": \n',
        {"format": "jsonl", "options": {"fields": {"a": "a"}}},
        "line 2 is no JSON",
    ),
    "no parquet": (b"PAR1 nothing PAR1", {"format": "parquet"}, "no whole Parquet file"),
    "no fasta": (b"MKV\n", {"format": "fasta"}, "does not begin with '>'"),
    "fasta without sequence": (b">a\n>b\nMK\n", {"format": "fasta"}, "1 records have no sequence"),
    "gmt without tab": (b"pathway R-HSA-1\n", {"format": "gmt"}, "line 1 has no tab"),
    "no pickle": (b"\x80\x04\x95cut", {"format": "pickle"}, "no whole pickle"),
    "pickled list": (pickle.dumps(["a"]), {"format": "pickle"}, "no dictionary"),
    "pickled numbers": (pickle.dumps({"a": [1]}), {"format": "pickle"}, "no list of strings"),
    "no workbook": (zipped(**{"xl/workbook.xml": b"<x"}), {"format": "xlsx"}, "no whole xlsx"),
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
    source, file = declare()
    with pytest.raises(SourceError, match="not there; run `genebench refresh`"):
        read_source_file(tmp_path / "nothing", file, source, "1.0")


def test_a_hostile_pickle_runs_nothing(read_bytes: Read, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (trace,)

    content = pickle.dumps({"label": Hostile()})
    with pytest.raises(SourceError, match="nothing is run"):
        read_bytes(content, format="pickle")
    assert not trace.exists()
    # The control: outside the reader it does run.
    pickle.loads(content)
    assert trace.exists()


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_pickled_lists_become_rows_in_their_order(read_bytes: Read, protocol: int) -> None:
    content = pickle.dumps({"long": ["E2", "E1"], "short": ["E3"]}, protocol)
    frame = read_bytes(content, format="pickle")
    assert frame.rows() == [("long", "E2"), ("long", "E1"), ("short", "E3")]
    assert frame.columns == ["label", "identifier"]


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
    source, file = declare(
        format="pairs",
        options={"header": ["first", "second"]},
        companions={"labels": "https://example.org/labels"},
    )
    frame = read_source_file(text, file, source, "1.0", {"labels": labels})
    assert frame.rows() == [("A", "B", "1"), ("NA", "C", "0")]
    labels.write_text("1\n")
    with pytest.raises(SourceError, match="it has 2 rows, but its companion 1 labels"):
        read_source_file(text, file, source, "1.0", {"labels": labels})
    with pytest.raises(SourceError, match="companion file of labels is not given"):
        read_source_file(text, file, source, "1.0")


def test_nested_json_becomes_a_row_for_each_item(read_bytes: Read) -> None:
    entries = [
        {"id": "P1", "genes": [{"name": {"value": "A"}}], "words": [{"w": "x"}, {"w": "y"}]},
        {"id": "P2", "genes": [], "words": []},
    ]
    fields = {"id": "id", "symbol": "genes.0.name.value", "word": "words.w"}
    frame = read_bytes(
        json.dumps({"results": entries}),
        format="json",
        options={"rows": "results", "explode": "words", "fields": fields},
    )
    assert frame.rows() == [("P1", "A", "x"), ("P1", "A", "y"), ("P2", None, None)]


def test_json_lines_and_lists_of_words_are_read(read_bytes: Read) -> None:
    content = '{"a": ["x", "y"], "b": 2}\n{"a": [], "b": null}\n'
    frame = read_bytes(content, format="jsonl", options={"fields": {"a": "a", "b": "b"}})
    assert frame.rows() == [("x|y", "2"), (None, None)]


def test_parquet_becomes_strings_and_parts_one_table(tmp_path: Path) -> None:
    folder = tmp_path / "parts"
    folder.mkdir()
    for number in (2, 1):
        frame = pl.DataFrame({"id": [f"E{number}"], "score": [0.1 * number], "up": [["a", "b"]]})
        frame.write_parquet(folder / f"part-{number}.parquet")
    (folder / "_SUCCESS").touch()
    source, file = declare(format="parquet", options={"parts": "part-*.parquet"})
    frame = read_source_file(folder, file, source, "1.0")
    assert frame.rows() == [("E1", "0.1", "a|b"), ("E2", "0.2", "a|b")]
    packed = tmp_path / "packed.zip"
    packed.write_bytes(zipped(**{p.name: p.read_bytes() for p in folder.iterdir()}))
    assert read_source_file(packed, file, source, "1.0").equals(frame)


def test_a_shape_that_a_mirror_holds_instead_is_read(read_bytes: Read) -> None:
    declaration = {"format": "parquet", "options": {"also": ["csv"]}}
    assert read_bytes("id,name\nE1,x\n", **declaration).rows() == [("E1", "x")]


def test_sequences_are_joined_and_their_descriptions_searched(read_bytes: Read) -> None:
    content = ">P1 gene:E1 gene_symbol:NA\nmk\nV*\n>P2 gene:E2\nMM\n"
    fields = {"id": r"^(\S+)", "symbol": r"gene_symbol:(\S+)"}
    frame = read_bytes(content, format="fasta", options={"fields": fields})
    assert frame.select("id", "symbol", "sequence").rows() == [
        ("P1", "NA", "MKV"),
        ("P2", None, "MM"),
    ]


def test_gene_sets_become_a_row_for_each_member(read_bytes: Read) -> None:
    frame = read_bytes("Cycle\tR-1\tA\tNA\nEmpty\tR-2\n", format="gmt")
    assert frame.rows() == [("Cycle", "R-1", "A"), ("Cycle", "R-1", "NA"), ("Empty", "R-2", None)]


def workbook(sheet: str) -> bytes:
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    return zipped(
        **{
            "[Content_Types].xml": b"<Types/>",
            "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
            '<sheet name="Genes" sheetId="1" r:id="rId1"/></sheets></workbook>'.encode(),
            "xl/_rels/workbook.xml.rels": b'<Relationships><Relationship Id="rId1" '
            b'Target="worksheets/sheet1.xml"/></Relationships>',
            "xl/sharedStrings.xml": f'<sst xmlns="{main}"><si><t>Gene</t></si>'
            "<si><r><t>Is </t></r><r><t>TF?</t></r></si><si><t>NA</t></si></sst>".encode(),
            "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData>{sheet}'
            "</sheetData></worksheet>".encode(),
        }
    )


HEADER_ROW = '<row><c r="A1" t="s"><v>0</v></c><c r="B1" t="s"><v>1</v></c></row>'


def test_a_workbook_is_read_with_shared_inline_and_missing_cells(read_bytes: Read) -> None:
    rows = (
        '<row><c r="A2" t="s"><v>2</v></c><c r="B2"><v>1.5</v></c></row>'
        '<row><c r="B3" t="inlineStr"><is><t>Yes</t></is></c></row><row/>'
    )
    frame = read_bytes(workbook(HEADER_ROW + rows), format="xlsx")
    assert frame.columns == ["Gene", "Is TF?"]
    assert frame.rows() == [("NA", "1.5"), (None, "Yes")]


def test_a_workbook_without_the_declared_sheet_says_what_it_has(read_bytes: Read) -> None:
    with pytest.raises(SourceError, match="no sheet 'Other', but Genes"):
        read_bytes(workbook(HEADER_ROW), format="xlsx", options={"sheet": "Other"})


def test_a_workbook_that_defines_entities_is_refused(read_bytes: Read) -> None:
    bomb = zipped(**{"xl/workbook.xml": b'<!DOCTYPE x [<!ENTITY a "aaaa">]><x>&a;</x>'})
    with pytest.raises(SourceError, match="declares a document type"):
        read_bytes(bomb, format="xlsx")


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
        source, file = declare(format=shape)
        try:
            frame = read_source_file(path, file, source, "1.0")
        except SourceError:
            continue
        assert frame.height


def test_twenty_thousand_wide_rows_are_read_in_seconds(read_bytes: Read) -> None:
    header = "\t".join(f"column {i}" for i in range(89))
    row = "\t".join(["Detected in many", '"a, b"', ""] * 29 + ["1", "2"])
    content = gzip.compress("\n".join([header, *([row] * 20_000)]).encode(), 1)
    start = time.perf_counter()
    assert read_bytes(content).shape == (20_000, 89)
    assert time.perf_counter() - start < 5


@pytest.mark.parametrize(
    ("shape", "content"),
    [
        ("fasta", ">P1\nMK\n"),
        ("gmt", "Cycle\tR-1\tA\n"),
        ("json", '[{"a": "x"}]\n'),
        ("jsonl", '{"a": "x"}\n{"a": "y"}\n'),
        ("pairs", "first second\nA B\n"),
    ],
)
def test_marks_and_returns_do_not_change_what_other_shapes_hold(
    read_bytes: Read, shape: str, content: str
) -> None:
    options = {"fields": {"a": "a"}} if shape.startswith("json") else {}
    plain = read_bytes(content, format=shape, options=options)
    marked = b"\xef\xbb\xbf" + content.replace("\n", "\r\n").encode()
    assert read_bytes(marked, format=shape, options=options).equals(plain)
