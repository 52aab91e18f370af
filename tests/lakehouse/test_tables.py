"""The declared tables, and the check of frames against them."""

import datetime as dt

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genebench.errors import LakeError
from lakehouse.tables.catalogue import TABLES, bronze_table, render_tables, table
from lakehouse.tables.schema import conform, parse_columns, partition_predicate

LABELS = {"family": "f", "task_id": "t", "sample_id": "hgnc:1", "label": "yes", "value": 1.0}
LABELS |= {"status": None}


def labels(n: int = 3) -> pl.DataFrame:
    rows = [LABELS | {"sample_id": f"hgnc:{number}"} for number in range(n)]
    return pl.DataFrame(rows, schema_overrides={"status": pl.String})


def test_keys_partitions_and_vocabularies_are_columns_of_their_table():
    for declared in TABLES.values():
        named = {*declared.key, *declared.partition, *declared.vocabularies}
        assert named <= set(declared.columns), declared.name
        assert declared.key, declared.name
        assert not any(declared.columns[name].is_nullable for name in declared.key)
        assert all(declared.columns[name].type == "str" for name in declared.partition)
        assert (declared.mode == "replace partition") <= bool(declared.partition)


def test_column_names_follow_the_house_rules():
    for declared in TABLES.values():
        for name, column in declared.columns.items():
            if name.endswith(("_id", "_digest", "_key")):
                assert column.type == "str", f"{declared.name}.{name}"
            if name.endswith("_at"):
                assert column.type == "ts", f"{declared.name}.{name}"
            if name.startswith("n_"):
                assert column.type in ("i32", "i64"), f"{declared.name}.{name}"
            if name.startswith(("is_", "has_")):
                assert column.type == "bool", f"{declared.name}.{name}"


def test_the_same_column_has_the_same_type_in_every_table():
    types: dict[str, set[str]] = {}
    for declared in TABLES.values():
        for name, column in declared.columns.items():
            types.setdefault(name, set()).add(column.type)
    # A prediction is kept in half the space of a score.
    assert {name for name, found in types.items() if len(found) > 1} == {"value"}


def test_bronze_tables_are_resolved_by_name():
    declared = table("bronze.hpa_proteinatlas")
    assert declared == bronze_table("hpa", "proteinatlas")
    assert declared.allows_extra_columns
    assert declared.path == "bronze/hpa_proteinatlas"
    assert declared.schema == {"row_number": pl.Int64, "snapshot_id": pl.String}


@pytest.mark.parametrize(
    ("name", "suggestion"),
    [
        ("gold.score", "gold.scores"),
        ("bronze.snapshot", "bronze.snapshots"),
        ("silver.label", "silver.labels"),
        ("scores", "gold.scores"),
        ("xyz", "tables: bronze.snapshots"),
    ],
)
def test_an_unknown_table_is_refused_with_a_suggestion(name, suggestion):
    with pytest.raises(LakeError, match=suggestion):
        table(name)


def test_an_unknown_column_type_is_refused():
    with pytest.raises(LakeError, match="unknown type 'u8'"):
        parse_columns("a str, b u8")


def test_the_table_of_tables_names_each_with_its_key():
    text = render_tables()
    for declared in TABLES.values():
        line = next(line for line in text.splitlines() if f"`{declared.name}`" in line)
        assert ", ".join(declared.key) in line
        assert declared.mode in line
    assert "`bronze.{source}_{file}`" in text


def test_a_frame_gets_the_declared_order_and_types():
    frame = labels().select("value", "label", "sample_id", "task_id", "family", "status")
    fitted = conform(table("silver.labels"), frame)
    assert fitted.schema == table("silver.labels").schema
    assert fitted.height == 3


@pytest.mark.parametrize(
    ("column", "words"),
    [
        (pl.lit(None).alias("label"), "null|Null"),
        (pl.lit(3).alias("label"), "Int32|Int64"),
        (pl.lit(float("nan")).alias("value"), "NaN"),
        (pl.lit(float("inf")).alias("value"), "infinite"),
        (pl.lit("1.0").alias("value"), "declared Float64"),
        (pl.lit(1).alias("value"), "declared Float64"),
        (pl.lit("hgnc:7").alias("sample_id"), "more than once"),
        (pl.lit(1).alias("surprise"), "unknown surprise"),
    ],
)
def test_a_frame_that_does_not_fit_is_refused_with_the_column(column, words):
    with pytest.raises(LakeError, match=words) as caught:
        conform(table("silver.labels"), labels().with_columns(column))
    assert "silver.labels" in str(caught.value)


