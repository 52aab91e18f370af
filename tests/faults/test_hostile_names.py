"""Names that are code, paths or endless: refused as ids, shown as text elsewhere."""

import csv
import json
import re
import shutil

import polars as pl
import pytest

from genebench.encoders.declaration import Encoder
from genebench.errors import GenebenchError
from genebench.reference.board.board_page import render_board
from genebench.reference.board.board_scores import score_board
from genebench.reference.board.build_board import encoder_rows, prepare_board_tasks
from genebench.reference.board.bundle_checks import check_bundle
from genebench.reference.bundle import read_bundle, write_bundle
from genebench.reference.packaged_reference import BUNDLE_FILE, reference_folder
from genebench.registry.yaml_reader import validate
from genebench.tasks.user_tasks import read_user_tasks
from lakehouse import open_lake
from lakehouse.report.imports import read_imported
from lakehouse.report.page.write import write_report
from lakehouse.report.releases import freeze_release
from lakehouse.tables.commits import Commit

SCRIPT = '</script><script>alert("hostile")</script>'
HOSTILE = [
    SCRIPT,
    '"><img src=x onerror=alert(1)>',
    "../../outside",
    "/absolute",
    "a/b",
    "a\\b",
    "a\nb",
    "a\x00b",
    "a|b`c`",
    "基因",
    "ä",
    "a" * 100_000,
    "",
]
COMMIT = Commit("test", "test")


def short(name: str) -> str:
    return ascii(name[:40])


@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_an_encoder_cannot_have_a_hostile_id(name):
    data = {"id": name, "title": "a", "modality": "control", "loader": "random", "dimension": 8}
    found, mistakes = validate(Encoder, data, "here")
    assert found is None
    assert mistakes


@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_a_task_cannot_have_a_hostile_id(name, tmp_path):
    task = {
        "title": "a", "kind": "binary", "file": "a.csv", "recipe": "column", "description": "a",
        "with": {"id": "entrez_id", "namespace": "entrez", "column": "b"},
    }  # fmt: skip
    (tmp_path / "tasks.yaml").write_text(json.dumps({name: task}))
    (tmp_path / "a.csv").write_text("entrez_id,b\n1,a\n2,c\n")
    mistakes: list[str] = []
    assert list(read_user_tasks(tmp_path / "tasks.yaml", "embedded", mistakes)) == []
    assert mistakes


@pytest.mark.parametrize("name", HOSTILE, ids=short)
def test_a_release_cannot_have_a_hostile_name(name, synthetic, tmp_path):
    path = tmp_path / "results.csv"
    path.write_text("task,model,metric,value\na,b,roc_auc,0.5\n")
    with pytest.raises(GenebenchError):
        freeze_release(synthetic, name)
    with pytest.raises(GenebenchError):
        read_imported(path, name, {}, "run")


def hostile(column: str) -> pl.Expr:
    """Hostile texts in place of those of a column, one after the other."""
    texts = pl.lit(pl.Series([name for name in HOSTILE if name]))
    return texts.gather(pl.int_range(pl.len()) % (len(HOSTILE) - 1)).alias(column)


@pytest.mark.slow
def test_the_page_of_a_report_shows_hostile_titles_and_imported_names_as_text(
    synthetic_root, tmp_path
):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    results = tmp_path / "results.csv"
    with results.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["task", "model", "metric", "value"])
        for name in HOSTILE:
            rows.writerow([name or "a", name or "a", "roc_auc", 0.5])
    lake.delta.append("gold.foreign_scores", read_imported(results, "a", {}, "run"), COMMIT)
    tasks = lake.table("silver.tasks").collect()
    lake.delta.replace("silver.tasks", tasks.with_columns(hostile("title")), COMMIT)
    page = write_report(lake, "current", tmp_path / "out")
    assert_no_markup(page.read_text())
    assert {one.name for one in tmp_path.iterdir()} == {"lake", "results.csv", "out"}
    assert {one.name for one in (tmp_path / "out").iterdir()} == {"index.html", "figures"}
    for figure in (tmp_path / "out" / "figures").glob("*.svg"):
        assert_no_markup(figure.read_text())


@pytest.fixture(scope="module")
def board():
    return prepare_board_tasks()


@pytest.fixture(scope="module")
def reference():
    return read_bundle(reference_folder() / BUNDLE_FILE)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in HOSTILE if not name.isalpha()], ids=short)
def test_a_bundle_whose_encoder_has_a_hostile_name_is_refused(name, board, reference, tmp_path):
    one = reference.filter(pl.col("encoder_id") == reference["encoder_id"][0])
    path = tmp_path / "a.parquet"
    write_bundle(path, one.with_columns(pl.lit(name).alias("encoder_id")))
    assert check_bundle(path, board, {}).refused


@pytest.mark.soak
def test_a_board_shows_hostile_titles_and_file_names_as_text(board, reference):
    scores = score_board(reference, board)
    leaderboard = encoder_rows(reference, scores, []).with_columns(
        hostile("title"), hostile("description"), hostile("origin")
    )
    texts = [name for name in HOSTILE if name]
    checks = pl.DataFrame(dict.fromkeys(("bundle", "refused", "recomputed", "remarks"), texts))
    page = render_board(leaderboard, scores, checks, SCRIPT)
    assert_no_markup(page)


def assert_no_markup(page: str) -> None:
    """The hostile names are in the page, and none of them is markup."""
    # The ends of the page's own scripts follow no hostile text.
    assert not re.search(r"<script>\s*alert\(", page)
    assert "<img src=x" not in page
