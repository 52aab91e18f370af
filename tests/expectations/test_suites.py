"""Each expectation of each suite detects the fault that is planted for it."""

import datetime as dt
from collections.abc import Callable
from pathlib import Path
from typing import get_args

import polars as pl
import pytest

from expectations import check_frame, engine, related_tables
from expectations.declared import ColumnRule, Expectation, expectations_of, read_suites
from expectations.engine import evaluate_expectations
from genebench.errors import RegistryError
from genebench.evaluation.metrics import METRICS
from lakehouse.tables.catalogue import TABLES

BRONZE = "bronze.hpa_proteinatlas"
CHECKED = [*TABLES, BRONZE]

Plant = Callable[[pl.DataFrame], pl.DataFrame]


def put(column: str, value: object, row: int = 0) -> Plant:
    """Set one cell."""

    def plant(frame: pl.DataFrame) -> pl.DataFrame:
        cells = frame[column].to_list()
        cells[row] = value
        return frame.with_columns(pl.Series(column, cells, dtype=frame.schema[column]))

    return plant


def put_all(column: str, value: object) -> Plant:
    return lambda frame: frame.with_columns(
        pl.Series(column, [value] * frame.height, dtype=frame.schema[column])
    )


def drop_row(row: int) -> Plant:
    return lambda frame: pl.concat([frame.head(row), frame.slice(row + 1)])


def keep_share(share: float) -> Plant:
    return lambda frame: frame.head(int(frame.height * share))


def plant_control(encoder_id: str, scope: str, mean: float) -> Plant:
    """Add the mean of a control over 16 tasks, with a standard deviation of 0.1."""

    def plant(frame: pl.DataFrame) -> pl.DataFrame:
        first = frame.head(1).with_columns(
            pl.lit(encoder_id).alias("encoder_id"),
            pl.lit(scope).alias("scope"),
            pl.lit("roc_auc").alias("metric"),
            pl.lit(mean).alias("mean"),
            pl.lit(16, frame.schema["n_tasks"]).alias("n_tasks"),
        )
        return pl.concat([frame, first])

    return plant


def repeat_first(frame: pl.DataFrame) -> pl.DataFrame:
    return pl.concat([frame, frame.head(1)])


def drop_column(column: str) -> Plant:
    return lambda frame: frame.drop(column)


def blank_share(column: str, share: float) -> Plant:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) >= share * pl.len()).then(pl.col(column))
    )


def add_to(column: str, text: str, n: int) -> Plant:
    return lambda frame: frame.with_columns(
        pl.when(pl.int_range(pl.len()) < n)
        .then(pl.col(column) + text)
        .otherwise(pl.col(column))
        .alias(column)
    )


def zero_vector(frame: pl.DataFrame) -> pl.DataFrame:
    return put("vector", [0.0, 0.0, 0.0])(frame)


