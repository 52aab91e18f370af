"""Valid files for every reader of bytes that others may have written, and what a reading did."""

import functools
import gzip
import io
import json
import pickle
import resource
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from faults.watch import watch
from source_files import declare_file, zipped
from world import build_world

from genebench.encoders.declaration import Encoder
from genebench.encoders.vector_files.layout import load_vectors
from genebench.encoders.vector_files.vector_format import PrecomputedArguments
from genebench.encoders.vector_files.vector_reader import read_vector_file
from genebench.encoders.weights.checkpoints import (
    read_json,
    read_pickle,
    read_state_dict,
    read_vocabulary,
)
from genebench.errors import GenebenchError
from genebench.reference.bundle import BUNDLE_SCHEMA, read_bundle, write_bundle
from genebench.registry.loading import load_registry
from genebench.registry.yaml_reader import read_yaml, validate
from genebench.sources.declaration import Source, SourceFile
from genebench.sources.readers.dispatch import read_source_file
from genebench.tasks.user_tasks import read_user_tasks
from lakehouse.query.lake import Lake
from lakehouse.refresh.http import FetchError, check_content
from lakehouse.refresh.locate import Mirror, list_parts
from lakehouse.report.import_formats import read_results_file
from lakehouse.tables.commits import Commit

# A file of some kilobytes has no reason to take more.
MAX_MEGABYTES = 1000

Reader = Callable[[Path], object]
# The bytes of a valid file, its reader, and the ending of its name.
Input = tuple[bytes, Reader, str]


@dataclass(frozen=True)
class Verdict:
    """What the reading of one file did that no reading may do.

    Attributes:
        error: An error that is none of genebench's; None for a result or a typed error.
        programs: The programs that it started.
        written: The files that it wrote outside of the folder of the file.
        megabytes: How much memory it took, if that is too much.
    """

    error: BaseException | None
    programs: tuple[str, ...]
    written: tuple[str, ...]
    megabytes: int

    def __str__(self) -> str:
        parts = [f"started {one}" for one in self.programs]
        parts += [f"wrote {one}" for one in self.written]
        if self.megabytes:
            parts.append(f"took {self.megabytes} MB")
        if self.error is not None:
            parts.append(f"{type(self.error).__name__}: {str(self.error)[:300]}")
        return "; ".join(parts)


def judge(read: Reader, path: Path) -> Verdict:
    """Read a file; the verdict is empty text if all is well."""
    found = None
    before = largest_memory()
    with watch(path.parent) as seen:
        try:
            read(path)
        except (GenebenchError, FetchError):
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of a Rust library is no Exception
            found = error
    more = int(largest_memory() - before)
    taken = more if more > MAX_MEGABYTES else 0
    return Verdict(found, tuple(seen.programs), tuple(seen.written), taken)


