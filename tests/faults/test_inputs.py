"""Every reader gives a result or one typed error for mutated bytes, and runs nothing in them."""

import contextlib
import io
import os
import pickle
import zipfile
from pathlib import Path

import h5py
import polars as pl
import pytest
from faults.inputs import MAX_MEGABYTES, judge, largest_memory, workbook_parts
from faults.mutations import EDITS, mutate
from faults.watch import watch
from hypothesis import HealthCheck, given, settings
from source_files import zipped

from genebench.errors import GenebenchError
from genebench.registry.yaml_reader import read_yaml
from genebench.tasks.user_tasks import read_user_tasks
from lakehouse.refresh.http import FetchError
from lakehouse.refresh.locate import list_parts

N_QUICK = 3
N_LONG = int(os.environ.get("FAULT_EXAMPLES", "2000"))
# Parts of the inputs, for as many workers as there are.
N_PARTS = 12


def test_every_input_is_valid_before_it_is_mutated(corpus, tmp_path):
    for content, read, suffix in corpus.values():
        path = tmp_path / f"valid{suffix}"
        path.write_bytes(content)
        read(path)


def read_mutated(corpus, folder, n_examples, row) -> None:
    failures = {}

    # Drawing edits takes longer than reading, so each is made to all inputs.
    @settings(
        max_examples=n_examples,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(EDITS)
    def read_all(edits):
        for name, (content, read, suffix) in corpus.items():
            read_one(name, content, read, folder / f"mutated{suffix}", failures, row, edits)

    read_all()
    assert not failures, "\n".join(f"{name}: {text}" for name, text in failures.items())


def read_one(name, content, read, path, failures, row, edits) -> None:
    path.write_bytes(mutate(content, edits))
    verdict = judge(read, path)
    if text := str(verdict):
        failures.setdefault(name, f"{text} {edits}")
    row.add(
        n_untyped=int(verdict.error is not None),
        n_executed=len(verdict.programs),
        n_outside=len(verdict.written),
    )


@pytest.mark.slow
def test_a_few_mutations_of_every_input_give_a_result_or_a_typed_error(corpus, tmp_path, ledger):
    assert len(corpus) > 60
    read_mutated(corpus, tmp_path, N_QUICK, ledger("mutated input"))


@pytest.mark.soak
@pytest.mark.parametrize("part", range(N_PARTS))
def test_many_mutations_of_every_input_give_a_result_or_a_typed_error(
    corpus, tmp_path, ledger, part
):
    inputs = dict(list(corpus.items())[part::N_PARTS])
    read_mutated(inputs, tmp_path, N_LONG, ledger("mutated input"))


def test_a_parquet_file_at_which_polars_panics_is_a_typed_error(corpus, tmp_path):
    content = io.BytesIO()
    vectors = [[float(number)] * 16 for number in range(8)]
    names = [f"G{number}" for number in range(8)]
    pl.DataFrame({"id": names, "vector": vectors}).write_parquet(content)
    path = tmp_path / "damaged.parquet"
    edits = [("zero", 0.09121808344389948, bytes(8))]
    path.write_bytes(mutate(content.getvalue(), edits))
    with pytest.raises(pl.exceptions.PanicException):
        pl.read_parquet(path)
    for name in ("vectors parquet", "layout parquet", "bundle"):
        with pytest.raises(GenebenchError, match="is damaged"):
            corpus[name][1](path)


def workbook(**parts: bytes) -> bytes:
    """A workbook with other content in some of its parts."""
    members = workbook_parts()
    for name, content in parts.items():
        (path,) = (path for path in members if name in path)
        members[path] = content
    return zipped(**members)


def sheet(cells: str) -> bytes:
    """A workbook with other cells."""
    content = workbook_parts()["xl/worksheets/sheet1.xml"].decode()
    before, _, after = content.partition("<sheetData>")
    cells = f"{before}<sheetData>{cells}</sheetData>{after.partition('</sheetData>')[2]}"
    return workbook(sheet1=cells.encode())


def parquet(**columns: list[object]) -> bytes:
    content = io.BytesIO()
    pl.DataFrame(columns).write_parquet(content)
    return content.getvalue()


def npy(header: bytes) -> bytes:
    return b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header


def safetensors(header: bytes) -> bytes:
    return len(header).to_bytes(8, "little") + header


def h5ad(width: int = 1) -> bytes:
    """A file with two names and a matrix without values."""
    content = io.BytesIO()
    with h5py.File(content, "w") as file:
        file["obs/_index"] = ["a", "b"]
        file.create_dataset("X", shape=(2, width), dtype="f4", chunks=(1, min(width, 1 << 20)))
    return content.getvalue()


def endless_h5ad() -> bytes:
    """A file whose first text is overwritten by free space without a size."""
    before, heap, after = h5ad().partition(b"GCOL")
    return before + heap + after[:12] + bytes(16) + after[28:]


def h5ad_of_a_long_text(n_bytes: int = 0xFFFFFFF0) -> bytes:
    """A file whose first name declares to have 4 GB."""
    content = h5ad()
    start = h5py.File(io.BytesIO(content))["obs/_index"].id.get_offset()
    return content[:start] + n_bytes.to_bytes(4, "little") + content[start + 4 :]


DEEP = b"[" * 100_000
DIGITS = b"9" * 5000
HUGE = npy(b"{'descr': '<f4', 'fortran_order': False, 'shape': (99999999999, 16)}\n")
NO_LITERAL = npy(b"((((((((\n")

# Found by mutation, by fuzzing, and by reading the readers beside what these had found. Each raised
# an error of a library, took gigabytes, or ended the process.
FOUND = {
    "an array without its values": ("vectors h5ad", h5ad(1 << 28)),
    "a table of links that is damaged": ("layout h5ad", h5ad().replace(b"SNOD", b"SNO ")),
    "a heap of names that is damaged": ("layout h5ad", h5ad().replace(b"HEAP", b"HEA ")),
    "a heap at which HDF5 never ends": ("vectors h5ad", endless_h5ad()),
    "a text that is longer than the file": ("vectors h5ad", h5ad_of_a_long_text()),
    "a row that is longer than the header": ("layout csv", b"id,a,b\nx,1,2\ny,1,2,3\n"),
    "an empty member": ("vectors npz", zipped(**{"id.npy": b""})),
    "a member that is no array": ("vectors npz", zipped(readme=b"words")),
    "a header that is no literal": ("vectors npz", zipped(**{"a.npy": NO_LITERAL})),
    "more numbers than memory": ("vectors npz", zipped(**{"a.npy": HUGE})),
    "an array of more numbers than memory": ("layout npy", HUGE),
    "an array whose header is no literal": ("layout npy", NO_LITERAL),
    "a quote inside a value": ("tsv of hgnc.complete_set", b'a\tb"c\n"d\te\tf\n'),
    "names that are no text": ("vocabulary text", b"\xff\n"),
    "lists in place of names": ("vocabulary", b"[[1]]"),
    "a deep vocabulary": ("vocabulary", DEEP),
    "deep JSON of a checkpoint": ("checkpoint json", DEEP),
    "a number beyond float32": ("vectors json", b'{"a": [1%s]}' % (b"0" * 400)),
    "a pickled number beyond float32": ("vectors pickle", pickle.dumps({"a": [10**400]})),
    "a header that is a list": ("layout safetensors", safetensors(b"[]")),
    "a deep header": ("layout safetensors", safetensors(DEEP)),
    "a tensor without a type": ("layout safetensors", safetensors(b'{"a": {"shape": [1, 2]}}')),
    "a table without columns": ("layout parquet", parquet()),
    "deep JSON of a source": ("format json", DEEP),
    "a number of thousands of digits": ("format json", b"[%s]" % DIGITS),
    "half of a character": ("format json", b'{"results": [{"id": "\\ud800"}]}'),
    "half of a character on a line": ("format jsonl", b'{"id": ["\\ud800"]}'),
    "a deep line": ("format jsonl", DEEP),
    "a line of thousands of digits": ("format jsonl", DIGITS),
    "bytes that are no text": ("format parquet", parquet(id=[b"\xff"])),
    "bytes in a list that are no text": ("format parquet", parquet(ids=[[b"\xff"]])),
    "a cell in column ZZZZZZ": ("format xlsx", sheet('<row><c r="ZZZZZZ1"/></row>')),
    "a sheet that no part holds": ("format xlsx", workbook(rels=b"<a/>")),
    "a path that is a number": ("mirror yaml", b"hgnc.complete_set: [{version: '1', path: 3}]"),
}


@pytest.mark.parametrize(("name", "content"), FOUND.values(), ids=FOUND)
def test_damaged_files_that_were_found_are_typed_errors(corpus, tmp_path, name, content):
    _, read, suffix = corpus[name]
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    before = largest_memory()
    with pytest.raises((GenebenchError, FetchError)):
        read(path)
    assert largest_memory() - before < MAX_MEGABYTES


# Values that YAML allows, or libyaml takes, and no declaration has.
NO_DECLARATIONS = {
    "a list as a key": b"[a]: b\n",
    "a mapping as a key": b"? {a: b}\n: c\n",
    "a day that does not exist": b"a: 2024-99-99\n",
    "a word that is no number": b"a: !!int x\n",
    "a word that is no time": b"a: !!timestamp x\n",
    "a word that is no decision": b"a: !!bool x\n",
    "a number of thousands of digits": b"a: " + DIGITS,
    "ten thousands of levels": DEEP,
    "an alias of aliases": b"a: &a [1, 1]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "a value that contains itself": b"a: &a [*a]\n",
    "a hundred levels of mappings": b"{a: " * 101 + b"1" + b"}" * 101,
    "a hundred levels of lists": b"a:\n" + b"- " * 101 + b"1",
}


@pytest.mark.parametrize("content", NO_DECLARATIONS.values(), ids=NO_DECLARATIONS)
def test_what_no_declaration_has_is_one_mistake_with_the_name_of_the_file(tmp_path, content):
    path = tmp_path / "a.yaml"
    path.write_bytes(content)
    data, mistakes = read_yaml(path)
    assert data == {}
    assert len(mistakes) == 1
    assert mistakes[0].startswith(f"{path}:")


def test_a_mistake_of_a_value_names_its_line(tmp_path):
    path = tmp_path / "a.yaml"
    path.write_text("a: 1\nb: 2024-99-99\n")
    assert read_yaml(path)[1] == [f"{path}: line 2: not valid YAML: '2024-99-99' is no timestamp"]


@pytest.mark.parametrize("entry", [b'{file: "a\\0b"}', b"{file: a.csv, 3: 4, more: 5}"])
def test_a_task_with_a_name_or_key_that_cannot_be_is_a_mistake(tmp_path, entry):
    (tmp_path / "a.csv").write_text("entrez_id,kind\n1,a\n2,b\n")
    path = tmp_path / "tasks.yaml"
    path.write_bytes(b"a: " + entry)
    mistakes = []
    list(read_user_tasks(path, "embedded", mistakes))
    assert mistakes


def test_links_that_are_no_addresses_are_left_out():
    page = 'href="http://[" href="part-1" href="//[x"'
    assert list_parts(page, "https://a.org/", "part-*") == ["https://a.org/part-1"]


@pytest.mark.parametrize("size", [b"nan", b"1e30"])
def test_a_size_that_is_no_number_of_samples_is_missing(corpus, tmp_path, size):
    path = tmp_path / "report.csv"
    path.write_bytes(b"task_name,model_name,sample_size,mean_roc_auc\na,b,%s,0.5\n" % size)
    assert corpus["results report"][1](path)[1]["n_samples"].to_list() == [None]


def test_a_damaged_zip_is_a_typed_error_wherever_zipfile_stumbles(corpus, tmp_path):
    content, read, suffix = corpus["gmt.zip of reactome.pathways_gmt"]
    path = tmp_path / f"damaged{suffix}"
    edits = [
        [("zero", 0.3445259140106927, bytes(3)), ("flip", 0.9932249173740832, b"B\x1b\x88|")],
        [("repeat", 0.05, bytes(2)), ("zero", 0.921335133227996, bytes(7))],
        # NotImplementedError: zip file version 9.7
        [
            ("insert", 0.3793702886632476, b'"+!0'),
            ("flip", 1.0, b"u"),
            ("flip", 0.8251434070917167, b"u"),
        ],
    ]
    for one in edits:
        path.write_bytes(mutate(content, one))
        with pytest.raises(GenebenchError):
            read(path)


def test_a_result_without_a_metric_is_skipped(corpus, tmp_path):
    path = tmp_path / "results.csv"
    path.write_bytes(b"task,model,metric,value\na,b,roc_auc,0.5\na,c,,0.75\n")
    assert corpus["results csv"][1](path)[1].height == 1


class Hostile:
    """Touches a file when it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return Path.touch, (self.trace,)


def test_hostile_pickles_and_archives_run_nothing_and_write_nothing_outside(
    corpus, tmp_path, ledger
):
    import torch

    row = ledger("hostile pickle or archive")
    trace = tmp_path / "trace"
    torched, archive = io.BytesIO(), io.BytesIO()
    torch.save({"a": Hostile(trace)}, torched)
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("../../trace", "x")
        file.writestr(str(trace), "x")
    contents = [pickle.dumps(Hostile(trace)), pickle.dumps({"a": [Hostile(trace)]})]
    contents += [torched.getvalue(), archive.getvalue()]
    inside = tmp_path / "inside"
    inside.mkdir()
    for _, read, suffix in corpus.values():
        for content in contents:
            path = inside / f"hostile{suffix}"
            path.write_bytes(content)
            with watch(inside) as seen, contextlib.suppress(GenebenchError, FetchError):
                read(path)
            n_executed = len(seen.programs) + trace.exists()
            row.add(n_executed=n_executed, n_outside=len(seen.written))
            assert (seen.programs, seen.written) == ([], [])
            assert not trace.exists()
            assert [one.name for one in tmp_path.iterdir()] == ["inside"]
            path.unlink()
