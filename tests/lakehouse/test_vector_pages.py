"""Vectors read from Parquet pages equal those of a Parquet reader, or None is returned."""

from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from blanks import filled
from deltalake import DeltaTable
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from lakehouse.embed.stored_vectors import read_stored_matrix, read_vectors
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.delta import Delta
from lakehouse.tables.vector_pages import read_lists
from lakehouse.tables.vectors import to_vectors

COMMIT = Commit("r1", "test", {}, "embedded")
ANY_FOLDER = settings(
    deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60
)


def draw(n: int, width: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, width)).astype(np.float32)


def embeddings(matrix: np.ndarray, entity_type: str = "gene", begin: int = 0) -> pl.DataFrame:
    who = {"encoder_id": "e", "entity_type": entity_type, "dimension": matrix.shape[1]}
    ids = (f"{entity_type}:{begin + number}" for number in range(len(matrix)))
    rows = filled("silver.embeddings", [who | {"entity_id": entity_id} for entity_id in ids])
    return rows.with_columns(vector=to_vectors(matrix))


def store(folder: Path, *frames: pl.DataFrame) -> Delta:
    """A lake with each frame in a file of its own."""
    lake = Delta(folder / "lake")
    for frame in frames:
        lake.append("silver.embeddings", frame, COMMIT)
    return lake


def files(lake: Delta) -> list[Path]:
    found = lake.partition_files("silver.embeddings", {"encoder_id": "e"})
    assert found
    return found


def decoded(paths: list[Path]) -> list[list[float] | None]:
    """What a reader of Parquet finds."""
    return [row for path in paths for row in pl.read_parquet(path)["vector"].to_list()]


@pytest.mark.slow
@ANY_FOLDER
@given(
    heights=st.lists(st.integers(1, 700), min_size=1, max_size=3),
    width=st.integers(2, 90).map(lambda eights: 8 * eights),
    seed=st.integers(0, 99),
)
def test_what_the_lake_wrote_is_read_from_its_pages(tmp_path_factory, heights, width, seed):
    folder = tmp_path_factory.mktemp("pages")
    lake = store(folder, *(embeddings(draw(n, width, seed + i)) for i, n in enumerate(heights)))
    paths = files(lake)
    assert len(paths) == len(heights)
    matrix = read_lists(paths, "vector")
    assert matrix is not None
    assert matrix.dtype == np.float32
    assert matrix.flags.c_contiguous
    assert matrix.tolist() == decoded(paths)


def test_many_pages_and_groups_of_rows_are_joined(tmp_path):
    matrix = draw(9000, 256)
    (path,) = files(store(tmp_path, embeddings(matrix)))
    assert parquet.read_metadata(path).num_row_groups == 3
    assert np.array_equal(read_lists([path], "vector"), matrix)


@ANY_FOLDER
@given(
    n=st.integers(1, 300),
    width=st.sampled_from([8, 15, 16, 24, 64]),
    compression=st.sampled_from(["none", "snappy", "zstd"]),
    has_dictionary=st.booleans(),
    version=st.sampled_from(["1.0", "2.0"]),
    page_bytes=st.sampled_from([100, 1000, 1 << 20]),
    n_group=st.sampled_from([7, 100, 1000]),
    kind=st.sampled_from([pa.float32(), pa.float64()]),
)
def test_files_of_other_writers_are_read_rightly_or_not_at_all(
    tmp_path_factory, n, width, compression, has_dictionary, version, page_bytes, n_group, kind
):
    path = tmp_path_factory.mktemp("pages") / "other.parquet"
    rows = pa.table({"vector": pa.array(draw(n, width).tolist(), pa.list_(kind))})
    parquet.write_table(
        rows, path, compression=compression, use_dictionary=has_dictionary,
        data_page_version=version, data_page_size=page_bytes, row_group_size=n_group,
    )  # fmt: skip
    matrix = read_lists([path], "vector")
    assert matrix is None or matrix.tolist() == decoded([path])


FULL = [1.0] * 24
UNEVEN = {
    "a list that is missing": [FULL, None, FULL],
    "a list that is empty": [FULL, [], FULL],
    "a number that is missing": [FULL, [None, *FULL[1:]], FULL],
    "lists of two widths": [FULL, FULL[:16], FULL],
    "lists of two widths that are a matrix's numbers": [FULL[:16], [*FULL, *FULL[:8]], FULL],
    "lists of an odd width": [FULL[:17], FULL[:17]],
    "no lists": [],
}