def largest_memory() -> float:
    """The largest memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def all_inputs(folder: Path) -> dict[str, Input]:
    """All inputs by name; what their readers need is made in a folder."""
    found: dict[str, Input] = {}
    for build in _BUILDERS:
        found |= build(folder)
    return found


def one_of_each_reader(names: Iterable[str]) -> list[str]:
    """The names of inputs that are read by different code: of the sources, one of each format."""
    return list({name.partition(" of ")[0]: name for name in names}.values())


def find_input(name: str, folder: Path) -> Input:
    """One input; others are made only as far as needed."""
    for build in _BUILDERS:
        if name in (found := build(folder)):
            return found[name]
    raise KeyError(name)


@functools.cache
def _world_files(folder: Path) -> dict[str, Input]:
    world = build_world(folder / "world")
    registry = load_registry("paper")
    found = {}
    for file_id in world.entries:
        source_id, _, name = file_id.partition(".")
        path = world.path_of(file_id)
        if source_id in registry.sources and name in registry.sources[source_id].files:
            source = registry.sources[source_id]
            file = source.files[name]
            if path.is_file():
                content = path.read_bytes()
                if path.suffix == ".gz":
                    # Mutated gzip would only ever fail its check sum.
                    content = gzip.decompress(content)
                read = functools.partial(_read_declared, file=file, source=source)
                found[f"{file.format} of {file_id}"] = (content, read, path.suffix)
    return found | _other_formats()


def _other_formats() -> dict[str, Input]:
    """Formats that a source may be declared with, and none of the world has."""
    fields = {"id": "id", "symbol": "genes.0.name.value", "word": "words.w"}
    entry = {"id": "P1", "genes": [{"name": {"value": "A"}}], "words": [{"w": "x"}, {"w": "y"}]}
    lines = b"".join(json.dumps(entry | {"id": name}).encode() + b"\n" for name in ("P1", "P2"))
    cells = [["P1", "A"], ["P2", None]]
    table = pl.DataFrame(cells, schema=["id", "symbol"], orient="row")
    nested = io.BytesIO()
    table.with_columns(genes=pl.lit([1.5]), entry=pl.struct("id", "symbol")).write_parquet(nested)
    options = {"rows": "results", "explode": "words", "fields": fields}
    contents = {
        "json": (json.dumps({"results": [entry, entry]}).encode(), {"options": options}),
        "jsonl": (lines, {"options": {"explode": "words", "fields": fields}}),
        "xlsx": (zipped(**workbook_parts()), {}),
        "parquet": (nested.getvalue(), {}),
    }
    found = {}
    for name, (content, more) in contents.items():
        source, file = declare_file(format=name, **more)
        read = functools.partial(_read_declared, file=file, source=source)
        found[f"format {name}"] = (content, read, f".{name}")
    return found


def workbook_parts() -> dict[str, bytes]:
    """The files of a small workbook, by their names in its zip."""
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    office = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
    members = {
        "xl/workbook.xml": f'<workbook xmlns="{main}" xmlns:r="{office}"><sheets>'
        '<sheet name="Genes" sheetId="1" r:id="rId1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": '<Relationships><Relationship Id="rId1" '
        'Target="worksheets/sheet1.xml"/></Relationships>',
        "xl/sharedStrings.xml": f'<sst xmlns="{main}"><si><t>Gene</t></si></sst>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{main}"><sheetData><row>'
        '<c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>TF</t></is></c></row><row>'
        '<c r="A2"><v>1</v></c><c r="B2"><v>1.5</v></c></row></sheetData></worksheet>',
    }
    return {name: text.encode() for name, text in members.items()}


def _read_declared(path: Path, file: SourceFile, source: Source) -> object:
    companions = dict.fromkeys(file.companions, path)
    return read_source_file(path, file, source, "1", companions)


def _vector_files(folder: Path) -> dict[str, Input]:
    import h5py
    import safetensors.numpy
    import torch

    names = [f"GENE{number}" for number in range(12)]
    matrix = np.random.default_rng(0).normal(size=(12, 16)).astype(np.float32)
    frame = pl.DataFrame({"id": names} | {f"d{i}": matrix[:, i] for i in range(16)})
    lists = pl.DataFrame({"id": names, "vector": matrix.tolist()})
    words = "".join(
        f"{n} {' '.join(map(str, row))}\n" for n, row in zip(names, matrix, strict=True)
    )
    binary = b"12 16\n" + b"".join(
        n.encode() + b" " + row.tobytes() + b"\n" for n, row in zip(names, matrix, strict=True)
    )
    parquet, npz, packed, torched = (io.BytesIO() for _ in range(4))
    lists.write_parquet(parquet)
    np.savez(npz, id=np.array(names), vector=matrix)
    np.savez_compressed(packed, id=np.array(names), vector=matrix)
    torch.save({"embeddings": torch.tensor(matrix)}, torched)
    with h5py.File(folder / "a.h5ad", "w") as file:
        file.create_dataset("X", data=matrix)
        file.create_dataset("obs/_index", data=[name.encode() for name in names])
    mapping = {name: row.tolist() for name, row in zip(names, matrix, strict=True)}

    def vectors(name: str, **arguments: object) -> Reader:
        given = {"namespace": "symbol", "format": name, **arguments}
        return lambda path: read_vector_file(path, PrecomputedArguments(**given))

    csv, tsv = frame.write_csv().encode(), frame.write_csv(separator="\t").encode()
    contents: dict[str, Input] = {
        "vectors csv": (csv, vectors("csv"), ".csv"),
        "vectors tsv": (tsv, vectors("tsv"), ".tsv"),
        "vectors parquet": (parquet.getvalue(), vectors("parquet", vectors="vector"), ".parquet"),
        "vectors npz": (npz.getvalue(), vectors("npz"), ".npz"),
        "vectors npz compressed": (packed.getvalue(), vectors("npz"), ".npz"),
        "vectors h5ad": ((folder / "a.h5ad").read_bytes(), vectors("h5ad", vectors="X"), ".h5ad"),
        "vectors word2vec": (words.encode(), vectors("word2vec"), ".txt"),
        "vectors word2vec binary": (binary, vectors("word2vec_binary"), ".bin"),
        "vectors json": (json.dumps(mapping).encode(), vectors("json"), ".json"),
        "vectors pickle": (pickle.dumps(mapping), vectors("pickle"), ".pickle"),
        "checkpoint torch": (torched.getvalue(), read_state_dict, ".pt"),
        "checkpoint safetensors": (
            safetensors.numpy.save({"embeddings": matrix}),
            read_state_dict,
            ".safetensors",
        ),
        "checkpoint pickle": (pickle.dumps(mapping), read_pickle, ".pickle"),
        "checkpoint json": (json.dumps(mapping).encode(), read_json, ".json"),
        "vocabulary": (
            json.dumps({n: i for i, n in enumerate(names)}).encode(),
            read_vocabulary,
            ".json",
        ),
        "vocabulary text": ("\n".join(names).encode(), read_vocabulary, ".txt"),
    }
    ids = folder / "ids.txt"
    ids.write_text("\n".join(names))
    array = io.BytesIO()
    np.save(array, matrix)
    for suffix, content in (
        (".npy", array.getvalue()),
        (".safetensors", contents["checkpoint safetensors"][0]),
    ):
        read = functools.partial(load_vectors, id_file=ids)
        contents[f"layout {suffix[1:]}"] = (content, read, suffix)
    for suffix, name in (
        (".csv", "vectors csv"),
        (".parquet", "vectors parquet"),
        (".npz", "vectors npz"),
        (".h5ad", "vectors h5ad"),
    ):
        contents[f"layout {suffix[1:]}"] = (contents[name][0], load_vectors, suffix)
    return contents


ENCODER = b"id: my_noise\ntitle: My noise\nmodality: control\nloader: random\ndimension: 64\n"
TASK = b"""gene_type:
  title: Type of gene
  kind: multiclass
  file: a.csv
  recipe: column
  with: {id: entrez_id, namespace: entrez, column: gene_type}
  description: What kind of gene NCBI says it is.
