"""A leaderboard of bundles: what is refused, what is marked, and the page in a real browser."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from genebench.errors import GenebenchError
from genebench.reference.board.build_board import build_board, prepare_board_tasks
from genebench.reference.board.bundle_checks import check_bundle
from genebench.reference.bundle import read_bundle, write_bundle
from genebench.reference.evaluate_vectors import evaluate_vectors
from genebench.reference.packaged_reference import (
    BUNDLE_FILE,
    prepare_reference_tasks,
    reference_folder,
)

pytestmark = pytest.mark.slow

DOCUMENT = Path(__file__).parents[2] / "docs" / "submissions.md"
TASKS = ["shared_complex", "hla_class", "n_annotations"]
SIZES = {"desktop": (1280, 900), "phone": (390, 844)}


@pytest.fixture(scope="module")
def vectors():
    """Ids of the universe, and vectors that know which genes share a complex."""
    packaged = prepare_reference_tasks()
    rng = np.random.default_rng(3)
    matrix = rng.normal(size=(len(packaged.entity_ids), 8)).astype(np.float32)
    task = packaged.tasks["shared_complex"]
    for first, second in task.rows[task.targets == 1]:
        matrix[second] = matrix[first] + rng.normal(scale=0.5, size=8)
    return packaged.entity_ids.str.strip_prefix("ncbigene:").to_list(), matrix


@pytest.fixture(scope="module")
def found(vectors):
    return evaluate_vectors(*vectors, name="alpha", tasks=TASKS)


@pytest.fixture(scope="module")
def folder(found, vectors, tmp_path_factory):
    """Bundles: a whole one, one of some genes, and forged ones."""
    folder = tmp_path_factory.mktemp("bundles")
    names, matrix = vectors
    found.write_bundle(folder / "alpha.parquet")
    part = evaluate_vectors(names[:-3000], matrix[:-3000], name="part", tasks=TASKS)
    part.write_bundle(folder / "part.parquet")
    mine = found.bundle.with_columns(pl.lit("forged").alias("encoder_id"))
    digest = pl.lit("0" * 32)
    forged = {
        "score": mine.with_columns(pl.col("fold_scores").list.eval(pl.element() * 0 + 0.99)),
        "protocol": mine.with_columns(digest.alias("protocol_digest")),
        "universe": mine.with_columns(digest.alias("universe_digest")),
        "labels": mine.with_columns(digest.alias("label_digest")),
        "samples": mine.with_columns(pl.col("n_samples") - 1),
        "name": mine.with_columns(pl.lit("<script>alert(1)</script>").alias("encoder_id")),
        "taken": mine.with_columns(pl.lit("minilm").alias("encoder_id")),
        "empty": mine.with_columns(pl.lit(None, pl.String).alias("title")),
        "title": mine.with_columns(
            pl.lit("<b>bold</b>").alias("title"),
            pl.when(pl.col("task_id") == "hla_class")
            .then(digest)
            .otherwise("label_digest")
            .alias("label_digest"),
        ),
    }
    for name, bundle in forged.items():
        write_bundle(folder / f"{name}.parquet", bundle)
    (folder / "text.parquet").write_text("no parquet")
    return folder


@pytest.fixture(scope="module")
def made(folder, tmp_path_factory):
    site = tmp_path_factory.mktemp("site")
    paths = [folder / "alpha.parquet", folder / "part.parquet", folder / "title.parquet"]
    refused = [path for path in sorted(folder.glob("*.parquet")) if path not in paths]
    return build_board([*paths, *refused], site), site


REFUSED = {
    "score": "it states the score 0.990, but its stored predictions give",
    "protocol": "another protocol",
    "universe": "another universe",
    "labels": "are of other labels",
    "samples": "samples and covers",
    "name": "other characters than letters",
    "taken": "the reference release has an encoder 'minilm'",
    "empty": "empty cells in title",
    "text": "cannot be read as a bundle",
}


@pytest.mark.parametrize(("name", "said"), REFUSED.items())
def test_a_bundle_that_cannot_be_compared_is_refused_with_the_reason(made, name, said):
    refused = {one.path.stem: one.refused for one in made[0].refused()}
    assert set(refused) == set(REFUSED)
    assert said in refused[name]


def test_rows_of_other_labels_are_left_out_and_marked(made):
    board, _ = made
    marked = next(one for one in board.checked if one.path.stem == "title")
    assert "hla_class" not in set(marked.rows["task_id"])
    assert "forged: its scores of hla_class are of other labels" in marked.remarks
    row = board.leaderboard.filter(encoder_id="forged")
    assert row["overall"].item() is None
    assert row["biological"].item() is None


def test_the_verdicts_are_those_of_the_command_evaluate(made, found):
    board, _ = made
    theirs = found.scopes.filter(pl.col("scope") != "overall").select(
        "scope", "encoder_id", "verdict", "difference"
    )
    both = board.scores.verdicts.filter(first="alpha").join(
        theirs, on=["scope", "encoder_id"], suffix="_evaluate"
    )
    assert both.height == theirs.height > 10
    assert both["verdict"].to_list() == both["verdict_evaluate"].to_list()
    assert both["difference"].to_list() == pytest.approx(both["difference_evaluate"].to_list())


def test_scores_of_a_partial_bundle_are_compared_on_the_samples_that_both_cover(made, folder):
    board, _ = made
    row = board.leaderboard.filter(encoder_id="part").row(0, named=True)
    assert 0.5 < row["coverage"] < 0.95
    stored = read_bundle(folder / "part.parquet")
    shown = board.scores.tasks.filter(encoder_id="part")
    want = {one["task_id"]: np.mean(one["fold_scores"]) for one in stored.to_dicts()}
    assert dict(shown.select("task_id", "value").iter_rows()) == pytest.approx(want)
    # Equal vectors on equal rows, once fitted to all genes, once to some.
    same = board.scores.verdicts.filter(first="alpha", encoder_id="part", scope="regulatory")
    assert same["verdict"].to_list() == ["cannot be told"]


def test_scores_are_recomputed_from_vectors_and_other_vectors_are_refused(
    folder, vectors, tmp_path
):
    names, matrix = vectors
    table = pl.DataFrame({"gene": names}).hstack(pl.DataFrame(matrix))
    table.write_csv(tmp_path / "alpha.csv")
    table.with_columns(pl.col("column_0") + 1).write_csv(tmp_path / "other.csv")
    alpha, tasks = folder / "alpha.parquet", prepare_board_tasks()
    right = check_bundle(alpha, tasks, {"alpha": tmp_path / "alpha.csv"})
    assert not right.refused
    assert right.recomputed == tuple(sorted(TASKS))
    wrong = check_bundle(alpha, tasks, {"alpha": tmp_path / "other.csv"})
    assert "its scores are of other vectors" in wrong.refused
    with pytest.raises(GenebenchError, match="no bundle has an encoder 'beta'"):
        build_board([alpha], tmp_path / "site", {"beta": tmp_path / "alpha.csv"})


def test_made_up_predictions_are_refused_where_vectors_are_given(folder, vectors, tmp_path):
    names, matrix = vectors
    table = pl.DataFrame({"gene": names}).hstack(pl.DataFrame(matrix))
    table.write_csv(tmp_path / "alpha.csv")
    honest = read_bundle(folder / "alpha.parquet")
    minilm = read_reference("minilm").rename({"fold_scores": "s", "predictions": "p"})
    made_up = (
        honest.join(minilm.select("task_id", "s", "p"), on="task_id", how="left")
        .with_columns(pl.col("s").alias("fold_scores"), pl.col("p").alias("predictions"))
        .select(honest.columns)
    )
    write_bundle(tmp_path / "made_up.parquet", made_up)
    path, tasks = tmp_path / "made_up.parquet", prepare_board_tasks()
    assert not check_bundle(path, tasks, {}).refused
    given = check_bundle(path, tasks, {"alpha": tmp_path / "alpha.csv"})
    assert "but its vectors in" in given.refused


def read_reference(encoder_id):
    return read_bundle(reference_folder() / BUNDLE_FILE).filter(encoder_id=encoder_id)


def test_the_tables_of_the_site_are_those_of_the_board(made):
    board, site = made
    read = pl.read_csv(site / "leaderboard.csv")
    assert read["encoder_id"].to_list() == board.leaderboard["encoder_id"].to_list()
    assert pl.read_csv(site / "tasks.csv").height == board.scores.tasks.height
    checks = pl.read_csv(site / "checks.csv")
    assert checks.filter(pl.col("refused") != "").height == len(REFUSED)


def column_of(page, name):
    head = page.locator("#leaderboard thead th").all_inner_texts()
    place = 1 + next(number for number, text in enumerate(head) if text.startswith(name))
    return page.locator(f"#leaderboard tbody tr > :nth-child({place})").all_inner_texts()


@pytest.mark.parametrize("size", SIZES)
def test_the_page_sorts_opens_verdicts_and_asks_nobody(browser, made, size):
    _, site = made
    width, height = SIZES[size]
    page = browser.new_page(viewport={"width": width, "height": height})
    wrong, asked = [], []
    page.on("console", lambda said: wrong.append(said.text))
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    page.goto((site / "index.html").resolve().as_uri())
    page.wait_for_selector("html[data-ready=yes]")
    assert not wrong
    assert len(asked) == 1
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = page.locator("#leaderboard tbody th")
    assert names.all_inner_texts()[0] == "Bag of words"
    assert "<b>bold</b>" in names.all_inner_texts()
    page.get_by_role("button", name="regulatory").click()
    # Encoders without a score come last, both ways.
    cells = column_of(page, "regulatory")
    shown = [cell for cell in cells if cell != "–"]
    assert cells == sorted(shown, key=float, reverse=True) + ["–"] * (len(cells) - len(shown))
    page.get_by_role("button", name="regulatory").click()
    assert column_of(page, "regulatory") == shown[::-1] + cells[len(shown) :]
    page.locator("#leaderboard").get_by_role("link", name="alpha").click()
    assert page.locator("#verdicts-alpha table").is_visible()
    assert "refused" in page.locator("#bundles").inner_text()
    assert "states the score 0.990" in page.locator("#bundles").inner_text()
    page.close()


def test_the_command_checks_bundles_and_fails_if_one_is_refused(folder, tmp_path):
    good, bad = str(folder / "alpha.parquet"), str(folder / "score.parquet")
    done = CliRunner().invoke(app, ["board", "--check", good], catch_exceptions=False)
    assert done.stdout == "bundles accepted: 1\n"
    site = tmp_path / "site"
    for words in (["--check", good, bad], [bad, "-o", str(site)]):
        with pytest.raises(
            GenebenchError, match=r"bundles are refused: .*score\.parquet: forged, "
        ):
            CliRunner().invoke(app, ["board", *words], catch_exceptions=False)
    assert not site.exists()
    with pytest.raises(GenebenchError, match="give NAME=FILE"):
        CliRunner().invoke(app, ["board", good, "--vectors", "x"], catch_exceptions=False)


@pytest.mark.soak
@pytest.mark.soak
def test_the_documented_script_checks_and_builds_in_an_empty_git_repository(
    folder, vectors, tmp_path
):
    (script,) = re.findall(r"```bash\n(.*?)```", DOCUMENT.read_text(), re.DOTALL)
    script = "\n".join(line for line in script.splitlines() if "pip install" not in line)
    root = tmp_path / "repository"
    for name in ("bundles", "vectors", ".ci"):
        (root / name).mkdir(parents=True)
    (root / ".ci" / "board").write_text(script)
    shutil.copy(folder / "alpha.parquet", root / "bundles")
    names, matrix = vectors
    pl.DataFrame({"gene": names}).hstack(pl.DataFrame(matrix)).write_csv(root / "vectors/alpha.csv")
    subprocess.run(["git", "init", "-q", root], check=True)
    paths = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(Path.cwd()),
    }

    def run(word):
        return subprocess.run(
            ["bash", ".ci/board", word], cwd=root, env={**os.environ, **paths},
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    checked = run("check")
    assert checked.returncode == 0, checked.stderr
    assert not (root / "site").exists()
    built = run("site")
    assert built.returncode == 0, built.stderr
    assert "recomputed from vectors" in (root / "site" / "index.html").read_text()
    shutil.copy(folder / "score.parquet", root / "bundles")
    refused = run("check")
    assert refused.returncode == 1
    assert "it states the score 0.990" in refused.stderr
