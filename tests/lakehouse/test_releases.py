"""Frozen releases never change, and differences between two are listed with their reason."""

import shutil

import numpy as np
import polars as pl
import pytest
from blanks import filled

from genebench.errors import LakeError
from genebench.evaluation.statistics.means import task_means
from lakehouse import open_lake
from lakehouse.report.diff.lake_states import find_state
from lakehouse.report.diff.score_changes import compare_scores, select_changed
from lakehouse.report.leaderboard import leaderboard_rows
from lakehouse.report.releases import freeze_release
from lakehouse.report.significance import comparison_rows, verdict_rows
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit("test", "test")


@pytest.fixture
def lake(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    return open_lake(tmp_path / "lake")


def write_release(lake, name, items):
    rows = items.with_columns(pl.lit(name).alias("release_id"))
    lake.delta.replace("gold.releases", rows, COMMIT, {"release_id": name})


def one(lake):
    """The items of one task by one encoder and probe."""
    return lake.release().filter(
        (pl.col("task_id") == "task_3")
        & (pl.col("encoder_id") == "e0")
        & (pl.col("probe_id") == "linear")
    )


def rescore(lake, item, by: float):
    """Score an item again under another key."""
    old = item["evaluation_key"].item()
    key = pl.lit("f" * 32).alias("evaluation_key")
    scores = lake.table("gold.scores").filter(pl.col("evaluation_key") == old).collect()
    lake.delta.append("gold.scores", scores.with_columns(key, pl.col("value") + by), COMMIT)
    tried = lake.table("gold.evaluations").filter(pl.col("evaluation_key") == old).collect()
    lake.delta.append("gold.evaluations", tried.with_columns(key), COMMIT)
    return item.with_columns(key)


def draw(lake, items):
    """Give items an interval each, of drawn replicates."""
    rng = np.random.default_rng(0)
    rows = [
        item
        | {
            "metric": "roc_auc",
            "run_id": "synthetic",
            "replicates": rng.normal(0.5, 0.01, 200).tolist(),
        }
        for item in items.select("evaluation_key", "family", "task_id", "encoder_id").to_dicts()
    ]
    lake.delta.append("gold.intervals", filled("gold.intervals", rows), COMMIT)


def judge_then_rescore(lake):
    """Report on two encoders on a task, then score one of them anew."""
    items = lake.release()
    pair = pl.col("encoder_id").is_in(["e0", "random"]) & (pl.col("probe_id") == "linear")
    draw(lake, items.filter(pair, task_id="task_3"))
    comparisons = comparison_rows(lake, "current")
    verdicts = verdict_rows(lake, "current", comparisons)
    partition = {"release_id": "current"}
    lake.delta.replace("gold.comparisons", comparisons, COMMIT, partition)
    lake.delta.replace("gold.verdicts", verdicts, COMMIT, partition)
    before = lake.compare("random", "e0").filter(task_id="task_3").row(0, named=True)
    old = one(lake)
    new = rescore(lake, old, 0.05)
    draw(lake, new)
    kept = items.filter(pl.col("evaluation_key") != old["evaluation_key"].item())
    write_release(lake, "current", pl.concat([kept, new]))
    return before


def test_tests_of_scores_that_were_replaced_since_are_not_shown(lake):
    before = judge_then_rescore(lake)
    names = ("low", "high", "p_adjusted", "is_established")
    assert None not in [before[name] for name in names]
    after = lake.compare("random", "e0").filter(task_id="task_3").row(0, named=True)
    assert after["difference"] == pytest.approx(before["difference"] - 0.05)
    assert [after[name] for name in names] == [None] * 4


@pytest.mark.slow
def test_a_frozen_release_is_judged_by_the_scores_that_it_names(lake):
    judge_then_rescore(lake)
    rows = freeze_release(lake, "2026.1").rows
    live = lake.compare("e0", "random").filter(task_id="task_3")["difference"].item()
    assert rows["gold.comparisons"]["difference"].to_list() == pytest.approx([live])
    fresh = verdict_rows(lake, "current", comparison_rows(lake, "current")).drop("release_id")
    assert rows["gold.verdicts"].drop("release_id").equals(fresh)
    assert set(rows["gold.verdicts"]["release_id"]) == {"2026.1"}


def test_a_frozen_release_names_the_same_evaluations(lake):
    frozen = freeze_release(lake, "2026.1")
    items, board = frozen.rows["gold.releases"], frozen.rows["gold.leaderboard"]
    assert set(items["release_id"]) == {"2026.1"}
    assert items.drop("release_id").equals(lake.release().drop("release_id"))
    assert board.drop("release_id").equals(lake.leaderboard_rows().drop("release_id"))
    assert frozen.n_pending == 0


def test_a_frozen_release_keeps_the_verdicts_of_its_source(lake):
    verdicts = verdict_rows(lake, "current", comparison_rows(lake, "current"))
    lake.delta.append("gold.verdicts", verdicts, COMMIT)
    kept = freeze_release(lake, "2026.1").rows["gold.verdicts"]
    assert kept.height == verdicts.height > 0
    assert kept.drop("release_id").equals(verdicts.drop("release_id"))


def test_the_leaderboard_of_a_frozen_release_does_not_depend_on_later_tasks(lake):
    rows = freeze_release(lake, "2026.1").rows
    write_release(lake, "2026.1", rows["gold.releases"])
    tasks = lake.table("silver.tasks").collect()
    kept = ~pl.col("task_id").str.starts_with("task_5") & (pl.col("task_id") != "task_3")
    added = tasks.filter(task_id="task_4").with_columns(pl.lit("task_new").alias("task_id"))
    lake.delta.replace("silver.tasks", pl.concat([tasks.filter(kept), added]), COMMIT)
    assert leaderboard_rows(lake, "2026.1").equals(rows["gold.leaderboard"])


def test_tasks_that_a_release_leaves_out_share_no_weight(lake):
    items = lake.release()
    family = items.filter(task_id="task_3")["family"][0]
    binary = items.filter(pl.col("kind") == "binary", ~pl.col("task_id").str.contains("__"))
    mates = binary.filter(family=family)["task_id"].unique().sort().to_list()
    assert len(mates) > 1
    write_release(lake, "few", items.filter(~pl.col("task_id").is_in(mates[1:])))
    board = leaderboard_rows(lake, "few").filter(scope=family, metric="roc_auc")
    row = board.filter(encoder_id="e0", probe_id="linear").row(0, named=True)
    scores = lake.scores(release="few", family=family, encoder="e0", probe="linear", label="")
    means = task_means(scores.collect()).filter(pl.col("metric") == "roc_auc")
    leaves = means.filter(~pl.col("task_id").str.contains("__"))
    # One group a kind, so each kind has the weight of one task.
    of_kinds = leaves.group_by("kind").agg(pl.col("mean").mean())
    assert row["n_tasks"] == leaves.height > of_kinds.height
    assert row["mean"] == pytest.approx(of_kinds["mean"].mean())


def diff_releases(lake, before, after):
    """The evaluations of two releases that are not the same."""
    states = (find_state(lake, name, "current") for name in (before, after))
    return select_changed(compare_scores(*states))


def test_equal_releases_do_not_differ(lake):
    write_release(lake, "2026.1", lake.release())
    assert diff_releases(lake, "2026.1", "current").height == 0


@pytest.mark.parametrize(
    ("column", "key"),
    [("label_digest", "labels"), ("feature_digest", "vectors"), ("probe_digest", "probe")],
)
def test_a_changed_score_is_listed_with_the_digest_that_differs(lake, column, key):
    write_release(lake, "2026.1", one(lake))
    moved = rescore(lake, one(lake), 0.01).with_columns(pl.lit("e" * 32).alias(column))
    write_release(lake, "2026.2", moved)
    row = diff_releases(lake, "2026.1", "2026.2").row(0, named=True)
    assert row["keys"] == key
    # Neither samples nor vectors of the two differ.
    assert row["why"] == ("probe" if key == "probe" else "declaration")
    assert row["change"] == pytest.approx(0.01)
    assert row["mean_after"] - row["mean_before"] == pytest.approx(row["change"])


def test_several_digests_are_all_listed(lake):
    write_release(lake, "2026.1", one(lake))
    digest = pl.lit("e" * 32)
    moved = rescore(lake, one(lake), 0.0).with_columns(
        digest.alias("label_digest"), digest.alias("feature_digest")
    )
    write_release(lake, "2026.2", moved)
    assert diff_releases(lake, "2026.1", "2026.2")["keys"].to_list() == ["labels and vectors"]


def test_another_protocol_is_a_separate_cause(lake):
    write_release(lake, "2026.1", one(lake))
    moved = rescore(lake, one(lake), 0.02).with_columns(
        pl.lit("paper").alias("protocol_id"), pl.lit("e" * 32).alias("probe_digest")
    )
    write_release(lake, "2026.2", moved)
    row = diff_releases(lake, "2026.1", "2026.2").row(0, named=True)
    assert (row["keys"], row["why"]) == ("protocol", "protocol")


def test_what_only_one_release_names_is_added_or_removed(lake):
    write_release(lake, "2026.1", one(lake))
    write_release(lake, "2026.2", lake.release().filter(pl.col("task_id") == "task_4").head(2))
    found = diff_releases(lake, "2026.1", "2026.2")
    assert dict(found.group_by("why").len().iter_rows()) == {"added": 2, "removed": 1}
    back = diff_releases(lake, "2026.2", "2026.1")
    assert dict(back.group_by("why").len().iter_rows()) == {"added": 1, "removed": 2}


def test_a_release_that_does_not_exist_is_named_with_a_suggestion(lake):
    with pytest.raises(LakeError, match=r"did you mean 'current'"):
        diff_releases(lake, "current", "curren")


@pytest.mark.parametrize("name", ["Current", "a b", "", "_x", "a/b", "current", "current_paper"])
def test_a_name_that_cannot_be_a_release_is_refused(lake, name):
    with pytest.raises(LakeError, match="name"):
        freeze_release(lake, name)


def test_a_frozen_release_cannot_be_replaced(lake):
    write_release(lake, "2026.1", one(lake))
    with pytest.raises(LakeError, match=r"is frozen and 'current' differs .*genebench diff"):
        freeze_release(lake, "2026.1")
    write_release(lake, "2026.2", lake.release())
    assert freeze_release(lake, "2026.2").rows["gold.releases"].height == lake.release().height


def test_an_unfinished_release_is_frozen_only_when_asked(lake):
    pending = one(lake).with_columns(pl.lit("a" * 32).alias("evaluation_key"))
    write_release(lake, "current_x", pending)
    with pytest.raises(LakeError, match="1 evaluations that are not finished"):
        freeze_release(lake, "2026.1", "current_x")
    assert freeze_release(lake, "2026.1", "current_x", allow_pending=True).n_pending == 1