"""
ROWS = b"entrez_id,gene_type\n1,a\n2,b\n"
RESULTS = b"task,model,metric,value\na,b,roc_auc,0.5\na,c,roc_auc,0.75\n"
SQL = b"""select e.encoder_id, avg(s.value) as mean from scores s join evaluations e
on s.evaluation_key = e.evaluation_key where s.metric = 'roc_auc' group by e.encoder_id
order by mean desc limit 5"""
MIRROR = b'hgnc.complete_set:\n  - {version: "2024-10-01", path: hgnc.txt, complete: true}\n'
LONG = b"task_name,model_name,fold,metric,score\na,b,0,roc_auc,0.5\na,b,1,roc_auc,0.75\n"
REPORT = b"""task_name,model_name,sample_size,test_roc_auc,mean_roc_auc,sd_roc_auc
a,b,12,"[0.5, 0.75]",0.6,0.1
"""
PAGE = b"""<html><body><a href="part-0001.json">a</a><a href="/x/part-0002.json">b</a>
<a href='../up/'>c</a><a href="https://example.org/d.json?x=1#y">d</a></body></html>"""


def _texts(folder: Path) -> dict[str, Input]:
    lake = Lake(folder / "lake")
    for name in ("gold.scores", "gold.evaluations"):
        lake.delta.create(name, Commit("test", "test"))

    def declare(path: Path) -> object:
        data, _ = read_yaml(path)
        return validate(Encoder, data, "here")

    def parts(path: Path) -> object:
        page = path.read_bytes().decode(errors="replace")
        return list_parts(page, "https://example.org/folder/", "part-*")

    row = {"format": 1, "metric": "roc_auc", "encoder_id": "a", "task_id": "b"}
    scored = dict.fromkeys(BUNDLE_SCHEMA) | row | {"fold_scores": [0.5, 0.75]}
    bundle = folder / "bundle.parquet"
    write_bundle(bundle, pl.DataFrame([scored], schema=BUNDLE_SCHEMA))
    return {
        "encoder yaml": (ENCODER, declare, ".yaml"),
        "task yaml": (TASK, _read_task, ".yaml"),
        "task rows": (ROWS, _read_rows_of_a_task, ".csv"),
        "task settings": (b"title: Mine\nkind: binary\n", _read_settings_of_a_task, ".yaml"),
        "mirror yaml": (MIRROR, _read_mirror, ".yaml"),
        "results csv": (RESULTS, read_results_file, ".csv"),
        "results long": (LONG, read_results_file, ".csv"),
        "results report": (REPORT, read_results_file, ".csv"),
        "bundle": (bundle.read_bytes(), read_bundle, ".parquet"),
        "sql": (SQL, lambda path: lake.query(path.read_bytes().decode(errors="replace")), ".sql"),
        "links": (PAGE, parts, ".html"),
        "download": (RESULTS, check_content, ".part"),
    }


def _read_task(path: Path) -> object:
    (path.parent / "a.csv").write_bytes(ROWS)
    return list(read_user_tasks(path, "embedded", []))


def _read_rows_of_a_task(path: Path) -> object:
    (path.parent / "task.yaml").write_bytes(TASK.replace(b"a.csv", path.name.encode()))
    return list(read_user_tasks(path.parent / "task.yaml", "embedded", []))


def _read_settings_of_a_task(path: Path) -> object:
    folder = path.parent / "task"
    folder.mkdir(exist_ok=True)
    (folder / "outcomes.csv").write_text("a\n1\n0\n")
    (folder / "entities.csv").write_text("symbol\nA\nB\n")
    (folder / "task.yaml").write_bytes(path.read_bytes())
    return list(read_user_tasks(folder, "embedded", []))


def _read_mirror(path: Path) -> object:
    (path.parent / "sources.yaml").write_bytes(path.read_bytes())
    return Mirror(str(path.parent)).find("hgnc.complete_set", [], None)


_BUILDERS = (_world_files, _texts, _vector_files)
