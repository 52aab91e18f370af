"""Delta tables: round trips, rejected frames, history, killed and concurrent writers."""

import datetime as dt
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from blanks import filled
from deltalake import DeltaTable, write_deltalake
from deltalake.exceptions import CommitFailedError
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow.parquet import ParquetFile

from genebench.errors import LakeError
from lakehouse.embed.stored_vectors import read_vectors
from lakehouse.refresh.blobs import Blobs
from lakehouse.tables.catalogue import TABLES, table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.maintenance import (
    compact_table,
    count_files,
    list_kept_versions,
    vacuum_table,
)
from lakehouse.tables.storage import Storage
from lakehouse.tables.vector_pages import read_lists
from lakehouse.tables.vectors import to_matrix, to_vectors

COMMIT = Commit("run1", "0.1.0", {"silver.tasks": 3}, "embedded", {"note": "x"})
NOW = dt.datetime(2026, 1, 2, 3, 4, 5, 678901, tzinfo=dt.UTC)


@pytest.fixture
def lake(tmp_path: Path) -> Delta:
    return Delta(tmp_path / "lake")


def labels(family: str = "genomic", n: int = 3, label: str = "yes") -> pl.DataFrame:
    return pl.DataFrame(
        {
            "family": [family] * n,
            "task_id": ["t"] * n,
            "sample_id": [f"hgnc:{number}" for number in range(n)],
            "label": [label] * n,
            "value": [1.0] * n,
            "status": [None] * n,
        },
        schema=table("silver.labels").schema,
    )


def outcomes(run_id: str, n: int = 1) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "table_name": ["gold.scores"] * n,
            "expectation_id": [f"e{number}" for number in range(n)],
            "severity": ["warning"] * n,
            "is_met": [True] * n,
            "has_raised": [False] * n,
            "observed": [None] * n,
            "n_unexpected": [None] * n,
            "examples": [["a", "b"]] * n,
            "is_skipped": [False] * n,
            "run_id": [run_id] * n,
            "validated_at": [NOW] * n,
        },
        schema=table("audit.validations").schema,
    )


def embeddings(matrix: np.ndarray, encoder_id: str = "e") -> pl.DataFrame:
    n, d = matrix.shape
    return pl.DataFrame(
        {
            "encoder_id": [encoder_id] * n,
            "encoder_digest": ["x"] * n,
            "entity_type": ["gene"] * n,
            "entity_id": [f"hgnc:{number}" for number in range(n)],
            "vector": to_vectors(matrix),
            "dimension": [d] * n,
            "vector_digest": ["x"] * n,
            "input_digest": ["x"] * n,
            "n_parts": [1] * n,
            "run_id": ["r"] * n,
            "embedded_at": [NOW] * n,
        }
    )


def test_a_missing_table_is_an_empty_frame_of_its_schema(lake):
    for name in ("gold.scores", "silver.embeddings", "bronze.hpa_proteinatlas"):
        frame = lake.scan(name).collect()
        assert frame.height == 0
        assert frame.schema == table(name).schema
        assert lake.version(name) == -1
        assert lake.history(name) == []


def test_a_created_table_is_read_as_the_same_empty_frame(lake):
    lake.create("gold.scores", COMMIT)
    lake.create("gold.scores", COMMIT)
    assert lake.exists("gold.scores")
    assert lake.version("gold.scores") == 0
    assert lake.scan("gold.scores").collect().equals(table("gold.scores").empty())


def test_appended_rows_come_back_the_same(lake):
    first, second = outcomes("r1", 2), outcomes("r2")
    lake.append("audit.validations", first, COMMIT)
    lake.append("audit.validations", second, COMMIT)
    found = lake.scan("audit.validations").collect().sort("run_id", "expectation_id")
    assert found.equals(pl.concat([first, second]))


def test_polars_alone_reads_the_folder(lake, tmp_path):
    lake.append("audit.validations", outcomes("r1"), COMMIT)
    found = pl.scan_delta(str(tmp_path / "lake" / "audit" / "validations")).collect()
    assert found["run_id"].to_list() == ["r1"]