FAULTS: dict[tuple[str, str], Plant] = {
    ("bronze.snapshots", "snapshot_id_is_a_slug"): put("snapshot_id", "HPA 23"),
    ("bronze.snapshots", "sha256_is_a_hash"): put("sha256", "abc"),
    ("bronze.snapshots", "file_has_bytes"): put("size_bytes", 0),
    ("bronze.snapshots", "url_has_a_scheme"): put("url", "somewhere"),
    ("bronze.snapshots", "licence_is_stated"): put("license", " "),
    ("bronze.snapshots", "publication_day_is_a_date"): put("published_on", "last Monday"),
    (BRONZE, "file_has_rows"): lambda frame: frame.clear(),
    (BRONZE, "row_numbers_are_whole"): drop_row(3),
    (BRONZE, "no_column_vanished"): drop_column("Gene"),
    (BRONZE, "number_of_rows_drifts_little"): keep_share(0.7),
    (BRONZE, "columns_stay_filled"): blank_share("Gene", 0.6),
    ("silver.entities", "entity_id_is_a_curie"): put("entity_id", "BRCA1"),
    ("silver.entities", "entity_type_is_a_slug"): put("entity_type", "Gene"),
    ("silver.entities", "symbol_is_a_word"): put("symbol", " BRCA1"),
    ("silver.entities", "name_is_not_blank"): put("name", "  "),
    ("silver.entities", "few_symbols_repeat"): put("symbol", "G1"),
    ("silver.entities", "few_entities_vanish"): keep_share(0.9),
    ("silver.entities", "few_symbols_change"): add_to("symbol", "x", 4),
    ("silver.xrefs", "entity_id_is_a_curie"): put("entity_id", "1"),
    ("silver.xrefs", "namespace_is_a_slug"): put("namespace", "Gene name", 3),
    ("silver.xrefs", "identifier_is_a_word"): put("identifier", "OLD1 ", 3),
    ("silver.xrefs", "ensembl_ids_look_like_genes"): put("identifier", "ENST00000000001", 1),
    ("silver.xrefs", "entrez_ids_are_numbers"): put("identifier", "BRCA1", 2),
    ("silver.xrefs", "shared_identifiers_are_marked"): lambda frame: pl.concat(
        [frame, put("entity_id", "hgnc:2")(frame.head(1))]
    ),
    ("silver.xrefs", "xrefs_lead_to_entities"): put("entity_id", "hgnc:99999"),
    ("silver.inputs", "content_is_not_blank"): lambda f: put("n_chars", 1)(put("content", " ")(f)),
    ("silver.inputs", "content_is_not_a_placeholder"): lambda f: put("n_chars", 2)(
        put("content", "NA")(f)
    ),
    ("silver.inputs", "n_chars_is_the_length"): put("n_chars", 7),
    ("silver.inputs", "dna_is_of_four_letters"): put("content", "ACGTU", 1),
    ("silver.inputs", "protein_is_of_amino_acids"): put("content", "MK-*", 3),
    ("silver.inputs", "input_digest_is_a_digest"): put("input_digest", "?"),
    ("silver.inputs", "parts_are_numbered_from_zero"): drop_row(2),
    ("silver.inputs", "inputs_are_of_entities"): put("entity_id", "hgnc:99999"),
    ("silver.inputs", "few_inputs_change"): lambda f: put("content", "x" * 15)(
        put("content", "ACGTT", 1)(f)
    ),
    ("silver.tasks", "task_id_is_a_slug"): put("task_id", "Is TF"),
    ("silver.tasks", "family_is_a_slug"): put("family", "Gene regulation"),
    ("silver.tasks", "entity_types_are_slugs"): put("entity_types", "gene, disease"),
    ("silver.tasks", "tasks_have_samples"): put("n_samples", 0),
    ("silver.tasks", "tasks_have_entities"): put("n_entities", 0),
    ("silver.tasks", "label_density_is_a_share"): put("label_density", 1.5),
    ("silver.tasks", "label_digest_is_a_digest"): put("label_digest", ""),
    ("silver.tasks", "n_labels_counts_the_names"): put("n_labels", 3),
    ("silver.tasks", "positive_is_a_label"): put("positive", "TF"),
    ("silver.tasks", "parents_exist"): put("parent_task_id", "locations", 2),
    ("silver.tasks", "n_samples_counts_the_samples"): put("n_samples", 39, 1),
    ("silver.tasks", "smallest_class_can_be_split"): put("n_smallest_class", 3),
    ("silver.tasks", "positives_are_common_enough"): put("label_density", 0.001),
    ("silver.tasks", "no_task_vanishes"): drop_row(0),
    ("silver.tasks", "no_kind_changes"): put("kind", "multiclass"),
    ("silver.tasks", "number_of_samples_drifts_little"): put("n_samples", 100),
    ("silver.samples", "positions_are_numbered_from_zero"): put("position", 2, 41),
    ("silver.samples", "samples_of_a_task_have_equal_slots"): drop_row(41),
    ("silver.samples", "sample_id_names_its_entities"): put("entity_id", "hgnc:7"),
    ("silver.samples", "samples_are_of_entities"): lambda f: put("sample_id", "hgnc:99999")(
        put("entity_id", "hgnc:99999")(f)
    ),
    ("silver.samples", "few_samples_vanish"): lambda frame: frame.slice(12),
    ("silver.labels", "label_is_a_word"): put("label", ""),
    ("silver.labels", "labels_are_of_samples"): put("sample_id", "hgnc:99999"),
    ("silver.labels", "classes_have_the_value_one"): put("value", 0.5),
    ("silver.labels", "samples_have_one_label"): lambda frame: pl.concat(
        [frame, put("label", "yes")(frame.head(1))]
    ),
    ("silver.labels", "every_sample_has_a_label"): drop_row(0),
    ("silver.labels", "labels_are_declared"): put("label", "maybe"),
    ("silver.labels", "outcomes_vary"): lambda frame: frame.with_columns(
        pl.col("label").replace("no", "yes")
    ),
    ("silver.labels", "labels_are_not_everywhere"): lambda frame: frame.with_columns(
        pl.col("label").replace("no", "yes")
    ),
    ("silver.labels", "few_labels_change"): lambda frame: frame.with_columns(
        pl.col("label").replace("no", "yes")
    ),
    ("silver.labels", "no_label_is_new"): put("label", "maybe"),
    ("silver.encoders", "encoder_id_is_a_slug"): put("encoder_id", "MPNet v2"),
    ("silver.encoders", "encoder_digest_is_a_digest"): put("encoder_digest", "v2"),
    ("silver.encoders", "complete_encoders_have_vectors"): put("n_entities", 0),
    ("silver.embeddings", "encoder_digest_is_a_digest"): put_all("encoder_digest", "v2"),
    ("silver.embeddings", "vector_digest_is_a_digest"): put("vector_digest", "x"),
    ("silver.embeddings", "vectors_have_parts"): put("n_parts", -1),
    ("silver.embeddings", "dimension_is_the_length"): put("dimension", 4),
    ("silver.embeddings", "vectors_have_one_dimension"): lambda f: put("dimension", 2)(
        put("vector", [1.0, 2.0])(f)
    ),
    ("silver.embeddings", "vectors_are_of_one_encoder"): put("encoder_digest", "f" * 32),
    ("silver.embeddings", "vectors_differ"): put_all("vector_digest", "f" * 32),
    ("silver.embeddings", "vectors_are_not_zero"): zero_vector,
    ("silver.embeddings", "embeddings_are_of_entities"): put("entity_id", "hgnc:99999"),
    ("silver.encoders", "few_vectors_vanish"): put("n_entities", 30),
    ("gold.universes", "release_id_is_a_slug"): put("release_id", "My release"),
    ("gold.universes", "universes_are_of_entities"): put("entity_id", "hgnc:99999"),
    ("gold.universes", "few_entities_leave_the_universe"): keep_share(0.9),
    ("gold.releases", "release_id_is_a_slug"): put("release_id", "My release"),
    ("gold.releases", "label_digest_is_a_digest"): put("label_digest", "x"),
    ("gold.releases", "feature_digest_is_a_digest"): put("feature_digest", "x"),
    ("gold.releases", "probe_digest_is_a_digest"): put("probe_digest", "x"),
    ("gold.releases", "evaluation_key_is_a_digest"): put("evaluation_key", "x"),
    ("gold.releases", "a_task_has_one_kind"): put("kind", "multiclass"),
    ("gold.evaluations", "evaluation_key_is_a_digest"): put("evaluation_key", "x"),
    ("gold.evaluations", "failures_have_a_reason"): put("reason", None, 1),
    ("gold.evaluations", "time_is_not_negative"): put("seconds", -1.0),
    ("gold.evaluations", "evaluated_tasks_have_samples"): put("n_samples", 1),
    ("gold.evaluations", "evaluated_tasks_have_features"): put("n_features", 0),
    ("gold.evaluations", "revision_counts_from_one"): put("revision", 0),
    ("gold.evaluations", "few_evaluations_fail"): put("status", "failed", 1),
    ("gold.scores", "evaluation_key_is_a_digest"): put("evaluation_key", "x"),
    ("gold.scores", "folds_count_from_zero"): put("fold", -1),
    ("gold.scores", "folds_have_training_rows"): put("n_train", 0),
    ("gold.scores", "folds_have_test_rows"): put("n_test", 0),
    ("gold.scores", "scores_are_of_evaluations"): put_all("evaluation_key", "f" * 32),
    ("gold.scores", "scores_are_of_good_evaluations"): put_all("evaluation_key", f"{1:032x}"),
    ("gold.scores", "folds_give_the_same_metrics"): drop_row(0),
    ("gold.folds", "split_key_is_a_digest"): put("split_key", "x"),
    ("gold.folds", "positions_count_from_zero"): put("position", -1),
    ("gold.folds", "repeats_count_from_zero"): put("repeat", -1),
    ("gold.folds", "folds_count_from_zero"): put("fold", -1),
    ("gold.folds", "splits_have_several_folds"): put_all("fold", 0),
    ("gold.folds", "folds_have_no_gap"): lambda frame: frame.filter(pl.col("fold") != 2),
    ("gold.predictions", "evaluation_key_is_a_digest"): put("evaluation_key", "x"),
    ("gold.predictions", "folds_count_from_zero"): put("fold", -1),
    ("gold.intervals", "evaluation_key_is_a_digest"): put("evaluation_key", "x"),
    ("gold.intervals", "intervals_hold_their_score"): put("low", 0.95),
    ("gold.intervals", "standard_errors_are_not_negative"): put("standard_error", -0.1),
    ("gold.comparisons", "shares_of_chance_are_probabilities"): put("p_folds", 1.5),
    ("gold.comparisons", "encoders_are_compared_with_others"): put("encoder_a", "mpnet"),
    ("gold.verdicts", "solved_tasks_name_their_control"): put("solved_by", "random"),
    ("gold.verdicts", "established_pairs_are_pairs"): put("n_established", 9),
    ("gold.leaderboard", "rank_counts_from_one"): put("rank", 0),
    ("gold.leaderboard", "deviation_is_not_negative"): put("sd", -0.1),
    ("gold.leaderboard", "means_are_over_tasks"): put("n_tasks", 0),
    ("gold.leaderboard", "missing_tasks_are_counted"): put("n_missing", -1),
    ("gold.leaderboard", "somebody_is_first"): drop_row(0),
    ("gold.leaderboard", "random_is_at_chance"): plant_control("random", "genomic", 0.61),
    ("gold.leaderboard", "oracle_is_near_one"): plant_control("oracle", "overall", 0.6),
    ("gold.foreign_scores", "release_id_is_a_slug"): put("release_id", "a b"),
    ("gold.foreign_scores", "foreign_folds_count_from_zero"): put("fold", -1),
    ("gold.foreign_scores", "foreign_results_are_not_ours"): put("release_id", "current"),
    ("gold.foreign_scores", "some_published_task_is_ours"): put_all("task_id", None),
}

