"""Significance on the report page: intervals, solved tasks, pairs of encoders and ranks."""

import re
import shutil

import numpy as np
import polars as pl
import pytest
from blanks import filled

from flows.cli.render import print_leaderboard, print_task_scores, print_task_table
from genebench.errors import LakeError
from genebench.evaluation.statistics.ranking import rank_over_tasks
from lakehouse import open_lake
from lakehouse.report.intervals import mean_intervals
from lakehouse.report.leaderboard_table import leaderboard_markdown
from lakehouse.report.page.contents import read_contents
from lakehouse.report.page.figures.rank_figures import draw_ranking
from lakehouse.report.page.payload import to_payload
from lakehouse.report.page.significance_results import EncoderRanking
from lakehouse.report.page.write import to_spec, write_report
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit("test", "test")
HALF = 0.04


def interval_rows(lake):
    """An interval of every whole ROC AUC by the linear probe, its score in the middle."""
    means = (
        lake.scores(metric="roc_auc", probe="linear", label="")
        .group_by("evaluation_key", "family", "encoder_id", "task_id", "metric")
        .agg(pl.col("value").mean())
        .sort("evaluation_key")
        .collect()
    )
    return [
        row
        | {"low": row["value"] - HALF, "high": row["value"] + HALF, "level": 0.95}
        | {"run_id": "synthetic"}
        for row in means.iter_rows(named=True)
    ]


@pytest.fixture(scope="module")
def lake(synthetic_root, tmp_path_factory):
    """The synthetic lake, with a task that a control solves and one pair that differs."""
    root = tmp_path_factory.mktemp("evidence") / "lake"
    shutil.copytree(synthetic_root, root)
    opened = open_lake(root)
    opened.delta.append("gold.intervals", filled("gold.intervals", interval_rows(opened)), COMMIT)
    family, kind = opened.task("task_3")["family"], opened.task("task_3")["kind"]
    common = {"release_id": "current", "family": family, "task_id": "task_3", "kind": kind}
    common |= {"probe_id": "linear", "protocol_id": "standard", "metric": "roc_auc"}
    verdict = {"best_encoder_id": "e0", "control_id": "random", "solved_by": "random"}
    live = opened.compare("e0", "random").filter(task_id="task_3")["difference"].item()
    pair = {"encoder_a": "e0", "encoder_b": "random", "difference": live, "low": 0.1}
    pair |= {"high": 0.3, "p_rows": 1e-9, "p_folds": 0.02, "p_adjusted": 0.00012}
    for name, row in (
        ("gold.verdicts", verdict | {"verdict": "solved by a control"}),
        ("gold.comparisons", pair | {"is_established": True}),
    ):
        rows = filled(name, [common | row])
        opened.delta.replace(name, rows, COMMIT, {"release_id": "current"})
    return opened


@pytest.fixture(scope="module")
def contents(lake):
    return read_contents(lake, "current")


@pytest.fixture(scope="module")
def payload(lake, contents):
    return to_payload(lake, contents, "0.1.0")


def place_of(payload, kind, name):
    return [one["id"] for one in payload[kind]].index(name)


def test_scores_carry_their_intervals(payload, lake):
    series = payload["series"].index({"probe": "linear", "protocol": "standard"})
    cells = payload["scores"][series]["roc_auc"]
    t, e = place_of(payload, "tasks", "task_3"), place_of(payload, "encoders", "e0")
    place = t * len(payload["encoders"]) + e
    assert cells["low"][place] == pytest.approx(cells["mean"][place] - HALF * 10_000, abs=1)
    assert cells["high"][place] == pytest.approx(cells["mean"][place] + HALF * 10_000, abs=1)
    assert "low" not in payload["scores"][series]["f1"], "no interval, no brackets"


def test_the_interval_of_a_mean_assumes_fully_correlated_errors(contents):
    rows = contents.board.filter((pl.col("metric") == "roc_auc") & (pl.col("probe_id") == "linear"))
    assert rows["low"].null_count() == 0
    assert np.allclose(rows["high"] - rows["low"], 2 * HALF)
    assert np.allclose((rows["high"] + rows["low"]) / 2, rows["mean"])


