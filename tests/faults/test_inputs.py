"""Every reader gives a result or one typed error for mutated bytes, and runs nothing in them."""

import contextlib
import functools
import gzip
import io
import json
import os
import pickle
import resource
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from faults.mutations import EDITS, mutate
from faults.watch import watch
from hypothesis import HealthCheck, given, settings
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
from genebench.reference.bundle import read_bundle
from genebench.registry.loading import load_registry
from genebench.registry.yaml_reader import read_yaml, validate
from genebench.sources.readers.dispatch import read_source_file
from genebench.tasks.user_tasks import read_user_tasks
from lakehouse.query.lake import Lake
from lakehouse.refresh.http import FetchError, check_content
from lakehouse.refresh.locate import list_parts
from lakehouse.report.import_formats import read_results_file
from lakehouse.tables.commits import Commit

N_QUICK = 3
N_LONG = int(os.environ.get("FAULT_EXAMPLES", "2000"))

# A file of some kilobytes has no reason to take more.
MAX_MEGABYTES = 1000

Reader = Callable[[Path], object]


@functools.cache
def world_files(folder: Path) -> dict[str, tuple[bytes, Reader, str]]:
    world = build_world(folder)
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
                read = functools.partial(read_declared, file=file, source=source)
                found[f"source {file_id}"] = (content, read, path.suffix)
    return found


def read_declared(path, file, source):
    companions = dict.fromkeys(file.companions, path)
    return read_source_file(path, file, source, "1", companions)