def test_replacing_a_partition_leaves_the_others(lake):
    lake.replace("silver.labels", labels("genomic"), COMMIT, {"family": "genomic"})
    lake.replace("silver.labels", labels("protein"), COMMIT, {"family": "protein"})
    lake.replace("silver.labels", labels("genomic", 2, "no"), COMMIT, {"family": "genomic"})
    found = lake.scan("silver.labels").collect()
    assert found.group_by("family", "label").len().sort("family").rows() == [
        ("genomic", "no", 2),
        ("protein", "yes", 3),
    ]


def test_an_empty_frame_empties_its_partition_only(lake):
    lake.replace("silver.labels", labels("genomic"), COMMIT, {"family": "genomic"})
    lake.replace("silver.labels", labels("protein"), COMMIT, {"family": "protein"})
    lake.replace("silver.labels", labels(n=0), COMMIT, {"family": "genomic"})
    assert lake.scan("silver.labels").collect()["family"].unique().to_list() == ["protein"]


def test_replacing_a_whole_partitioned_table_needs_an_empty_partition(lake):
    lake.replace("silver.labels", labels("genomic"), COMMIT, {"family": "genomic"})
    with pytest.raises(LakeError, match="replaced by partition; pass partition="):
        lake.replace("silver.labels", labels("protein"), COMMIT)
    lake.replace("silver.labels", labels("protein"), COMMIT, {})
    assert lake.scan("silver.labels").collect()["family"].unique().to_list() == ["protein"]


def test_rows_of_another_partition_are_refused(lake):
    both = pl.concat([labels("genomic"), labels("protein").with_columns(task_id=pl.lit("u"))])
    with pytest.raises(LakeError, match=r"family \['protein'\] do not belong"):
        lake.replace("silver.labels", both, COMMIT, {"family": "genomic"})
    assert not lake.exists("silver.labels")


def test_evidence_cannot_be_replaced_nor_a_whole_table_appended_to(lake):
    with pytest.raises(LakeError, match="is append-only: use append"):
        lake.replace("audit.validations", outcomes("r"), COMMIT)
    with pytest.raises(LakeError, match="only be replaced as a whole"):
        lake.append("silver.tasks", table("silver.tasks").empty(), COMMIT)


def test_a_partition_may_grow_by_appends(lake):
    lake.replace("silver.labels", labels(), COMMIT, {"family": "genomic"})
    more = labels(label="no")
    lake.append("silver.labels", more, COMMIT)
    assert lake.scan("silver.labels").collect().height == 6


def test_a_deleted_partition_stays_readable_in_the_version_before(lake):
    lake.replace("silver.labels", labels("genomic"), COMMIT, {"family": "genomic"})
    before = lake.replace("silver.labels", labels("protein"), COMMIT, {"family": "protein"})
    lake.delete("silver.labels", {"family": "protein"}, COMMIT)
    assert lake.scan("silver.labels").collect()["family"].unique().to_list() == ["genomic"]
    assert lake.scan("silver.labels", version=before).collect().height == 6


def test_deleting_needs_a_table_and_a_partition(lake):
    with pytest.raises(LakeError, match="does not exist yet"):
        lake.delete("silver.labels", {"family": "x"}, COMMIT)
    with pytest.raises(LakeError, match="name the partition"):
        lake.delete("silver.labels", {}, COMMIT)


def test_an_unknown_version_is_a_clear_error(lake):
    with pytest.raises(LakeError, match="no version 3"):
        lake.scan("silver.labels", version=3)
    lake.replace("silver.labels", labels(), COMMIT, {"family": "genomic"})
    with pytest.raises(LakeError, match="cannot open version 99"):
        lake.scan("silver.labels", version=99)


