"""Pickles, JSON, Parquet, FASTA, GMT and workbooks are read into rows of strings."""

import json
import pickle
from pathlib import Path

import polars as pl
import pytest
from source_files import Read, declare_file, zipped

from genebench.errors import SourceError
from genebench.sources.readers.dispatch import read_source_file


def test_a_hostile_pickle_runs_nothing(read_bytes: Read, tmp_path: Path) -> None:
    trace = tmp_path / "trace"

    class Hostile:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (trace,)

    content = pickle.dumps({"label": Hostile()})
    with pytest.raises(SourceError, match="no code is executed"):
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
    source, file = declare_file(format="parquet", options={"parts": "part-*.parquet"})
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