@pytest.mark.parametrize("lists", UNEVEN.values(), ids=UNEVEN.keys())
def test_lists_that_are_no_matrix_are_not_read(tmp_path, lists):
    path = tmp_path / "uneven.parquet"
    rows = pa.table({"vector": pa.array(lists, pa.list_(pa.float32()))})
    parquet.write_table(rows, path, compression="none", use_dictionary=False)
    assert read_lists([path], "vector") is None


def test_files_of_different_widths_are_not_read_together(tmp_path):
    paths = files(store(tmp_path, embeddings(draw(5, 16)), embeddings(draw(5, 32), begin=5)))
    assert all(read_lists([path], "vector") is not None for path in paths)
    assert read_lists(paths, "vector") is None


def test_a_column_that_is_not_there_or_no_list_is_not_read(tmp_path):
    paths = files(store(tmp_path, embeddings(draw(5, 16))))
    assert read_lists(paths, "vectors") is None
    assert read_lists(paths, "entity_id") is None


def test_no_byte_of_headers_and_levels_may_differ(tmp_path):
    """Every byte between the pages' numbers, changed by itself."""
    matrix = draw(3, 16)
    (path,) = files(store(tmp_path, embeddings(matrix)))
    described = parquet.read_metadata(path)
    names = [described.schema.column(i).path for i in range(described.num_columns)]
    chunk = described.row_group(0).column(names.index("vector.list.element"))
    begin, whole = chunk.data_page_offset, path.read_bytes()
    end = begin + chunk.total_compressed_size - matrix.nbytes
    assert whole[end : end + matrix.nbytes] == matrix.tobytes()
    for position in range(begin, end):
        damaged = bytearray(whole)
        damaged[position] ^= 0x01
        path.write_bytes(damaged)
        assert read_lists([path], "vector") is None, position - begin


def test_stored_vectors_of_one_type_are_those_of_its_rows(tmp_path):
    genes, diseases = draw(40, 32), draw(20, 32, seed=1)
    lake = store(tmp_path, embeddings(genes), embeddings(diseases, "disease"))
    rows, matrix = read_stored_matrix(lake, "e", "disease")
    assert rows["entity_type"].unique().to_list() == ["disease"]
    assert np.array_equal(matrix, diseases[rows["entity_id"].str.slice(8).cast(int).to_numpy()])
    assert read_stored_matrix(lake, "e")[1].shape == (60, 32)


def test_vectors_come_in_the_order_of_their_ids_however_they_are_read(tmp_path):
    for width in (16, 17):
        matrix = draw(300, width)
        lake = store(tmp_path / str(width), embeddings(matrix))
        found = read_vectors(lake, "e", "gene")
        order = np.argsort(np.array([f"gene:{number}" for number in range(300)]))
        assert found.entity_ids == sorted(found.entity_ids)
        assert np.array_equal(found.matrix, matrix[order])


def test_a_partition_that_was_replaced_has_its_new_files_only(tmp_path):
    lake = store(tmp_path, embeddings(draw(50, 16)))
    new = draw(30, 16, seed=1)
    lake.replace("silver.embeddings", embeddings(new), COMMIT, {"encoder_id": "e"})
    assert np.array_equal(read_stored_matrix(lake, "e")[1], new)
    assert lake.partition_files("silver.embeddings", {"encoder_id": "other"}) == []


def test_tables_that_need_a_reader_of_delta_have_no_partition_files(tmp_path):
    lake = store(tmp_path, embeddings(draw(5, 16)))
    uri = lake.storage.uri(table("silver.embeddings").path)
    DeltaTable(uri).alter.set_table_properties({"delta.enableDeletionVectors": "true"})
    assert DeltaTable(uri).protocol().min_reader_version > 1
    assert lake.partition_files("silver.embeddings", {"encoder_id": "e"}) is None
    assert (
        Delta(tmp_path / "none").partition_files("silver.embeddings", {"encoder_id": "e"}) is None
    )


def test_a_file_in_another_layout_is_not_skipped_beside_files_in_ours(tmp_path):
    matrix = draw(5, 16)
    (ours,) = files(store(tmp_path, embeddings(matrix)))
    other = tmp_path / "other.parquet"
    rows = pa.table({"vector": pa.array(draw(5, 16, 1).tolist(), pa.list_(pa.float32()))})
    parquet.write_table(
        rows, other, compression="none", use_dictionary=False, use_compliant_nested_type=False
    )
    assert read_lists([ours], "vector") is not None
    assert read_lists([ours, other], "vector") is None
    assert read_lists([other, ours], "vector") is None