def test_the_history_says_who_wrote_and_from_what(lake):
    lake.append("audit.validations", outcomes("r1"), COMMIT)
    last = lake.history("audit.validations")[0]
    assert last["flow_run"] == "run1"
    assert last["code"] == "0.1.0"
    assert last["profile"] == "embedded"
    assert last["note"] == "x"
    assert json.loads(last["inputs"]) == {"silver.tasks": 3}
    assert len(lake.history("audit.validations")) == 2


def test_an_empty_append_makes_no_commit(lake):
    version = lake.append("audit.validations", outcomes("r1"), COMMIT)
    assert lake.append("audit.validations", outcomes("r1", 0), COMMIT) == version
    assert lake.version("audit.validations") == version


@pytest.mark.parametrize(
    "name",
    [
        "Blood concentration - Conc. blood IM [pg/L]",
        "a,b;c{d}(e)",
        "tab\there",
        "line\nbreak",
        "eq=uals",
        "dot.ted",
        "back`tick",
        "100%25",
        "Ünï çödé",
        'quo"te',
        "",
        " padded ",
    ],
)
def test_any_column_name_of_a_source_comes_back_the_same(lake, name):
    frame = pl.DataFrame({name: ["x", None], "row_number": [0, 1], "snapshot_id": ["s'1"] * 2})
    for _ in range(2):
        lake.replace("bronze.x_y", frame, COMMIT, {"snapshot_id": "s'1"})
    found = lake.scan("bronze.x_y").sort("row_number").collect()
    assert found.select(frame.columns).equals(frame)
    assert lake.scan("bronze.x_y").filter(pl.col(name) == "x").collect().height == 1


def test_snapshots_with_other_columns_share_a_table(lake):
    old = pl.DataFrame({"Gene": ["a"], "Old": ["1"], "row_number": [0], "snapshot_id": ["s1"]})
    new = pl.DataFrame({"New [x]": ["2"], "Gene": ["b"], "row_number": [0], "snapshot_id": ["s2"]})
    lake.replace("bronze.x_y", old, COMMIT, {"snapshot_id": "s1"})
    lake.replace("bronze.x_y", new, COMMIT, {"snapshot_id": "s2"})
    lake.replace("bronze.x_y", old, COMMIT, {"snapshot_id": "s1"})
    found = lake.scan("bronze.x_y").sort("snapshot_id").select("Gene", "Old", "New [x]").collect()
    assert found.rows() == [("a", "1", None), ("b", None, "2")]


def test_a_column_that_only_changes_its_case_between_snapshots_is_refused(lake):
    one = pl.DataFrame({"Gene": ["a"], "row_number": [0], "snapshot_id": ["s1"]})
    lake.replace("bronze.x_y", one, COMMIT, {"snapshot_id": "s1"})
    two = one.rename({"Gene": "gene"}).with_columns(snapshot_id=pl.lit("s2"))
    with pytest.raises(LakeError, match="'gene' differs only by case from 'Gene'"):
        lake.replace("bronze.x_y", two, COMMIT, {"snapshot_id": "s2"})


def test_vectors_come_back_as_one_contiguous_matrix(lake):
    matrix = np.random.default_rng(0).normal(size=(50, 7)).astype(np.float32)
    lake.replace("silver.embeddings", embeddings(matrix), COMMIT, {"encoder_id": "e"})
    found = lake.scan("silver.embeddings").sort(pl.col("entity_id").str.slice(5).cast(int))
    back = to_matrix(found.collect()["vector"])
    assert back.dtype == np.float32
    assert back.flags.c_contiguous
    assert np.array_equal(back, matrix)


def test_vectors_in_many_groups_of_rows_come_back_in_the_order_of_their_ids(lake, tmp_path):
    rng = np.random.default_rng(0)
    matrix = rng.normal(size=(9000, 3)).astype(np.float32)
    numbers = rng.permutation(9000)
    frame = embeddings(matrix).with_columns(entity_id=pl.Series([f"g:{n:04}" for n in numbers]))
    lake.replace("silver.embeddings", frame, COMMIT, {"encoder_id": "e"})
    (path,) = tmp_path.rglob("*.parquet")
    assert ParquetFile(path).num_row_groups == 3
    found = read_vectors(lake, "e")
    assert found.entity_ids == [f"g:{n:04}" for n in range(9000)]
    assert np.array_equal(found.matrix[numbers], matrix)


