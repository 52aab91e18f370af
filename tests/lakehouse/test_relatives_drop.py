"""What the scores of a release lose where relatives are held out, by encoder and family."""

import shutil

import polars as pl
import pytest
from relatives_release import COMMIT, LOST, RELATIVES, add_relatives

from flows.cli.render import print_leaderboard
from lakehouse import open_lake
from lakehouse.report.leaderboard_table import leaderboard_markdown
from lakehouse.report.page.contents import read_contents
from lakehouse.report.page.payload import to_payload
from lakehouse.report.relatives_drop import DROPS_SCHEMA, read_relatives_drops

pytestmark = pytest.mark.slow

OTHER = "task_5"


@pytest.fixture(scope="module")
def lake(synthetic_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("drops") / "lake"
    shutil.copytree(synthetic_root, root)
    add_relatives(open_lake(root), other_vectors=[OTHER])
    return open_lake(root)


def test_without_a_run_that_holds_out_relatives_there_is_no_drop(synthetic):
    found = read_relatives_drops(synthetic, "current")
    assert found.is_empty()
    assert found.schema == DROPS_SCHEMA
    assert "held out" not in leaderboard_markdown(synthetic, "current")


def test_the_drop_is_that_of_the_tasks_with_equal_labels_and_vectors(lake):
    found = read_relatives_drops(lake, "current")
    assert found["drop"].to_list() == pytest.approx([LOST] * found.height)
    board = lake.leaderboard_rows("current").filter(metric="roc_auc", probe_id="linear")
    drops = found.filter(metric="roc_auc", probe_id="linear")
    key = ["scope", "encoder_id"]
    both = board.join(drops, on=key, suffix="_kept")
    assert both.height == board.height
    family = lake.task(OTHER)["family"]
    other = both.filter(scope=family)
    assert (other["n_tasks_kept"] == other["n_tasks"] - 1).all()
    same = both.filter(~pl.col("scope").is_in([family, "overall"]))
    assert same["n_tasks_kept"].to_list() == same["n_tasks"].to_list()
    assert same["mean_kept"].to_list() == pytest.approx(same["mean"].to_list())
    assert (other["mean_kept"] != other["mean"]).any()


def test_the_release_that_holds_out_relatives_shows_the_same(lake):
    assert read_relatives_drops(lake, RELATIVES).equals(read_relatives_drops(lake, "current"))


def test_an_evaluation_that_one_of_both_lacks_is_in_neither_mean(lake):
    where = {"release_id": RELATIVES}
    items = lake.release(RELATIVES)
    less = items.filter((pl.col("task_id") != "task_3") | (pl.col("encoder_id") != "e0"))
    lake.delta.replace("gold.releases", less, COMMIT, where)
    drops = read_relatives_drops(lake, "current").filter(probe_id="linear", metric="roc_auc")
    lake.delta.replace("gold.releases", items, COMMIT, where)
    scope = lake.task("task_3")["family"]
    counts = dict(drops.filter(scope=scope).select("encoder_id", "n_tasks").iter_rows())
    assert counts["e0"] == counts["random"] - 1


def test_the_terminal_the_artifact_and_the_page_show_both_means(lake, capsys):
    row = read_relatives_drops(lake, "current").filter(
        probe_id="linear", metric="roc_auc", scope="overall", encoder_id="e0"
    )
    shown = f"{row['mean'].item():.3f} → {row['mean_held_out'].item():.3f}"
    print_leaderboard(lake, "current")
    assert shown in capsys.readouterr().out
    assert shown in leaderboard_markdown(lake, "current")
    payload = to_payload(lake, read_contents(lake, "current"), "test")
    (entry,) = (
        one
        for one in payload["relatives"]
        if (one["probe"], one["metric"], one["scope"]) == ("linear", "roc_auc", "overall")
    )
    place = [one["id"] for one in payload["encoders"]].index("e0")
    assert entry["mean"][place] - entry["mean_held_out"][place] == pytest.approx(LOST, abs=1e-3)
