"""`Lake`: filters, leaderboards, comparisons, time travel, SQL and error messages."""

import datetime as dt
import shutil
import time

import polars as pl
import pytest

from genebench.errors import LakeError
from genebench.evaluation.metrics import METRICS
from lakehouse import open_lake
from lakehouse.tables.catalogue import table
from lakehouse.tables.commits import Commit
from lakehouse.tables.time_travel import read_time

COMMIT = Commit("test", "test")


@pytest.fixture
def copied(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    return open_lake(tmp_path / "lake")


def test_scores_are_lazy_and_have_the_declared_columns(synthetic):
    scores = synthetic.scores(task="task_3")
    assert isinstance(scores, pl.LazyFrame)
    assert scores.collect_schema() == table("gold.scores").schema


def test_scores_are_chosen_by_glob_family_kind_encoder_metric_and_label(synthetic):
    rows = synthetic.scores(
        "task_5?", "e*", family="loc*", metric="roc_auc", kind="multilabel", label="label 3"
    ).collect()
    assert rows.height
    assert set(rows["kind"]) == {"multilabel"}
    assert set(rows["family"]) == {"localization"}
    assert set(rows["encoder_id"]) == {"e0"}
    assert set(rows["metric"]) == {"roc_auc"}
    assert set(rows["label"]) == {"label 3"}
    assert rows["task_id"].str.contains(r"^task_5\d$").all()
    assert rows.group_by("task_id", "probe_id").len()["len"].unique().to_list() == [5]


def test_an_empty_label_asks_for_whole_tasks_only(synthetic):
    everything = synthetic.scores("task_54").collect()
    whole = synthetic.scores("task_54", label="").collect()
    assert set(whole["label"]) == {""}
    assert 0 < whole.height < everything.height


def test_a_glob_means_its_special_signs_literally(synthetic):
    with pytest.raises(LakeError, match=r"no evaluation of task 'task\.3'"):
        synthetic.scores(task="task.3")


@pytest.mark.parametrize(
    ("ask", "words"),
    [
        (lambda lake: lake.scores(task="tsk_3"), "did you mean 'task_3'"),
        (lambda lake: lake.scores(encoder="orcale"), "did you mean 'oracle'"),
        (lambda lake: lake.scores(family="genomics"), "did you mean 'genomic'"),
        (lambda lake: lake.scores(metric="rocauc"), "did you mean 'roc_auc'"),
        (lambda lake: lake.scores(release="curent"), "did you mean 'current'"),
        (lambda lake: lake.leaderboard(release="2031.1"), "there is no release '2031.1'"),
        (lambda lake: lake.leaderboard(metric="auc"), "there is no metric 'auc'"),
        (lambda lake: lake.leaderboard(by="famly"), "did you mean 'family'"),
        (lambda lake: lake.compare("e0", "e00"), "did you mean 'e0'"),
        (lambda lake: lake.task("task_three"), "has no task 'task_three'"),
        (lambda lake: lake.embeddings("randm"), "did you mean 'random'"),
        (lambda lake: lake.table("gold.score"), "did you mean 'gold.scores'"),
        (lambda lake: lake.imported_scores("published"), "no imported release 'published'"),
        (lambda lake: lake.at("yesterday"), "'yesterday' is not a time"),
    ],
)
def test_a_wrong_word_is_one_error_with_a_suggestion(synthetic, ask, words):
    with pytest.raises(LakeError, match=words) as error:
        ask(synthetic)
    assert "\n" not in str(error.value)


def test_an_empty_lake_says_how_to_fill_it(tmp_path):
    lake = open_lake(tmp_path / "nothing")
    with pytest.raises(LakeError, match="genebench benchmark"):
        lake.leaderboard()
    with pytest.raises(LakeError, match="is empty; run `genebench benchmark`"):
        lake.query("select * from scores")
    with pytest.raises(LakeError, match="has no tasks yet; run `genebench refresh`"):
        lake.task("chromosome")
    assert lake.releases().height == 0
    assert lake.history("gold.scores").height == 0


def test_a_release_counts_its_tasks_without_their_sub_tasks(synthetic):
    named = synthetic.release("current")["task_id"].unique()
    n_subtasks = named.str.contains("__").sum()
    assert n_subtasks
    (row,) = synthetic.releases().filter(release_id="current").to_dicts()
    assert row["n_tasks"] == len(named) - n_subtasks


def test_the_leaderboard_by_task_holds_the_means_over_folds(synthetic):
    wide = synthetic.leaderboard(by="task")
    mine = wide.filter((pl.col("encoder_id") == "e0") & (pl.col("probe_id") == "linear"))
    scores = synthetic.scores("task_3", "e0", metric="roc_auc", probe="linear").collect()
    assert mine["task_3"].item() == pytest.approx(scores["value"].mean())


@pytest.mark.parametrize("metric", ["roc_auc", "log_loss"])
def test_the_leaderboard_by_task_is_best_first_too(synthetic, metric):
    tasks = synthetic.leaderboard(by="task", metric=metric).drop(
        "encoder_id", "modality", "probe_id"
    )
    means = tasks.select(pl.mean_horizontal(pl.all()).round(9)).to_series()
    assert means.n_unique() > 1
    assert means.is_sorted(descending=METRICS[metric].is_greater_better)


def test_the_leaderboard_is_best_first_in_the_metrics_direction(synthetic):
    up = synthetic.leaderboard(metric="roc_auc")["overall"].to_list()
    down = synthetic.leaderboard(metric="log_loss")["overall"].to_list()
    assert up == sorted(up, reverse=True)
    assert down == sorted(down)
    assert not METRICS["log_loss"].is_greater_better


def test_comparing_an_encoder_with_itself_finds_no_difference(synthetic):
    rows = synthetic.compare("e0", "e0")
    assert rows.height
    assert rows["difference"].abs().max() == 0
    assert rows["n_folds_won"].sum() == 0


def test_comparing_counts_folds_and_changes_sign_with_the_order(synthetic):
    one = synthetic.compare("oracle", "random").sort("task_id")
    other = synthetic.compare("random", "oracle").sort("task_id")
    assert one["difference"].to_list() == pytest.approx((-other["difference"]).to_list())
    assert (one["n_folds_won"] + other["n_folds_won"] <= one["n_folds"]).all()
    assert one["mean_a"].mean() > one["mean_b"].mean()
    assert set(one.filter(pl.col("kind") == "regression")["metric"]) == {"r2"}


def test_fewer_errors_are_a_gain(synthetic):
    rows = synthetic.compare("oracle", "random", metric="log_loss")
    lower = rows.filter(pl.col("difference") < 0)
    assert (lower["n_folds_won"] > 0).all()


def test_names_of_a_release_find_an_evaluation_stored_under_others(copied):
    items = copied.release()
    whose = (pl.col("task_id") == "task_3") & (pl.col("probe_id") == "linear")
    twin = items.filter(whose, encoder_id="e0").with_columns(
        pl.lit("twin").alias("encoder_id"),
        pl.lit("elsewhere").alias("family"),
        pl.lit("task_twin").alias("task_id"),
    )
    other = twin.with_columns(items.filter(whose, encoder_id="e0")["family", "task_id"])
    both = pl.concat([items, twin, other])
    copied.delta.replace("gold.releases", both, COMMIT, {"release_id": "current"})
    mine = copied.scores("task_3", "e0", probe="linear").collect()
    for words in (
        {"family": "elsewhere"},
        {"task": "task_twin"},
        {"encoder": "twin", "task": "task_3"},
    ):
        found = copied.scores(**words).collect()
        assert found.height == mine.height
        assert set(found["encoder_id"]) == {"twin"}
    assert copied.compare("e0", "twin")["difference"].to_list() == [0.0]


def test_coverage_is_a_share_of_what_tasks_sample(synthetic):
    rows = synthetic.coverage()
    assert rows["share"].is_between(0, 1).all()
    assert (rows["n_entities"] <= rows["n_needed"]).all()


def test_embeddings_are_chosen_by_encoder_and_entity(synthetic):
    rows = synthetic.embeddings("random", "synthetic:1?").collect()
    assert rows.height == 10
    assert set(rows["encoder_id"]) == {"random"}


def test_a_table_is_read_at_a_version_and_at_a_time(copied):
    before = copied.table("silver.tasks").collect()
    version = copied.delta.version("silver.tasks")
    time.sleep(0.05)
    between = dt.datetime.now(dt.UTC)
    time.sleep(0.05)
    copied.delta.replace("silver.tasks", before.head(1), COMMIT)
    assert copied.table("silver.tasks").collect().height == 1
    assert copied.table("silver.tasks", version=version).collect().equals(before)
    assert copied.table("silver.tasks", at=between).collect().equals(before)
    assert copied.at(between).tasks().collect().equals(before)


def test_a_lake_before_its_first_commit_is_empty(copied):
    past = copied.at("2001-01-01")
    assert past.table("gold.scores").collect().height == 0
    assert past.table("gold.scores").collect_schema() == table("gold.scores").schema
    with pytest.raises(LakeError, match=r"held no release on 2001-01-01.*choose a later time"):
        past.leaderboard()


def test_scores_of_the_past_are_of_the_release_of_the_past(copied):
    between = dt.datetime.now(dt.UTC)
    time.sleep(0.05)
    few = copied.release().filter(pl.col("task_id") == "task_3")
    copied.delta.replace("gold.releases", few, COMMIT, {"release_id": "current"})
    assert copied.scores(label="").collect()["task_id"].n_unique() == 1
    assert copied.scores(label="", at=between).collect()["task_id"].n_unique() > 300


def test_a_day_stands_for_its_end():
    assert read_time("2026-11-20") > read_time("2026-11-20T23:00:00")
    assert read_time("2026-11-20T12:00:00+02:00") == read_time("2026-11-20T10:00:00")


def test_history_names_version_run_and_code_newest_first(synthetic):
    rows = synthetic.history("gold.scores")
    assert rows["version"].to_list() == sorted(rows["version"], reverse=True)
    assert rows["flow_run"].drop_nulls()[0] == "synthetic"


@pytest.mark.parametrize(
    "sql",
    [
        "select count(*) as n from scores where task_id = 'task_3'",
        "select count(*) as n from gold.scores where task_id = 'task_3'",
        "SELECT COUNT(*) AS n FROM Scores WHERE task_id = 'task_3'".replace("Scores", "scores"),
        "with mine as (select * from scores) select count(*) as n from mine where task_id='task_3'",
    ],
)
def test_sql_counts_what_the_named_read_finds(synthetic, sql):
    assert synthetic.query(sql)["n"].item() == synthetic.scores("task_3").collect().height


def test_text_in_sql_may_look_like_a_call(synthetic):
    sql = "select count(*) as n from scores -- read_csv('x')\n where task_id = 'read_csv(x)'"
    assert synthetic.query(sql)["n"].item() == 0


def test_sql_joins_tables(synthetic):
    rows = synthetic.query(
        "select e.title, avg(s.value) as mean from scores s join encoders e "
        "on s.encoder_id = e.encoder_id where s.metric = 'roc_auc' group by e.title order by mean"
    )
    assert rows.columns == ["title", "mean"]
    assert rows["title"].to_list()[-1] == "Oracle"


@pytest.mark.parametrize(
    ("sql", "words"),
    [
        ("select * from scoers", "there is no table 'scoers'; did you mean 'scores'"),
        ("select metrc from scores", "there is no column 'metrc'; did you mean 'metric'"),
        ("selct * from scores", "did you mean 'select'"),
        ("drop table scores", "starts with select or with, not 'drop'"),
        ("select * from scores where", "cannot be run"),
        ("select 1; select 2", "cannot be run"),
        ("", "an empty query; try"),
        ("select * from read_csv('/etc/passwd')", "read_csv is refused"),
        ("select * from scores, \"read_parquet\" ('x.parquet')", "not files"),
        ("select * from read_ipc/* a comment */('x')", "read_ipc is refused"),
    ],
)
def test_wrong_sql_is_one_clear_error(synthetic, sql, words):
    with pytest.raises(LakeError, match=words) as error:
        synthetic.query(sql)
    assert "\n" not in str(error.value)
    assert synthetic.scores("task_3").collect().height, "and the lake is as it was"


def test_tables_open_in_duckdb_pandas_and_pyarrow(synthetic, synthetic_root):
    from deltalake import DeltaTable

    expected = synthetic.scores("task_3").collect()
    scores = synthetic.arrow("gold.scores")
    assert scores.num_rows == synthetic.counts()["gold.scores"]
    frame = expected.to_pandas()
    assert frame["value"].mean() == pytest.approx(expected["value"].mean())
    opened = DeltaTable(str(synthetic_root / "gold" / "scores")).to_pyarrow_dataset()
    tasks = opened.to_table(columns=["task_id"]).to_pandas()["task_id"]
    assert (tasks == "task_3").sum() == expected.height
    duckdb = pytest.importorskip("duckdb")
    found = duckdb.sql("select count(*) from scores where task_id = 'task_3'").fetchall()
    assert found == [(expected.height,)]