def test_an_array_column_is_written_as_a_list(lake):
    matrix = np.ones((4, 3), dtype=np.float32)
    frame = embeddings(matrix).with_columns(pl.col("vector").list.to_array(3))
    lake.replace("silver.embeddings", frame, COMMIT, {"encoder_id": "e"})
    found = lake.scan("silver.embeddings").collect()
    assert found.schema["vector"] == pl.List(pl.Float32)
    assert np.array_equal(to_matrix(found["vector"]), matrix)


def test_a_nan_in_a_vector_is_refused(lake):
    matrix = np.array([[1.0, np.nan]], dtype=np.float32)
    with pytest.raises(LakeError, match="'vector' has 1 NaN"):
        lake.replace("silver.embeddings", embeddings(matrix), COMMIT, {"encoder_id": "e"})
    assert not lake.exists("silver.embeddings")


@pytest.mark.parametrize(
    ("vectors", "words"),
    [
        (pl.Series([[1.0], [1.0, 2.0]]), "different dimensions"),
        (pl.Series([[1.0], None]), "1 of 2 vectors are missing"),
        (pl.Series([[1.0, None]]), "1 numbers inside"),
        (pl.Series([["a"]]), "not vectors of floats"),
        (pl.Series([1.0]), "not vectors of floats"),
    ],
)
def test_what_is_not_a_matrix_is_refused(vectors, words):
    with pytest.raises(LakeError, match=words):
        to_matrix(vectors)


def test_chunked_vectors_keep_their_order():
    matrix = np.arange(12, dtype=np.float32).reshape(4, 3)
    chunked = pl.concat([to_vectors(matrix[:1]), to_vectors(matrix[1:])], rechunk=False)
    assert np.array_equal(to_matrix(chunked), matrix)
    assert np.array_equal(to_matrix(chunked.filter([True, False, True, False])), matrix[::2])


def test_matrices_without_rows_or_columns_keep_their_rows():
    assert to_matrix(to_vectors(np.zeros((0, 5)))).shape[0] == 0
    assert to_matrix(to_vectors(np.zeros((3, 0)))).shape == (3, 0)
    with pytest.raises(LakeError, match="matrix"):
        to_vectors(np.zeros(3))


texts = st.text(st.characters(blacklist_categories=["Cs"]), max_size=8)


@settings(
    max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(
        st.tuples(
            texts,
            st.floats(allow_nan=False, allow_infinity=False),
            st.none() | texts,
            st.lists(texts, max_size=3),
        ),
        max_size=6,
    )
)
def test_a_written_table_reads_as_what_was_written(tmp_path_factory, rows):
    lake = Delta(tmp_path_factory.mktemp("lake"))
    n = len(rows)
    frame = outcomes("r", n).with_columns(
        pl.Series("run_id", [f"{row[0]}{number}" for number, row in enumerate(rows)], pl.String),
        pl.Series("observed", [row[2] for row in rows], pl.String),
        pl.Series("examples", [row[3] for row in rows], pl.List(pl.String)),
    )
    lake.append("audit.validations", frame, COMMIT)
    assert lake.scan("audit.validations").collect().sort("run_id").equals(frame.sort("run_id"))
    values = pl.DataFrame(
        {
            "family": ["f"] * n,
            "task_id": ["t"] * n,
            "sample_id": [f"{row[0]}{number}" for number, row in enumerate(rows)],
            "label": ["value"] * n,
            "value": [row[1] for row in rows],
            "status": [None] * len(rows),
        },
        schema=table("silver.labels").schema,
    )
    lake.replace("silver.labels", values, COMMIT, {"family": "f"})
    found = lake.scan("silver.labels").collect()
    assert found.sort("sample_id").equals(values.sort("sample_id"))