FIRST_STRING = {name: next(iter(TABLES[name].columns)) for name in TABLES}
NUMBER = {
    "silver.tasks": "label_density",
    "silver.labels": "value",
    "gold.evaluations": "seconds",
    "gold.scores": "value",
    "gold.predictions": "value",
    "gold.intervals": "value",
    "gold.comparisons": "difference",
    "gold.verdicts": "noise",
    "gold.leaderboard": "mean",
    "gold.foreign_scores": "value",
}


def plant_implied(name: str, id_: str) -> Plant:
    """The fault for an expectation that a table's declaration implies."""
    if id_ == "columns_are_as_declared":
        return lambda frame: frame.with_columns(
            pl.lit(dt.date(2026, 1, 1)).alias(frame.columns[-1])
        )
    if id_ == "values_are_present":
        return put(FIRST_STRING.get(name, "snapshot_id"), None)
    if id_ == "key_is_unique":
        return repeat_first
    if id_ == "numbers_are_finite":
        if name == "silver.embeddings":
            return put("vector", [1.0, float("nan"), 2.0])
        return put(NUMBER[name], float("nan"))
    if id_.endswith("_is_known"):
        return put(id_.removesuffix("_is_known"), "nonsense")
    assert id_.endswith("_is_in_the_range_of_its_metric")
    number = "mean" if name == "gold.leaderboard" else "value"
    return lambda frame: put("metric", "roc_auc")(put(number, 1.5)(frame))