def test_a_mean_has_no_interval_where_one_task_lacks_it(lake, contents):
    means = contents.means.filter(
        (pl.col("metric") == "roc_auc") & (pl.col("probe_id") == "linear")
    )
    family = lake.task("task_3")["family"]
    is_lost = (pl.col("task_id") == "task_3") & (pl.col("encoder_id") == "e0")
    lost = means.with_columns(pl.when(~is_lost).then("low").alias("low"))
    found = (
        mean_intervals(lake.release(), lost).filter(pl.col("encoder_id") == "e0")["scope"].to_list()
    )
    assert family not in found
    assert "overall" not in found
    assert found


def test_a_solved_task_names_its_control(payload):
    task = place_of(payload, "tasks", "task_3")
    series = payload["series"].index({"probe": "linear", "protocol": "standard"})
    verdict = payload["verdicts"][series][task]
    assert payload["encoders"][verdict["solved_by"]]["id"] == "random"
    other = 1 - series
    assert payload["verdicts"][other] == {}


def test_pairs_are_sent_as_columns_with_corrected_p_values(payload):
    series = payload["series"].index({"probe": "linear", "protocol": "standard"})
    pairs = payload["pairs"][series]
    assert pairs["p"] == [0.00012]
    assert pairs["is_established"] == [1]
    assert payload["encoders"][pairs["a"][0]]["id"] == "e0"


def test_the_rules_of_the_release_are_described(payload):
    named = {(one["noun"], one["id"]) for one in payload["rules"]}
    assert named == {("probe", "linear"), ("probe", "mlp"), ("protocol", "standard")}
    assert all(one["description"] for one in payload["rules"])


def find_values(part):
    """Every table that stands inside a chart."""
    if isinstance(part, dict):
        data = part.get("data")
        if isinstance(data, dict) and data.get("values"):
            yield data["values"]
        part = list(part.values())
    if isinstance(part, list):
        for inner in part:
            yield from find_values(inner)


def test_ranks_are_drawn_with_their_critical_difference(contents):
    names = contents.encoders["encoder_id"].to_list()
    scores = np.random.default_rng(0).normal(size=(40, len(names))) + np.array([3, 3, 0, 0])
    ranking = rank_over_tasks(scores)
    figure = draw_ranking(
        EncoderRanking("linear", "standard", "roc_auc", names, ranking), contents.encoders
    )
    spec = to_spec(figure.chart)
    tables = [*spec["datasets"].values(), *find_values(spec)]
    ranks = next(rows for rows in tables if "rank" in rows[0])
    assert [row["rank"] for row in ranks] == sorted(ranking.mean_ranks.round(3))
    reach = next(rows for rows in tables if "label" in rows[0])
    assert reach[0]["high"] - reach[0]["low"] == pytest.approx(ranking.critical_difference)
    bars = next(rows for rows in tables if "group" in rows[0])
    assert len(bars) == len(ranking.cliques) == 2


@pytest.fixture(scope="module")
def page(browser, lake, tmp_path_factory):
    path = write_report(lake, "current", tmp_path_factory.mktemp("page"), with_files=False)
    opened = browser.new_page()
    complaints = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(path.resolve().as_uri())
    opened.wait_for_selector("html[data-ready=yes]")
    opened.complaints = complaints
    yield opened
    opened.close()


def test_the_page_shows_intervals_and_what_a_control_solves(page, payload):
    cell = page.locator("#board tbody tr", has_text="Encoder 0").locator("td").nth(1)
    value = float(re.match(r"\d\.\d+", cell.inner_text())[0])
    low, high = (float(end) for end in re.search(r"\[(.+), (.+)\]", cell.inner_text()).groups())
    assert (high + low) / 2 == pytest.approx(value, abs=2e-3)
    assert high - low == pytest.approx(2 * HALF, abs=2e-3)
    assert "Task 3 (Random)" in page.inner_text("#solved-note")
    page.fill("#task-search", "solved by random")
    assert page.locator("#task-table tbody tr").count() == 1
    assert "solved by Random" in page.inner_text("#task-table tbody tr")
    assert "1 of 1 solved by a control" in page.inner_text("#board thead")
    page.fill("#task-search", "")