def test_two_writers_that_replace_an_empty_table_leave_the_rows_of_one(lake, monkeypatch):
    lake.create("silver.labels", COMMIT)
    written = []

    def write_second_first(found, rows, **options):
        """Another writer commits between this one's look at the table and its commit."""
        monkeypatch.undo()
        written.append(lake.replace("silver.labels", labels(label="second"), COMMIT, {}))
        return write_deltalake(found, rows, **options)

    monkeypatch.setattr("lakehouse.tables.delta.write_deltalake", write_second_first)
    lake.replace("silver.labels", labels(label="first"), COMMIT, {})
    assert written == [1]
    assert set(lake.scan("silver.labels").collect()["label"]) == {"first"}
    assert set(lake.scan("silver.labels", version=1).collect()["label"]) == {"second"}


@pytest.mark.parametrize("root", ["/proc/lake", "/dev/null/lake"])
def test_a_place_that_cannot_be_written_is_a_clear_error(root):
    with pytest.raises(LakeError, match=r"GENEBENCH_LAKE|writable"):
        Delta(root).append("audit.validations", outcomes("r"), COMMIT)


@pytest.mark.parametrize("root", ["gs://bucket/lake", "az://bucket/lake", "file:///lake"])
def test_a_lake_on_a_store_other_than_s3_is_refused_at_once(root):
    with pytest.raises(LakeError, match=rf"{root}: S3 is the only supported object store"):
        Delta(root)


def test_a_lake_that_is_a_file_is_refused_at_once(tmp_path):
    (tmp_path / "lake").write_text("not a folder")
    with pytest.raises(LakeError, match="lake is a file; set GENEBENCH_LAKE"):
        Delta(tmp_path / "lake")


@pytest.mark.parametrize("name", ["my lake", "läke", "湖", "lake#1", "{lake}*?", "100% lake"])
def test_a_lake_may_lie_below_any_readable_name(tmp_path, name):
    lake = Delta(tmp_path / name / "lake")
    lake.append("silver.labels", labels("genomic"), COMMIT)
    lake.replace("silver.labels", labels("protein"), COMMIT, {"family": "protein"})
    lake.replace("silver.labels", labels("protein", 5), COMMIT, {"family": "protein"})
    lake.append("silver.labels", labels("two words"), COMMIT)
    found = lake.scan("silver.labels").collect()
    assert dict(found.group_by("family").len().rows()) == {
        "genomic": 3,
        "protein": 5,
        "two words": 3,
    }
    assert lake.scan("silver.labels", version=2).collect().height == 6
    compact_table(lake, "silver.labels", COMMIT, max_files=1)
    vacuum_table(lake, "silver.labels")
    assert lake.scan("silver.labels").filter(pl.col("family") == "protein").collect().height == 5


@pytest.mark.parametrize("name", ["[lake]", "run=3", "a|b", "a^b", "a\\b", "my%20lake"])
def test_a_folder_whose_name_the_tables_cannot_have_is_refused_at_once(tmp_path, name):
    with pytest.raises(
        LakeError, match=r"do not support .* in their path; set GENEBENCH_LAKE to another folder"
    ):
        Delta(tmp_path / name / "lake")


def test_a_table_of_something_else_is_neither_read_nor_written(lake, tmp_path):
    other = tmp_path / "lake" / "silver" / "labels"
    pl.DataFrame({"family": ["f"], "value": ["text"], "other": [1]}).write_delta(other)
    with pytest.raises(LakeError, match=r"not silver\.labels as declared .*other"):
        lake.scan("silver.labels")
    with pytest.raises(LakeError, match=r"not silver\.labels as declared"):
        lake.replace("silver.labels", labels(), COMMIT, {"family": "genomic"})
    assert pl.read_delta(str(other)).columns == ["family", "value", "other"]


def evaluations(key: str) -> pl.DataFrame:
    declared = table("gold.evaluations")
    row = {"evaluation_key": key, "status": "ok", "seconds": 1.0, "solver": "lbfgs"}
    given = {name: [row.get(name)] for name in declared.columns}
    for name, column in declared.columns.items():
        if given[name] == [None] and not column.is_nullable:
            given[name] = [{"str": "x", "ts": NOW}.get(column.type, 1)]
    return pl.DataFrame(given, schema=declared.schema)