EXPECTED = [(name, one.id) for name in CHECKED for one in expectations_of(name)]


def check_in(sound: dict[str, pl.DataFrame], name: str, frame: pl.DataFrame):
    related = {needed: sound[needed] for needed in related_tables(name)}
    return check_frame(name, frame, previous=sound[name], related=related)


@pytest.mark.parametrize("name", CHECKED)
def test_sound_rows_meet_every_expectation(sound, name):
    report = check_in(sound, name, sound[name])
    assert report.failures == ()
    assert report.skipped == ()
    assert len(report.outcomes) == len(expectations_of(name))


@pytest.mark.parametrize(
    ("encoder_id", "scope", "mean"),
    [("random", "genomic", 0.59), ("random", "genomic", 0.41), ("oracle", "overall", 0.95)],
)
def test_controls_within_their_known_answers_are_accepted(sound, encoder_id, scope, mean):
    frame = plant_control(encoder_id, scope, mean)(sound["gold.leaderboard"])
    assert check_in(sound, "gold.leaderboard", frame).failures == ()


def test_every_expectation_of_a_suite_has_a_planted_fault():
    declared = {
        (BRONZE if name not in TABLES else name, one.id)
        for name, suite in read_suites().items()
        for one in suite
    }
    assert declared == set(FAULTS)


