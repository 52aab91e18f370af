"""Validation reports: rejection, audit rows, quarantine, messages and running time."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from expectations import check_frame, related_tables
from expectations.check_context import describe_vectors
from expectations.outcomes import require_met
from genebench.errors import ExpectationFailed, LakeError
from lakehouse.tables.catalogue import table
from lakehouse.tables.vectors import to_vectors


@pytest.fixture
def entities(sound) -> pl.DataFrame:
    return sound["silver.entities"]


def spoil(frame: pl.DataFrame) -> pl.DataFrame:
    """Put a blank before the first three symbols."""
    padded = pl.lit(" ") + pl.col("symbol")
    is_first = pl.int_range(pl.len()) < 3
    return frame.with_columns(pl.when(is_first).then(padded).otherwise("symbol").alias("symbol"))


@pytest.mark.slow
def test_a_critical_failure_rejects_the_frame_and_lists_examples(entities):
    report = check_frame("silver.entities", spoil(entities))
    assert not report.is_met
    with pytest.raises(ExpectationFailed) as caught:
        require_met([report])
    message = str(caught.value)
    assert "silver.entities" in message
    assert "symbol_is_a_word: 3 of 40 rows" in message
    assert "audit.quarantine" in message


def test_the_error_names_the_unmet_expectations_of_all_tables_that_are_written_together(sound):
    xrefs = sound["silver.xrefs"]
    reports = [
        check_frame("silver.xrefs", xrefs.drop("namespace")),
        check_frame("silver.tasks", sound["silver.tasks"]),
        check_frame("silver.entities", spoil(sound["silver.entities"])),
    ]
    with pytest.raises(ExpectationFailed) as caught:
        require_met(reports)
    message = str(caught.value)
    assert "rows of silver.xrefs and silver.tasks and silver.entities were not written" in message
    assert "silver.xrefs, columns_are_as_declared: " in message
    assert "silver.entities, symbol_is_a_word: 3 of 40 rows" in message
    n_rows = sum(report.n_rows for report in reports)
    n_unmet = sum(one.severity == "critical" for report in reports for one in report.failures)
    assert message.startswith(f"{n_unmet} critical expectations are not met; the {n_rows:,} new")
    require_met(reports[1:2])


def test_a_warning_accepts_the_frame_and_is_reported(entities):
    report = check_frame("silver.entities", entities.head(30), previous=entities)
    assert [outcome.expectation_id for outcome in report.failures] == ["few_entities_vanish"]
    assert report.is_met
    require_met([report])
    assert "few_entities_vanish" in report.to_markdown()
    assert "accepted" in report.to_markdown()


def test_an_expectation_that_raises_is_marked_and_rejects_the_frame(entities):
    report = check_frame("silver.entities", entities.drop("symbol"))
    raised = {outcome.expectation_id: outcome for outcome in report.raised}
    assert {"symbol_is_a_word", "few_symbols_repeat"} <= raised.keys()
    assert all(outcome.n_unexpected is None and not outcome.is_met for outcome in raised.values())
    assert "symbol" in str(raised["symbol_is_a_word"].observed)
    declared = next(o for o in report.failures if o.expectation_id == "columns_are_as_declared")
    assert not declared.has_raised
    assert declared.examples == ("symbol | String | None",)
    assert "could not be evaluated" in report.to_markdown()


def test_a_column_of_a_wrong_type_does_not_break_the_other_checks(entities):
    report = check_frame("silver.entities", entities.with_columns(symbol=pl.lit(7)))
    failed = {outcome.expectation_id for outcome in report.failures}
    assert "columns_are_as_declared" in failed
    assert "entity_id_is_a_curie" not in failed


@pytest.mark.parametrize("vector", [["a"], "a", [True]])
def test_vectors_of_a_wrong_type_do_not_break_the_other_checks(sound, vector):
    spoilt = sound["silver.embeddings"].with_columns(vector=pl.lit(vector))
    report = check_frame("silver.embeddings", spoilt)
    failed = {outcome.expectation_id for outcome in report.failures}
    assert "columns_are_as_declared" in failed
    assert "key_is_unique" not in failed


def test_unexpected_rows_are_counted_with_their_repeats(sound):
    labels = sound["silver.labels"].with_columns(label=pl.lit(" x"))
    outcome = next(
        one for one in check_frame("silver.labels", labels).failures
        if one.expectation_id == "label_is_a_word"
    )  # fmt: skip
    assert outcome.n_unexpected == labels.height
    assert outcome.examples == (" x",)


def test_a_column_that_cannot_even_be_matched_raises_apart(sound):
    frame = sound["gold.releases"].with_columns(evaluation_key=pl.date(2026, 1, 1))
    raised = {one.expectation_id for one in check_frame("gold.releases", frame).raised}
    assert raised == {"evaluation_key_is_a_digest"}


def test_what_lacks_a_table_to_compare_is_listed_as_skipped(entities):
    report = check_frame("silver.entities", entities)
    assert set(report.skipped) == {"few_entities_vanish", "few_symbols_change"}
    assert "few_entities_vanish" in report.to_markdown()
    rows = report.to_frame("r1").filter(pl.col("is_skipped"))
    assert set(rows["expectation_id"]) == set(report.skipped)
    assert rows["observed"].unique().to_list() == ["not checked, because previous was not given"]
    assert not rows["is_met"].any()


def test_related_tables_lists_the_tables_to_pass():
    assert related_tables("silver.labels") == ("silver.samples", "silver.tasks")
    assert related_tables("gold.scores") == ("gold.evaluations",)
    assert related_tables("bronze.hpa_proteinatlas") == ()
    with pytest.raises(LakeError, match=r"silver\.label"):
        related_tables("silver.label")


def test_every_outcome_becomes_a_row_of_the_audit(entities):
    report = check_frame("silver.entities", spoil(entities))
    rows = report.to_frame("run7")
    assert rows.schema == table("audit.validations").schema
    assert rows.height == len(report.outcomes) + len(report.skipped)
    failed = rows.filter(~pl.col("is_met") & ~pl.col("is_skipped"))
    assert failed["expectation_id"].to_list() == ["symbol_is_a_word"]
    assert failed["n_unexpected"].to_list() == [3]
    assert failed["run_id"].to_list() == ["run7"]
    assert check_frame("audit.validations", rows).is_met


def test_violating_rows_are_kept_as_json_with_the_reason(entities):
    report = check_frame("silver.entities", spoil(entities))
    rows = report.to_quarantine("run7")
    assert rows.schema == table("audit.quarantine").schema
    assert rows["expectation_id"].unique().to_list() == ["symbol_is_a_word"]
    kept = [json.loads(row) for row in rows["row_json"]]
    assert [row["entity_id"] for row in kept] == ["hgnc:1", "hgnc:2", "hgnc:3"]
    assert check_frame("audit.quarantine", rows).is_met


def test_a_sound_frame_leaves_nothing_in_quarantine(entities):
    report = check_frame("silver.entities", entities)
    assert report.to_quarantine("run7").is_empty()
    assert report.failures == ()


def test_an_array_column_is_judged_like_the_list_that_it_will_become(sound):
    frame = sound["silver.embeddings"]
    arrays = frame.with_columns(pl.col("vector").list.to_array(3))
    related = {"silver.entities": sound["silver.entities"]}
    assert check_frame("silver.embeddings", arrays, related=related).failures == ()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.floats(-1e3, 1e3, width=32), min_size=0, max_size=5), min_size=1, max_size=8
    )
)
def test_norms_of_ragged_vectors_are_those_of_numpy(vectors):
    frame = pl.DataFrame(
        {"entity_id": "hgnc:1", "vector": pl.Series(vectors, dtype=pl.List(pl.Float32))}
    )
    found = describe_vectors(table("silver.embeddings"), frame)
    assert found["n_numbers"].to_list() == [len(vector) for vector in vectors]
    expected = [np.linalg.norm(np.array(vector, dtype=np.float64)) for vector in vectors]
    assert np.allclose(found["norm"].to_numpy(), expected)


def test_importing_expectations_does_not_load_great_expectations():
    code = (
        "import sys, expectations, expectations.engine;"
        "assert not {'great_expectations', 'pandas', 'deltalake', 'prefect'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_three_hundred_thousand_rows_are_checked_whole():
    n = 300_000
    genes = [f"hgnc:{number}" for number in range(n)]
    samples = pl.DataFrame(
        {
            "family": "genomic",
            "task_id": "t",
            "sample_id": genes,
            "position": pl.Series([0] * n, dtype=pl.Int8),
            "entity_type": "gene",
            "entity_id": genes,
        }
    )
    entities = samples.select("entity_type", "entity_id")
    check_frame("silver.samples", samples.head(1))
    report = check_frame(
        "silver.samples", samples, previous=samples, related={"silver.entities": entities}
    )
    assert report.failures == ()
    assert report.skipped == ()


def test_a_thousand_long_vectors_pass_without_great_expectations_seeing_them():
    n, d = 1000, 1024
    frame = pl.DataFrame(
        {
            "encoder_id": ["e"] * n,
            "encoder_digest": ["0" * 32] * n,
            "entity_type": ["gene"] * n,
            "entity_id": [f"hgnc:{number}" for number in range(n)],
            "vector": to_vectors(np.random.default_rng(0).normal(size=(n, d))),
            "dimension": [d] * n,
            "vector_digest": [f"{number:032x}" for number in range(n)],
            "input_digest": ["x"] * n,
            "n_parts": [1] * n,
            "run_id": ["r"] * n,
            "embedded_at": pl.Series([0] * n, dtype=pl.Datetime("us", "UTC")),
        }
    )
    report = check_frame("silver.embeddings", frame)
    assert report.failures == ()
    bad = frame.with_columns(
        pl.when(pl.int_range(pl.len()) < 2)
        .then(pl.lit([0.0] * d, dtype=pl.List(pl.Float32)))
        .otherwise(pl.col("vector"))
        .alias("vector")
    )
    zero = check_frame("silver.embeddings", bad).failures
    assert [(one.expectation_id, one.n_unexpected) for one in zero] == [("vectors_are_not_zero", 2)]