def vector_files(folder: Path) -> dict[str, tuple[bytes, Reader, str]]:
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
    parquet, npz, torched = io.BytesIO(), io.BytesIO(), io.BytesIO()
    lists.write_parquet(parquet)
    np.savez(npz, id=np.array(names), vector=matrix)
    torch.save({"embeddings": torch.tensor(matrix)}, torched)
    with h5py.File(folder / "a.h5ad", "w") as file:
        file.create_dataset("X", data=matrix)
        file.create_dataset("obs/_index", data=[name.encode() for name in names])
    mapping = {name: row.tolist() for name, row in zip(names, matrix, strict=True)}

    def vectors(name: str, **arguments: object) -> Reader:
        given = {"namespace": "symbol", "format": name, **arguments}
        return lambda path: read_vector_file(path, PrecomputedArguments(**given))

    csv, tsv = frame.write_csv().encode(), frame.write_csv(separator="\t").encode()
    contents: dict[str, tuple[bytes, Reader, str]] = {
        "vectors csv": (csv, vectors("csv"), ".csv"),
        "vectors tsv": (tsv, vectors("tsv"), ".tsv"),
        "vectors parquet": (parquet.getvalue(), vectors("parquet"), ".parquet"),
        "vectors npz": (npz.getvalue(), vectors("npz"), ".npz"),
        "vectors h5ad": ((folder / "a.h5ad").read_bytes(), vectors("h5ad"), ".h5ad"),
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
    }
    for suffix, name in (
        (".csv", "vectors csv"),
        (".parquet", "vectors parquet"),
        (".npz", "vectors npz"),
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
RESULTS = b"task,model,metric,value\na,b,roc_auc,0.5\na,c,roc_auc,0.75\n"
SQL = b"""select e.encoder_id, avg(s.value) as mean from scores s join evaluations e
on s.evaluation_key = e.evaluation_key where s.metric = 'roc_auc' group by e.encoder_id
order by mean desc limit 5"""
PAGE = b"""<html><body><a href="part-0001.json">a</a><a href="/x/part-0002.json">b</a>
<a href='../up/'>c</a><a href="https://example.org/d.json?x=1#y">d</a></body></html>"""


def texts(folder: Path) -> dict[str, tuple[bytes, Reader, str]]:
    lake = Lake(folder / "lake")
    for name in ("gold.scores", "gold.evaluations"):
        lake.delta.create(name, Commit("test", "test"))

    def declare(path: Path) -> object:
        data, _ = read_yaml(path)
        return validate(Encoder, data, "here")

    def parts(path: Path) -> object:
        page = path.read_bytes().decode(errors="replace")
        return list_parts(page, "https://example.org/folder/", "part-*")

    bundle = io.BytesIO()
    pl.DataFrame({"task_id": ["a"], "value": [0.5]}).write_parquet(bundle)
    return {
        "encoder yaml": (ENCODER, declare, ".yaml"),
        "task yaml": (TASK, lambda path: list(read_user_tasks(path, "embedded", [])), ".yaml"),
        "task rows": (b"entrez_id,gene_type\n1,a\n2,b\n", rows_of_a_task, ".csv"),
        "results csv": (RESULTS, read_results_file, ".csv"),
        "bundle": (bundle.getvalue(), read_bundle, ".parquet"),
        "sql": (SQL, lambda path: lake.query(path.read_bytes().decode(errors="replace")), ".sql"),
        "page of links": (PAGE, parts, ".html"),
        "download": (PAGE, check_content, ".part"),
    }


def rows_of_a_task(path: Path) -> object:
    (path.parent / "task.yaml").write_bytes(TASK.replace(b"a.csv", path.name.encode()))
    return list(read_user_tasks(path.parent / "task.yaml", "embedded", []))


@pytest.fixture(scope="module")
def corpus(tmp_path_factory) -> dict[str, tuple[bytes, Reader, str]]:
    """Name to the bytes of a valid file, its reader, and its suffix."""
    folder = tmp_path_factory.mktemp("corpus")
    return {**world_files(folder / "world"), **vector_files(folder), **texts(folder)}


def read_mutated(corpus, folder, n_examples, row) -> None:
    failures = {}
    options = settings(
        max_examples=n_examples,
        derandomize=True,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    for name, (content, read, suffix) in corpus.items():
        mutated = functools.partial(
            read_one, name, content, read, folder / f"mutated{suffix}", failures, row
        )
        options(given(EDITS)(mutated_reader(mutated)))()
    assert not failures, "\n".join(f"{name}: {text}" for name, text in failures.items())


def mutated_reader(mutated):
    def read_edits(edits):
        mutated(edits)

    return read_edits


def largest_memory() -> float:
    """The largest memory that this process has had, in megabytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def read_one(name, content, read, path, failures, row, edits) -> None:
    path.write_bytes(mutate(content, edits))
    n_untyped = 0
    before = largest_memory()
    with watch(path.parent) as seen:
        try:
            read(path)
        except (GenebenchError, FetchError):
            pass
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # noqa: BLE001 - a panic of a Rust library is no Exception
            failures.setdefault(name, (type(error).__name__, str(error)[:300], edits))
            n_untyped = 1
    if seen.programs or seen.written:
        failures.setdefault(name, (seen.programs, seen.written, edits))
    if (more := largest_memory() - before) > MAX_MEGABYTES:
        failures.setdefault(name, (f"took {more:.0f} MB", edits))
    n_outside = len(seen.written)
    row.add(n_untyped=n_untyped, n_executed=len(seen.programs), n_outside=n_outside)


@pytest.mark.slow
def test_a_few_mutations_of_every_input_give_a_result_or_a_typed_error(corpus, tmp_path, ledger):
    assert len(corpus) > 40
    read_mutated(corpus, tmp_path, N_QUICK, ledger("mutated input"))


@pytest.mark.soak
def test_many_mutations_of_every_input_give_a_result_or_a_typed_error(corpus, tmp_path, ledger):
    read_mutated(corpus, tmp_path, N_LONG, ledger("mutated input"))


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


def packed(**members: bytes) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as file:
        for name, one in members.items():
            file.writestr(name, one)
    return content.getvalue()


# Found by mutation; each raised an error of polars, numpy or zipfile.
FOUND = [
    ("layout csv", b"id,a,b\nx,1,2\ny,1,2,3\n"),
    ("vectors npz", packed(**{"id.npy": b""})),
    ("vectors npz", packed(readme=b"words")),
    ("source hgnc.complete_set", b'a\tb"c\n"d\te\tf\n'),
]


@pytest.mark.parametrize(("name", "content"), FOUND)
def test_damaged_files_that_were_found_are_typed_errors(corpus, tmp_path, name, content):
    _, read, suffix = corpus[name]
    path = tmp_path / f"damaged{suffix}"
    path.write_bytes(content)
    with pytest.raises(GenebenchError):
        read(path)


def test_a_damaged_zip_is_a_typed_error_wherever_zipfile_stumbles(corpus, tmp_path):
    content, read, suffix = corpus["source reactome.pathways_gmt"]
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