def test_a_table_made_before_a_column_was_declared_gains_it(lake, tmp_path):
    folder = tmp_path / "lake" / "gold" / "evaluations"
    new = ["solver", "gradient_norm"]
    options = {"partition_by": list(table("gold.evaluations").partition)}
    evaluations("old").drop(new).write_delta(folder, delta_write_options=options)
    old = lake.scan("gold.evaluations").collect()
    assert old.schema == table("gold.evaluations").schema
    assert old.select(new).row(0) == (None, None)

    lake.append("gold.evaluations", evaluations("new"), COMMIT)
    both = lake.scan("gold.evaluations").sort("evaluation_key").collect()
    assert both.schema == table("gold.evaluations").schema
    assert both.select("evaluation_key", "solver").rows() == [("new", "lbfgs"), ("old", None)]
    assert lake.scan("gold.evaluations", version=0).collect().equals(old)


def test_a_table_that_lacks_a_column_of_every_row_is_refused(lake, tmp_path):
    folder = tmp_path / "lake" / "gold" / "evaluations"
    options = {"partition_by": list(table("gold.evaluations").partition)}
    evaluations("old").drop("seconds").write_delta(folder, delta_write_options=options)
    with pytest.raises(LakeError, match=r"as declared \(differs in: seconds\)"):
        lake.append("gold.evaluations", evaluations("new"), COMMIT)


def test_a_table_with_a_damaged_log_is_a_clear_error(lake, tmp_path):
    lake.append("audit.validations", outcomes("r1"), COMMIT)
    for entry in (tmp_path / "lake/audit/validations/_delta_log").glob("*.json"):
        entry.write_text("{broken")
    with pytest.raises(LakeError, match=r"audit\.validations"):
        lake.scan("audit.validations").collect()


def test_tables_are_listed_in_the_order_of_the_catalogue(lake):
    frame = pl.DataFrame({"Gene": ["a"], "row_number": [0], "snapshot_id": ["s"]})
    lake.append("audit.validations", outcomes("r1"), COMMIT)
    lake.replace("silver.labels", labels(), COMMIT, {"family": "genomic"})
    lake.replace("bronze.hpa_proteinatlas", frame, COMMIT, {"snapshot_id": "s"})
    Path(lake.storage.uri("gold", "scratch")).mkdir(parents=True)
    assert lake.list_tables() == ["bronze.hpa_proteinatlas", "silver.labels", "audit.validations"]


def test_compaction_joins_the_files_of_a_partition_with_many_and_loses_nothing(lake):
    for number in range(4):
        lake.append("audit.validations", outcomes(f"r{number}"), COMMIT)
    before = lake.scan("audit.validations").collect().sort("run_id")
    assert count_files(lake, "audit.validations") == 4
    assert compact_table(lake, "audit.validations", COMMIT, max_files=4) == 0
    assert compact_table(lake, "audit.validations", COMMIT, max_files=3) == 4
    assert count_files(lake, "audit.validations") == 1
    assert lake.scan("audit.validations").collect().sort("run_id").equals(before)
    assert compact_table(lake, "gold.scores", COMMIT, max_files=0) == 0


def test_compacted_vectors_have_the_parquet_settings_of_written_ones(lake):
    where = {"encoder_id": "e"}
    for number in range(2):
        matrix = np.full((5, 16), number, dtype=np.float32)
        lake.append("silver.embeddings", embeddings(matrix), COMMIT)
    assert compact_table(lake, "silver.embeddings", COMMIT, max_files=1) == 2
    files = lake.partition_files("silver.embeddings", where)
    assert files
    assert len(files) == 1
    matrix = read_lists(files, "vector")
    assert matrix is not None
    assert sorted(matrix[:, 0].tolist()) == [0.0] * 5 + [1.0] * 5