@pytest.mark.parametrize(("name", "id_"), EXPECTED)
def test_each_expectation_catches_the_fault_planted_for_it(sound, name, id_):
    plant = FAULTS.get((name, id_)) or plant_implied(name, id_)
    report = check_in(sound, name, plant(sound[name]))
    outcome = next(one for one in report.failures if one.expectation_id == id_)
    assert not outcome.has_raised, outcome.observed
    assert outcome.n_unexpected
    assert outcome.n_unexpected > 0
    assert outcome.examples
    assert report.is_met == all(one.severity == "warning" for one in report.failures)


@pytest.mark.parametrize("metric", METRICS.values(), ids=lambda metric: metric.id)
def test_a_value_outside_the_range_of_its_metric_is_found(sound, metric):
    for bound, step in ((metric.low, -0.5), (metric.high, 0.5)):
        if bound is None:
            continue
        frame = put("metric", metric.id)(put("value", bound + step)(sound["gold.scores"]))
        found = {one.expectation_id: one for one in check_in(sound, "gold.scores", frame).failures}
        assert found["value_is_in_the_range_of_its_metric"].n_unexpected == 1
        failures = check_in(sound, "gold.scores", put("value", bound)(frame)).failures
        assert "value_is_in_the_range_of_its_metric" not in {one.expectation_id for one in failures}


@pytest.mark.parametrize(
    ("n_rows", "dimension", "is_met"), [(2, 1, True), (40, 1, True), (2, 3, True), (40, 3, False)]
)
def test_only_many_wide_vectors_must_differ(sound, n_rows, dimension, is_met):
    same = pl.Series([[1.0] * dimension] * n_rows, dtype=pl.List(pl.Float32))
    frame = sound["silver.embeddings"].head(n_rows).with_columns(vector=same)
    frame = put_all("vector_digest", "f" * 32)(put_all("dimension", dimension)(frame))
    related = {needed: sound[needed] for needed in related_tables("silver.embeddings")}
    failed = [
        one.expectation_id
        for one in check_frame("silver.embeddings", frame, None, related).failures
    ]
    assert failed == ([] if is_met else ["vectors_differ"])


def test_a_task_that_lost_all_of_its_labels_is_refused(sound):
    labels = sound["silver.labels"]
    for task_id in labels["task_id"].unique():
        report = check_in(sound, "silver.labels", labels.filter(pl.col("task_id") != task_id))
        outcome = next(one for one in report.failures if one.severity == "critical")
        assert outcome.expectation_id == "every_sample_has_a_label"
        assert {row.split(" | ")[0] for row in outcome.examples} == {task_id}


def test_every_table_has_a_suite_unless_it_is_only_a_log():
    assert {name for name in TABLES if name not in read_suites()} == {
        "bronze.readings",
        "silver.curations",
        "audit.runs",
        "audit.validations",
        "audit.quarantine",
    }


