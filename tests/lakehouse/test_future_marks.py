"""Scores of temporal tasks carry a mark where the encoder may have known the later labels."""

import json
import re
import shutil

import polars as pl
import pytest
from blanks import filled
from temporal_lake import COMMIT, LATE, TASK, TEXT, make_temporal

from flows.cli.render import (
    print_comparison,
    print_leaderboard,
    print_task_scores,
    print_task_table,
)
from lakehouse import open_lake
from lakehouse.report.exports import long_rows
from lakehouse.report.future_marks import MODEL_MARK, TEXT_MARK, describe_marks, read_marks
from lakehouse.report.lineage import read_lineage

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def lake(synthetic_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("marks") / "lake"
    shutil.copytree(synthetic_root, root)
    make_temporal(open_lake(root))
    return open_lake(root)


def test_texts_of_today_and_models_trained_later_are_marked(lake):
    assert read_marks(lake) == {TEXT: TEXT_MARK, LATE: MODEL_MARK}
    assert describe_marks(["", ""]) == ""
    assert describe_marks([TEXT_MARK + MODEL_MARK]).startswith("† The text may have been written")
    assert "‡ The model was trained on data" in describe_marks(read_marks(lake).values())


def test_a_model_trained_by_the_month_of_the_known_labels_has_no_mark(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    make_temporal(lake)
    row = lake.table("silver.encoders").collect().filter(encoder_id=LATE)
    declared = row["declaration"].str.replace("2022-10", "2022-09")
    where = {"encoder_id": LATE}
    lake.delta.replace("silver.encoders", row.with_columns(declared), COMMIT, where)
    assert LATE not in read_marks(open_lake(tmp_path / "lake"))


@pytest.mark.parametrize(
    ("template", "inputs", "is_marked"),
    [
        ("{symbol_2022} {name_2022}", "symbol_2022 past_1, name_2022 past_1, name now_1", False),
        ("{symbol_2022} {name}", "symbol_2022 past_1, name now_1", True),
        ("{name_2022}", "name_2022 now_1", True),
        ("{name_2022}", "name_2022 past_1, name_2022 now_1", True),
        ("{name_2022}", "symbol_2022 past_1", True),
    ],
)
def test_an_encoder_that_reads_texts_of_the_past_alone_has_no_mark(
    synthetic_root, tmp_path, template, inputs, is_marked
):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    make_temporal(lake)
    who = {"entity_type": "gene", "modality": "text"}
    read = [one.split() for one in inputs.split(", ")]
    rows = [
        who | {"entity_id": f"hgnc:{number}", "field": field, "snapshot_id": snapshot}
        for number, (field, snapshot) in enumerate(read)
    ]
    where = {"modality": "text"}
    lake.delta.replace("silver.inputs", filled("silver.inputs", rows), COMMIT, where)
    declared = {"loader": "sentence_transformer", "template": {"gene": template}}
    row = lake.table("silver.encoders").collect().filter(encoder_id=TEXT)
    row = row.with_columns(declaration=pl.lit(json.dumps(declared)))
    lake.delta.replace("silver.encoders", row, COMMIT, {"encoder_id": TEXT})
    assert (TEXT in read_marks(open_lake(tmp_path / "lake"))) == is_marked


def test_rows_of_temporal_tasks_alone_carry_the_marks(lake):
    rows = long_rows(lake, "current")
    marked = rows.filter(rows["mark"] != "")
    assert set(marked["task_id"]) == {TASK}
    assert dict(marked.select("encoder_id", "mark").unique().iter_rows()) == read_marks(lake)
    assert set(rows.filter(task_id=TASK)["encoder_id"]) > set(marked["encoder_id"])


def test_the_terminal_shows_the_marks_and_what_they_mean(lake, capsys):
    print_task_scores(lake, "current", TASK)
    shown = capsys.readouterr().out
    assert re.search(rf"{TEXT}.*{TEXT_MARK}", shown)
    assert "‡ The model was trained" in shown
    print_task_scores(lake, "current", "task_2")
    assert TEXT_MARK not in capsys.readouterr().out
    print_task_table(lake, "current", "roc_auc")
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if line.strip().startswith(f"{TASK} ")]
    assert len(re.findall(r"\d\.\d{3}[†‡]", row)) == 4, "two encoders by two probes"
    assert len(re.findall(r"\d[†‡]", shown)) == 4, "no other row has a mark"
    assert "† The text may have been written after the label." in shown
    print_leaderboard(lake, "current", "roc_auc")
    assert len(re.findall(r"\d\.\d{3}[†‡]", capsys.readouterr().out)) == 4


def test_a_comparison_of_two_encoders_shows_the_marks_in_the_rows_of_temporal_tasks(lake, capsys):
    rows = lake.compare(TEXT, LATE, metric="roc_auc")
    shown_rows = rows.filter(pl.col("task_id").is_in([TASK, "task_2"]))
    print_comparison(lake, shown_rows, TEXT, LATE)
    shown = capsys.readouterr().out
    (row,) = [line for line in shown.splitlines() if line.strip().startswith(f"{TASK} ")]
    assert re.findall(r"\d\.\d{3}([†‡])", row) == [TEXT_MARK, MODEL_MARK]
    assert len(re.findall(r"\d[†‡]", shown)) == 2, "no other row has a mark"
    assert "† The text may have been written after the label." in shown


def test_the_lineage_of_a_temporal_score_says_what_its_mark_means(lake):
    assert "‡ The model was trained" in read_lineage(lake, TASK, LATE, "current").score["mark"]
    assert "mark" not in read_lineage(lake, "task_2", LATE, "current").score


def test_the_marks_of_the_leaderboard_are_explained_below_it(lake, capsys):
    print_leaderboard(lake, "current", "roc_auc")
    shown = capsys.readouterr().out
    assert "† The text may have been written after the label." in shown
    assert "‡ The model was trained" in shown