def test_vacuum_removes_what_killed_writers_left_and_keeps_old_versions(lake, tmp_path):
    version = lake.replace("silver.labels", labels(), COMMIT, {"family": "genomic"})
    lake.replace("silver.labels", labels(n=1), COMMIT, {"family": "genomic"})
    folder = tmp_path / "lake" / "silver" / "labels"
    orphan = folder / "family=genomic" / "part-00000-dead.parquet"
    orphan.write_bytes(b"half")
    old = time.time() - 40 * 24 * 3600
    os.utime(orphan, (old, old))
    assert vacuum_table(lake, "silver.labels", is_dry=True) == 1
    assert orphan.exists()
    assert vacuum_table(lake, "silver.labels") == 1
    assert not orphan.exists()
    assert lake.scan("silver.labels", version=version).collect().height == 3
    assert vacuum_table(lake, "gold.scores") == 0


def test_a_vacuum_keeps_the_last_version_of_each_day_and_those_that_runs_recorded():
    def at(version, day, hour):
        when = dt.datetime(2026, 1, day, hour, tzinfo=dt.UTC)
        return {"version": version, "timestamp": int(when.timestamp() * 1000)}

    history = [at(4, 3, 9), at(3, 2, 23), at(2, 2, 10), at(1, 2, 9), at(0, 1, 9)]
    assert list_kept_versions(history, {1}) == [0, 1, 3, 4]


@pytest.mark.parametrize("name", [name for name in TABLES if TABLES[name].mode == "append-only"])
def test_append_only_tables_refuse_every_removal(lake, name):
    lake.create(name, COMMIT)
    where = dict.fromkeys(table(name).partition, "x")
    with pytest.raises(LakeError, match="append-only"):
        lake.delete(name, where, COMMIT)
    row = filled(name, [{}])
    lake.append(name, row, COMMIT)
    found = DeltaTable(lake.storage.uri(table(name).path))
    with pytest.raises(CommitFailedError, match="append-only"):
        found.delete()
    assert lake.scan(name).collect().height == 1


def test_an_append_makes_a_table_of_an_earlier_version_append_only_again(lake):
    lake.append("audit.validations", outcomes("r1"), COMMIT)
    found = DeltaTable(lake.storage.uri("audit/validations"))
    found.alter.set_table_properties({"delta.appendOnly": "false"})
    lake.append("audit.validations", outcomes("r2"), COMMIT)
    with pytest.raises(CommitFailedError, match="append-only"):
        DeltaTable(lake.storage.uri("audit/validations")).delete()


def append_many(root: str, name: str, n: int) -> None:
    for number in range(n):
        Delta(root).append("audit.validations", outcomes(f"{name}-{number}"), COMMIT)


def replace_many(root: str, label: str, n: int) -> None:
    for _ in range(n):
        Delta(root).replace("silver.labels", labels(label=label), COMMIT, {"family": "genomic"})


def run_together(target, arguments) -> None:
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=target, args=given) for given in arguments]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    assert [worker.exitcode for worker in workers] == [0] * len(workers)


@pytest.mark.slow
def test_processes_that_append_at_once_lose_nothing(lake, tmp_path):
    root = str(tmp_path / "lake")
    run_together(append_many, [(root, name, 8) for name in "ab"])
    assert lake.scan("audit.validations").collect()["run_id"].n_unique() == 16


@pytest.mark.slow
def test_processes_that_replace_one_partition_leave_one_of_theirs(lake, tmp_path):
    root = str(tmp_path / "lake")
    run_together(replace_many, [(root, label, 6) for label in ("yes", "no")])
    found = lake.scan("silver.labels").collect()
    assert found.height == 3
    assert found["label"].n_unique() == 1


HERE = Path(__file__).parents[:2]
KILLED = """
import sys
import numpy as np
sys.path[:0] = sys.argv[2:]
from test_delta import COMMIT, embeddings
from lakehouse.tables.delta import Delta
lake = Delta(sys.argv[1])
matrix = np.random.default_rng(1).normal(size=(20000, 512)).astype(np.float32)
frame = embeddings(matrix)
print("ready", flush=True)
while True:
    lake.replace("silver.embeddings", frame, COMMIT, {"encoder_id": "e"})
"""