@pytest.mark.parametrize(
    "expect",
    [
        "expect_column_values_to_be_unique",
        "expect_column_values_to_not_be_null",
        "expect_column_values_to_be_increasing",
        "expect_column_value_lengths_to_equal",
    ],
)
def test_an_expectation_that_means_nothing_on_distinct_values_is_refused(tmp_path, expect):
    (tmp_path / "bad.yaml").write_text(
        "gold.scores:\n  - {id: x, severity: critical, because: y, column: fold, "
        f"expect: {expect}}}\n"
    )
    with pytest.raises(RegistryError, match="expect"):
        read_suites(tmp_path)


def test_every_admitted_expectation_finds_a_value_that_violates_it():
    import great_expectations.expectations as gxe

    planted = {
        "expect_column_values_to_be_between": {"min_value": 2},
        "expect_column_values_to_be_in_set": {"value_set": [2]},
        "expect_column_values_to_not_be_in_set": {"value_set": [1]},
        "expect_column_values_to_match_regex": {"regex": "^b"},
        "expect_column_values_to_not_match_regex": {"regex": "^a"},
    }
    assert set(planted) == set(get_args(ColumnRule))
    for rule, arguments in planted.items():
        assert hasattr(gxe, "".join(part.capitalize() for part in rule.split("_")))
        entry = {"id": "x", "severity": "critical", "because": "y", "column": "c", "expect": rule}
        one = Expectation.model_validate({**entry, "with": arguments})
        values = pl.Series(["a", "b"] if "regex" in rule else [1, 2])
        result = evaluate_expectations({"x": one}, {"x": values})["x"]
        assert (result.is_met, result.error) == (False, None), rule
        assert len(result.unexpected) == 1, rule


def rule_on(expect: str, **arguments) -> Expectation:
    entry = {"id": "x", "severity": "critical", "because": "y", "column": "c", "expect": expect}
    return Expectation.model_validate({**entry, "with": arguments})


def test_values_that_have_met_a_rule_hide_none_that_violates_it():
    one = rule_on("expect_column_values_to_match_regex", regex="^met_before")
    other = rule_on("expect_column_values_to_match_regex", regex="^never")
    good = pl.Series(["met_before_1", "met_before_2"])
    assert evaluate_expectations({"x": one}, {"x": good})["x"].is_met
    for _ in range(2):
        mixed = pl.Series([*good, "bad"])
        result = evaluate_expectations({"x": one}, {"x": mixed})["x"]
        assert (result.is_met, result.unexpected) == (False, ("bad",))
        assert evaluate_expectations({"x": one}, {"x": good})["x"].is_met
        assert not evaluate_expectations({"x": other}, {"x": good})["x"].is_met


def test_no_more_values_are_remembered_than_stated(monkeypatch):
    monkeypatch.setattr(engine, "_MET", {})
    one = rule_on("expect_column_values_to_be_between", min_value=0)
    for values in (range(600), range(600, 900), range(900, 1500), range(2000)):
        assert evaluate_expectations({"x": one}, {"x": pl.Series(list(values))})["x"].is_met
        assert sum(len(known) for known in engine._MET.values()) <= engine.N_REMEMBERED
    assert not evaluate_expectations({"x": one}, {"x": pl.Series([3, -1])})["x"].is_met


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "gold.score:\n  - {id: a, severity: warning, because: b, rows: SELECT 1}",
            "no such table",
        ),
        ("gold.scores:\n  - {id: a, severity: fatal, because: b, rows: SELECT 1}", "severity"),
        ("gold.scores:\n  - {id: a, severity: warning, because: b}", "either"),
        ("gold.scores:\n  - {id: a, severity: warning, because: b, rows: x, colour: y}", "colour"),
        ("gold.scores:\n" + 2 * "  - {id: a, severity: warning, because: b, rows: x}\n", "twice"),
        (
            "gold.scores:\n  - {id: a, severity: warning, because: b, rows: x, needs: [gold.x]}",
            "unknown table",
        ),
    ],
)
def test_a_wrong_suite_is_refused_with_its_place(tmp_path: Path, text, words):
    (tmp_path / "gold.yaml").write_text(text)
    with pytest.raises(RegistryError, match=words) as caught:
        read_suites(tmp_path)
    assert "gold.yaml" in str(caught.value)