def test_the_page_compares_two_encoders_either_way(page):
    random = page.locator("#pair-b option", has_text="Random").get_attribute("value")
    first = page.locator("#pair-a option", has_text="Encoder 0").get_attribute("value")
    page.select_option("#pair-a", first)
    page.select_option("#pair-b", random)
    assert "+0.200" in page.inner_text("#pair-table tbody")
    assert "[0.100, 0.300]" in page.inner_text("#pair-table tbody")
    assert "Encoder 0 is better" in page.inner_text("#pair-table tbody")
    assert "< 0.001" in page.inner_text("#pair-table tbody")
    page.select_option("#pair-a", random)
    page.select_option("#pair-b", first)
    assert "−0.200" in page.inner_text("#pair-table tbody")
    assert "[−0.300, −0.100]" in page.inner_text("#pair-table tbody")
    assert "Random is better on 0, Encoder 0 on 1" in page.inner_text("#pair-count")
    won = page.locator("#pair-matrix tbody tr", has_text="Encoder 0").locator(".tally")
    assert won.inner_text() == "1of 1"
    assert page.complaints == []


def test_an_open_task_says_its_verdict_and_pairs(page):
    page.evaluate("location.hash = '#task=task_3'")
    page.wait_for_selector("#task:not([hidden])")
    words = page.inner_text("#task")
    assert "solved by Random" in words
    assert "1 pair of encoders compared" in words
    page.select_option("#series", label="mlp")
    assert page.locator("#comparisons").is_hidden()
    assert page.locator("#solved-note").is_hidden()
    page.select_option("#series", label="linear")
    assert page.locator("#comparisons").is_visible()
    assert page.complaints == []


def test_the_terminal_marks_what_a_control_solves(lake, capsys):
    print_leaderboard(lake, "current", "roc_auc")
    words = " ".join(capsys.readouterr().out.split())
    note = "1 of 1 tasks are solved by a control and hardly distinguish encoders"
    assert f"{note}: task_3 solved by random" in words
    mean = lake.leaderboard().filter(encoder_id="e0", probe_id="linear")["overall"].item()
    assert f"{mean - HALF:.3f} to {mean + HALF:.3f}" in words
    assert "solved by random" in leaderboard_markdown(lake, "current")
    print_task_table(lake, "current", "roc_auc")
    assert "solved by" in capsys.readouterr().out


def test_a_task_in_the_terminal_has_its_scores_with_intervals(lake, capsys):
    print_task_scores(lake, "current", "task_3")
    words = capsys.readouterr().out
    assert "ROC AUC: solved by random" in words
    assert "low" in words
    print_task_scores(lake, "current", "no_such_task")
    assert capsys.readouterr().out == ""


def test_a_leaderboard_by_a_metric_that_does_not_exist_is_one_error(lake):
    with pytest.raises(LakeError, match="did you mean 'roc_auc'"):
        print_leaderboard(lake, "current", "roc_acu")


def test_a_comparison_carries_its_tests_either_way(lake):
    one = lake.compare("random", "e0").filter(task_id="task_3").row(0, named=True)
    assert (one["low"], one["high"]) == pytest.approx((-0.3, -0.1))
    other = lake.compare("e0", "random")
    mine = other.filter(task_id="task_3").row(0, named=True)
    assert (mine["low"], mine["high"]) == pytest.approx((0.1, 0.3))
    assert mine["p_adjusted"] == pytest.approx(0.00012)
    assert mine["is_established"]
    assert other["p_adjusted"].null_count() == other.height - 1, "the rest was not compared"