@pytest.mark.slow
def test_a_writer_killed_in_mid_write_leaves_the_table_readable(lake, tmp_path):
    small = embeddings(np.ones((5, 2), dtype=np.float32))
    lake.replace("silver.embeddings", small, COMMIT, {"encoder_id": "e"})
    command = [sys.executable, "-c", KILLED, str(tmp_path / "lake"), *map(str, HERE)]
    for delay in (0.15, 0.4, 0.8):
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as writer:
            assert writer.stdout is not None
            assert writer.stdout.readline() == "ready\n"
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
        found = lake.scan("silver.embeddings").select("entity_id", "dimension").collect()
        assert (found.height, found["dimension"][0]) in [(5, 2), (20000, 512)]
        lake.replace("silver.embeddings", small, COMMIT, {"encoder_id": "e"})
        assert lake.scan("silver.embeddings").collect().height == 5


def test_the_commit_that_creates_a_table_carries_no_lineage(lake, monkeypatch):
    def stop(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("lakehouse.tables.delta.write_deltalake", stop)
    with pytest.raises(KeyboardInterrupt):
        lake.replace("silver.embeddings", embeddings(np.ones((5, 2))), COMMIT, {"encoder_id": "e"})
    (created,) = lake.history("silver.embeddings")
    assert created["flow_run"] == COMMIT.flow_run
    assert "note" not in created
    assert json.loads(created["inputs"]) == {}


def test_a_lake_in_an_object_store_behaves_like_one_in_a_folder(bucket):
    lake = Delta("s3://lakes/tables", bucket)
    assert lake.scan("silver.labels").collect().height == 0
    lake.replace("silver.labels", labels("genomic"), COMMIT, {"family": "genomic"})
    lake.replace("silver.labels", labels("protein"), COMMIT, {"family": "protein"})
    lake.replace("silver.labels", labels("genomic", 1), COMMIT, {"family": "genomic"})
    lake.append("audit.validations", outcomes("r1"), COMMIT)
    assert lake.scan("silver.labels").collect().height == 4
    assert lake.list_tables() == ["silver.labels", "audit.validations"]
    assert lake.history("audit.validations")[0]["flow_run"] == "run1"
    lake.delete("silver.labels", {"family": "protein"}, COMMIT)
    assert lake.scan("silver.labels").collect()["family"].to_list() == ["genomic"]


@pytest.mark.parametrize("spelling", ["short", "lower", "environment"])
def test_tables_and_files_read_the_options_of_an_object_store_alike(
    bucket, spelling, monkeypatch, tmp_path
):
    if spelling == "environment":
        for name, value in bucket.items():
            monkeypatch.setenv(name, value)
        options = {}
    else:
        names = {"AWS_ENDPOINT_URL": "endpoint", "AWS_REGION": "default_region"}
        options = {
            names.get(name, name.removeprefix("AWS_")).lower(): value
            for name, value in bucket.items()
        }
        if spelling == "lower":
            options = {f"aws_{name}": value for name, value in options.items()}
    root = f"s3://lakes/options-{spelling}"
    Delta(root, options).append("audit.validations", outcomes("r1"), COMMIT)
    part = tmp_path / "part"
    part.write_bytes(b"rows")
    sha256, _ = Blobs(Storage(root, options)).store(part)
    assert Blobs(Storage(root, bucket)).is_stored(sha256)
    assert Delta(root, bucket).scan("audit.validations").collect()["run_id"].to_list() == ["r1"]


def test_an_object_store_without_the_bucket_is_a_clear_error(bucket):
    with pytest.raises(LakeError, match=r"silver\.labels"):
        Delta("s3://nowhere/lake", bucket).replace(
            "silver.labels", labels(), COMMIT, {"family": "genomic"}
        )
