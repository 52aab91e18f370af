"""One sentence tells which encoders predict gained labels better than attention does."""

import json

import pytest
from blanks import filled

from lakehouse import open_lake
from lakehouse.report.future_marks import reads_text
from lakehouse.report.leaderboard_table import leaderboard_markdown
from lakehouse.report.temporal_gains import describe_gains
from lakehouse.tables.commits import Commit

COMMIT = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
ATTENTION = "publication_count_2022"


def encoder(encoder_id, title, loader, *, is_control=False, **declared):
    declaration = json.dumps({"loader": loader, **declared})
    row = {"encoder_id": encoder_id, "title": title, "declaration": declaration}
    return row | {"is_control": is_control, "modality": "control" if is_control else "text"}


ENCODERS = [
    encoder(ATTENTION, "Publications in 2022", "row_count", is_control=True),
    encoder("random", "Random", "random", is_control=True),
    encoder("names", "Names", "sentence_transformer"),
    encoder("axes", "Axes", "pca", base="names"),
    encoder("cells", "Cells", "precomputed"),
]


def comparison(task, first, second, difference, *, is_established=True, **changes):
    return {
        "release_id": "current", "family": "temporal", "task_id": task, "kind": "multilabel",
        "encoder_a": first, "encoder_b": second, "probe_id": "linear", "metric": "roc_auc",
        "difference": difference, "is_established": is_established, **changes,
    }  # fmt: skip


@pytest.fixture
def lake(tmp_path):
    opened = open_lake(tmp_path / "lake")
    for row in ENCODERS:
        where = {"encoder_id": row["encoder_id"]}
        opened.delta.replace("silver.encoders", filled("silver.encoders", [row]), COMMIT, where)
    rows = [
        comparison("one", "names", ATTENTION, 0.1),
        comparison("two", "names", ATTENTION, 0.1, is_established=False),
        comparison("one", "cells", ATTENTION, -0.2),
        comparison("two", "cells", ATTENTION, 0.2),
        comparison("one", "axes", ATTENTION, -0.1),
        comparison("two", "axes", ATTENTION, 0.0),
        comparison("one", ATTENTION, "random", -0.3),
        comparison("three", "axes", ATTENTION, 0.4, family="protein"),
        comparison("one", "axes", ATTENTION, 0.4, probe_id="knn"),
        comparison("one", "axes", ATTENTION, 0.4, release_id="older"),
    ]
    opened.delta.replace(
        "gold.comparisons", filled("gold.comparisons", rows[:-1]), COMMIT, {"release_id": "current"}
    )
    return open_lake(tmp_path / "lake")


def test_the_sentence_names_who_is_better_and_marks_texts_of_today(lake):
    assert describe_gains(lake, "current") == (
        "Gained labels, predicted better than by attention (Publications in 2022)? better: "
        "Cells on 1 of 2 tasks, Names† on 1 of 2 tasks; not better: Axes†. "
        "† The text may have been written after the label."
    )
    assert "Cells on 1 of 2 tasks" in leaderboard_markdown(lake, "current")


def test_without_temporal_tasks_there_is_no_sentence(lake):
    assert describe_gains(lake, "other") == ""


def test_a_mix_of_other_vectors_reads_what_these_read():
    rows = {row["encoder_id"]: row for row in ENCODERS}
    rows["mixed"] = encoder(
        "mixed", "Mixed", "composite", base={"gene": "cells", "disease": "axes"}
    )
    rows["plain"] = encoder("plain", "Plain", "concat", base=["cells", "random"])
    assert reads_text("mixed", rows)
    assert not reads_text("plain", rows)