def test_a_missing_column_is_named():
    with pytest.raises(LakeError, match="lacks label, value"):
        conform(table("silver.labels"), labels().drop("label", "value"))


def test_the_message_about_nulls_has_the_keys_of_their_rows():
    frame = labels().with_columns(
        value=pl.when(pl.col("sample_id") == "hgnc:1").then(None).otherwise(1.0)
    )
    with pytest.raises(LakeError, match=r"null in 1 of 3 rows.*t \| hgnc:1 \| yes"):
        conform(table("silver.labels"), frame)


def test_a_repeated_key_is_shown():
    with pytest.raises(LakeError, match=r"task_id, sample_id, label.*t \| hgnc:0 \| yes"):
        conform(table("silver.labels"), pl.concat([labels(), labels(1)]))


def test_an_integer_that_the_declared_width_cannot_hold_is_refused():
    samples = pl.DataFrame(
        {
            "family": ["f"],
            "task_id": ["t"],
            "sample_id": ["a"],
            "position": [300],
            "entity_type": ["gene"],
            "entity_id": ["a"],
        }
    )
    with pytest.raises(LakeError, match="300"):
        conform(table("silver.samples"), samples)
    fitted = conform(table("silver.samples"), samples.with_columns(position=pl.lit(2, pl.UInt64)))
    assert fitted["position"].dtype == pl.Int8


def test_what_loses_nothing_is_converted():
    at = dt.datetime(2026, 1, 1, 12, tzinfo=dt.timezone(dt.timedelta(hours=2)))
    frame = pl.DataFrame(
        {
            "table_name": pl.Series(["gold.scores"], dtype=pl.Categorical),
            "expectation_id": ["a"],
            "severity": pl.Series(["critical"], dtype=pl.Enum(["critical", "warning"])),
            "is_met": [True],
            "has_raised": [False],
            "observed": [None],
            "n_unexpected": pl.Series([3], dtype=pl.UInt8),
            "examples": [[]],
            "run_id": ["r"],
            "validated_at": pl.Series([at]).dt.cast_time_unit("ns"),
            "is_skipped": [None],
        }
    )
    fitted = conform(table("audit.validations"), frame)
    assert fitted.schema == table("audit.validations").schema
    assert fitted["validated_at"][0] == at


def test_a_naive_time_is_refused_because_its_zone_is_unknown():
    frame = table("bronze.snapshots").empty()
    naive = frame.with_columns(retrieved_at=pl.lit(None, pl.Datetime("us")))
    with pytest.raises(LakeError, match="retrieved_at"):
        conform(table("bronze.snapshots"), naive)


def test_names_that_differ_only_by_case_are_refused():
    frame = pl.DataFrame({"row_number": [0], "snapshot_id": ["s"], "Gene": ["a"], "gene": ["b"]})
    with pytest.raises(LakeError, match="'Gene' and 'gene' differ only by case"):
        conform(table("bronze.x_y"), frame)


def test_a_raw_column_that_is_not_text_is_refused():
    frame = pl.DataFrame({"row_number": [0], "snapshot_id": ["s"], "Length": [5]})
    with pytest.raises(LakeError, match="'Length' is Int64, declared String"):
        conform(table("bronze.x_y"), frame)


@given(st.text(max_size=20))
def test_a_partition_value_is_quoted_in_the_predicate(value):
    predicate = partition_predicate(table("silver.labels"), {"family": value})
    assert predicate is not None
    quoted = predicate.removeprefix("family = '").removesuffix("'")
    assert quoted.replace("''", "'") == value
    assert quoted.replace("''", "").count("'") == 0


def test_an_unknown_partition_column_is_refused():
    with pytest.raises(LakeError, match="not partitioned by task_id, but by family"):
        partition_predicate(table("silver.labels"), {"task_id": "x"})
