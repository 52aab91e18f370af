"""Report figures match the tables; the page is self-contained; exports match the scores."""

import json
import re
import shutil
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import vl_convert
from hypothesis import given, settings
from hypothesis import strategies as st

from genebench.errors import LakeError
from genebench.registry.loading import load_registry
from lakehouse import open_lake
from lakehouse.report.exports import csv_rows, export_release
from lakehouse.report.page.contents import read_contents
from lakehouse.report.page.figures.family_means import draw_family_means
from lakehouse.report.page.figures.heat_maps import draw_task_means
from lakehouse.report.page.figures.release_figures import draw_figures
from lakehouse.report.page.figures.similarity import correlate_columns, pearson_correlation
from lakehouse.report.page.figures.similarity_figures import draw_similarity
from lakehouse.report.page.payload import to_payload
from lakehouse.report.page.write import is_current, to_spec, write_report
from lakehouse.tables.commits import Commit

pytestmark = pytest.mark.slow

COMMIT = Commit("test", "test")


@pytest.fixture(scope="module")
def contents(synthetic):
    return read_contents(synthetic, "current")


@pytest.fixture(scope="module")
def figures(contents):
    return {figure.id: figure for figure in draw_figures(contents)}


@pytest.fixture(scope="module")
def page(synthetic, tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    return write_report(synthetic, "current", folder, code="0.1.0+test", with_files=False)


def read_block(page, name):
    found = re.search(
        rf'<script type="application/json" id="{name}">(.*?)</script>', page, re.DOTALL
    )
    return json.loads(found[1])


def rows_of(figure, *needed):
    """The drawn rows that have the needed columns."""
    spec = to_spec(figure.chart)
    tables = list(spec.get("datasets", {}).values())

    def gather(part):
        if isinstance(part, dict):
            values = (
                part.get("data", {}).get("values") if isinstance(part.get("data"), dict) else None
            )
            if values:
                tables.append(values)
            for inner in part.values():
                gather(inner)
        elif isinstance(part, list):
            for inner in part:
                gather(inner)

    gather(spec)
    return next(rows for rows in tables if set(needed) <= set(rows[0]))


def titles_of(figure):
    """Every axis title that is written out."""
    return set(re.findall(r'"title": "([^"]+)"', json.dumps(to_spec(figure.chart))))


def test_every_figure_of_the_paper_is_drawn(figures):
    labelled = [name for name in figures if name.startswith("label_means_")]
    assert len(labelled) == 10
    assert {
        "family_means_roc_auc", "family_means_f1", "family_means_r2", "task_means_roc_auc",
        "task_means_r2", "encoder_similarity", "probe_agreement_mlp",
    } <= set(figures)  # fmt: skip


def test_family_means_are_the_leaderboards_with_their_deviation(figures, contents):
    rows = rows_of(figures["family_means_roc_auc"], "family", "mean", "low", "high")
    board = contents.board.filter(
        (pl.col("metric") == "roc_auc") & (pl.col("probe_id") == "linear")
    )
    assert len(rows) == board.height == 4 * 6
    assert {row["family"] for row in rows} >= {"Overall", "Localization"}
    mean = next(r for r in rows if r["family"] == "Overall" and r["encoder"] == "Encoder 0")
    stored = board.filter((pl.col("scope") == "overall") & (pl.col("encoder_id") == "e0"))
    assert mean["mean"] == pytest.approx(stored["mean"].item(), abs=1e-4)
    assert mean["high"] - mean["low"] == pytest.approx(2 * stored["sd"].item(), abs=3e-4)
    assert "ROC AUC" in titles_of(figures["family_means_roc_auc"])


def test_controls_are_marked_by_name_and_shape(figures):
    rows = rows_of(figures["family_means_roc_auc"], "encoder", "modality")
    controls = {row["encoder"] for row in rows if row["modality"] == "control"}
    assert controls == {"Random (control)", "Shuffled (control)", "Oracle (control)"}
    assert '"diamond"' in json.dumps(to_spec(figures["family_means_roc_auc"].chart))


def test_task_means_have_a_cell_for_every_task_and_encoder(figures):
    auc, numbers = (
        [row for part in to_spec(figures[name].chart)["datasets"].values() for row in part]
        for name in ("task_means_roc_auc", "task_means_r2")
    )
    assert len(auc) == 64 * 4
    assert len(numbers) == 10 * 4
    assert not {row["task"] for row in auc} & {row["task"] for row in numbers}


def test_a_very_low_mean_is_an_arrow_at_the_edge_and_a_short_text_in_its_cell(contents):
    encoders = contents.encoders
    hopeless = pl.col("encoder_id") == "e0"
    board = contents.board.filter((pl.col("metric") == "r2") & (pl.col("probe_id") == "linear"))
    low = board.with_columns(mean=pl.when(hopeless).then(-1234.5).otherwise("mean"))
    drawn, plain = (draw_family_means(rows, encoders, "r2") for rows in (low, board))
    assert "An arrow marks a mean below -1.1" in drawn.caption
    assert "arrow" not in plain.caption
    svg = vl_convert.vegalite_to_svg(to_spec(drawn.chart))
    assert svg.count("◂") == board.filter(hopeless).height
    cells = pl.DataFrame(
        {"task": ["a", "b"], "encoder": ["Encoder 0"] * 2, "family_title": ["Localization"] * 2,
         "mean": [-1234.5, -12.345], "sd": [0.0, 0.0]}
    )  # fmt: skip
    svg = vl_convert.vegalite_to_svg(to_spec(draw_task_means(cells, encoders, "r2").chart))
    assert "&lt; -99" in svg
    assert re.search(r"12\.3[45]</text>", svg)
    assert not re.search(r">[^<]*1234[^<]*</text>", svg)


def test_label_figures_have_a_cell_for_every_label(figures):
    figure = next(figure for name, figure in figures.items() if name.startswith("label_means_"))
    rows = rows_of(figure, "label", "encoder", "mean")
    assert len(rows) == 29 * 4


def draw_tasks(n_tasks, n_encoders):
    """The figure of the similarity of some tasks, with drawn means."""
    generator = np.random.default_rng(0)
    means = pl.DataFrame(
        [(f"t{t}", f"e{e}", generator.normal()) for t in range(n_tasks) for e in range(n_encoders)],
        schema=["task", "encoder", "mean"],
        orient="row",
    )
    return draw_similarity(correlate_columns(means, "task", "encoder"), "tasks", "Tasks", "")


@pytest.mark.parametrize("n", [4, 30, 60])
def test_similarity_figures_are_square_below_a_whole_tree(figures, n):
    figure = figures["encoder_similarity"] if n == 4 else draw_tasks(n, 6)
    cells = rows_of(figure, "a", "b", "correlation")
    corners = rows_of(figure, "link", "height")
    assert len(cells) == n * n
    assert len(corners) == 4 * (n - 1)
    assert all(cell["correlation"] == 1 for cell in cells if cell["a"] == cell["b"])
    assert {"distance", "Spearman correlation"} <= titles_of(figure)


def test_task_similarity_uses_encoders_without_controls_only(figures):
    assert "task_similarity" not in figures, "one encoder that is no control compares nothing"


def test_the_probes_are_compared_with_a_correlation(figures):
    figure = figures["probe_agreement_mlp"]
    rows = rows_of(figure, "task", "encoder", "mean", "mean_other")
    assert len(rows) == 64 * 4
    assert re.search(r"r = -?\d\.\d{3} over 64 points", figure.caption)
    assert {"ROC AUC, linear probe", "ROC AUC, mlp probe"} <= titles_of(figure)


def test_figures_are_written_as_svg_and_png(synthetic, tmp_path, monkeypatch):
    from lakehouse.report.page import write as page

    chosen = list(draw_figures(read_contents(synthetic, "current")))[:1]
    page.write_figures(chosen, tmp_path)
    svg = (tmp_path / "family_means_roc_auc.svg").read_text()
    assert svg.startswith("<svg")
    assert "Oracle (control)" in svg
    assert (tmp_path / "family_means_roc_auc.png").read_bytes()[:4] == b"\x89PNG"


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(3, 9), st.integers(0, 2**20))
def test_similarity_is_symmetric_whole_and_blind_to_order(n_columns, n_rows, seed):
    values = np.random.default_rng(seed).normal(size=(n_rows, n_columns))
    means = pl.DataFrame(
        [(f"c{j}", f"r{i}", values[i, j]) for i in range(n_rows) for j in range(n_columns)],
        schema=["column", "row", "mean"],
        orient="row",
    )
    one = correlate_columns(means, "column", "row")
    other = correlate_columns(means.sample(fraction=1, shuffle=True, seed=seed), "column", "row")
    assert one is not None
    assert other is not None
    assert sorted(one.names) == sorted(set(means["column"]))
    assert np.allclose(one.correlation, one.correlation.T)
    assert np.allclose(np.diag(one.correlation), 1)
    assert (np.abs(one.correlation) <= 1).all()
    at = [other.names.index(name) for name in one.names]
    assert np.allclose(one.correlation, other.correlation[np.ix_(at, at)])
    assert len(one.links) == n_columns - 1


def test_similar_columns_are_adjacent():
    base = np.arange(8.0)
    columns = {"a": base, "b": -base, "a_again": base + 0.1, "b_again": -base * 2}
    means = pl.DataFrame(
        [(name, str(i), v) for name, values in columns.items() for i, v in enumerate(values)],
        schema=["column", "row", "mean"],
        orient="row",
    )
    names = correlate_columns(means, "column", "row").names
    assert abs(names.index("a") - names.index("a_again")) == 1
    assert abs(names.index("b") - names.index("b_again")) == 1


def test_an_undefined_correlation_is_none():
    assert pearson_correlation(np.array([1.0, 1.0, 1.0]), np.array([1.0, 2.0, 3.0])) is None
    assert pearson_correlation(np.array([1.0, 2.0]), np.array([1.0, 2.0])) is None


def test_the_scores_of_the_page_equal_the_stored_scores(page, synthetic):
    data = read_block(page.read_text(), "data")
    tasks = [task["id"] for task in data["tasks"]]
    encoders = [encoder["id"] for encoder in data["encoders"]]
    series = data["series"].index({"probe": "mlp", "protocol": "standard"})
    place = tasks.index("task_3") * len(encoders) + encoders.index("e0")
    cells = data["scores"][series]["roc_auc"]
    stored = synthetic.scores("task_3", "e0", metric="roc_auc", probe="mlp").collect()
    assert cells["mean"][place] / 10_000 == pytest.approx(stored["value"].mean(), abs=1e-4)
    folds = stored.sort("fold")["value"].to_list()
    assert [fold / 10_000 for fold in cells["folds"][place]] == pytest.approx(folds, abs=1e-4)


def test_the_page_has_its_provenance(page):
    release = read_block(page.read_text(), "data")["release"]
    assert release["id"] == "current"
    assert release["code"] == "0.1.0+test"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d UTC", release["made_at"])


def test_the_page_loads_nothing_from_outside(page):
    text = page.read_text()
    markup = re.sub(r"<script.*?</script>", "", text, flags=re.DOTALL)
    assert not re.findall(r'(?:src|href)="(?!#)[^"]*"', markup)
    assert "url(http" not in markup
    assert "default-src 'none'" in markup
    assert page.stat().st_size < 15e6


def test_a_title_with_script_tags_is_escaped(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    title = '</script><script>alert("x")</script>'
    tasks = (
        lake.table("silver.tasks")
        .collect()
        .with_columns(
            pl.when(pl.col("task_id") == "task_3")
            .then(pl.lit(title))
            .otherwise("title")
            .alias("title")
        )
    )
    lake.delta.replace("silver.tasks", tasks, COMMIT)
    text = write_report(lake, "current", tmp_path / "out", with_files=False).read_text()
    assert title not in text
    assert title in [task["title"] for task in read_block(text, "data")["tasks"]]


def test_a_release_without_any_score_still_has_a_page(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake = open_lake(tmp_path / "lake")
    none = (
        lake.release()
        .head(3)
        .with_columns(pl.lit("empty").alias("release_id"), pl.lit("9" * 32).alias("evaluation_key"))
    )
    lake.delta.replace("gold.releases", none, COMMIT, {"release_id": "empty"})
    data = to_payload(lake, read_contents(lake, "empty"), "")
    assert not any(data["scores"])
    assert data["unscored"][0]["status"] == "pending"
    assert write_report(lake, "empty", tmp_path / "out").is_file()


def test_every_published_number_has_the_probe_that_it_is_compared_with(synthetic, contents):
    names = ["", "LogisticRegression(max_iter=5000)", "MLPClassifier()"]
    imported = pl.DataFrame(
        {
            "release_id": "june",
            "task_name": "Task 3",
            "label": "",
            "task_id": "task_3",
            "encoder_name": "e0",
            "encoder_id": "e0",
            "probe_name": names,
            "metric": "roc_auc",
            "mean": [0.5, 0.6, 0.7],
            "sd": 0.02,
            "n_folds": 5,
            "n_samples": 100,
        }
    )
    rows = to_payload(synthetic, replace(contents, imported=imported), "")["published"]
    sent = [(row["mean"], row["probe"]) for row in rows]
    assert sent == [(0.5, "linear"), (0.6, "linear"), (0.7, "mlp")]


def test_a_page_is_current_until_the_lake_the_code_or_the_figures_change(synthetic_root, tmp_path):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake, folder = open_lake(tmp_path / "lake"), tmp_path / "out"
    assert not is_current(lake, "current", folder, "0.1.0")
    write_report(lake, "current", folder, code="0.1.0", with_files=False)
    assert is_current(lake, "current", folder, "0.1.0", with_files=False)
    # Figures of an earlier report do not count: this one was written without figures.
    (folder / "figures").mkdir()
    assert not is_current(lake, "current", folder, "0.1.0")
    assert not is_current(lake, "current", folder, "0.2.0", with_files=False)
    assert not is_current(lake, "other", folder, "0.1.0", with_files=False)
    again = lake.table("gold.scores").head(1).with_columns(run_id=pl.lit("later")).collect()
    lake.delta.append("gold.scores", again, COMMIT)
    changed = open_lake(tmp_path / "lake")
    assert not is_current(changed, "current", folder, "0.1.0", with_files=False)


def test_a_release_that_does_not_exist_leaves_no_page(synthetic, tmp_path):
    with pytest.raises(LakeError, match="did you mean 'current'"):
        write_report(synthetic, "curent", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_cannot_be_written_is_one_error(synthetic, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LakeError, match="the report cannot be written"):
        write_report(synthetic, "current", tmp_path / "file", with_files=False)


def test_an_exported_release_is_one_parquet_with_a_card(synthetic, tmp_path):
    path, card = export_release(synthetic, "current", tmp_path, "0.1.0")
    rows = pl.read_parquet(path)
    assert rows.equals(csv_rows(synthetic, "current", "long"))
    text = card.read_text()
    assert all(f"| {column} |" in text for column in rows.columns)
    assert f"{rows.height:,} scores" in text
    named = rows["task_id"].unique()
    n_subtasks = named.str.contains("__").sum()
    assert f", {len(named) - n_subtasks} tasks, {n_subtasks} sub-tasks (" in text
    assert "oracle, random, shuffled" in text
    assert "The versions in the lake at export" in text
    assert all(f"| {metric} |" in text for metric in rows["metric"].unique())


def test_the_card_gives_errors_in_the_unit_of_what_each_protocol_predicts(synthetic, tmp_path):
    _, card = export_release(synthetic, "current", tmp_path, "0.1.0")
    (unit,) = re.findall(r"^\| value \| .*$", card.read_text(), re.MULTILINE)
    predicted = {one.id: one.numbers for one in load_registry().protocols.values()}
    assert (predicted["standard"], predicted["paper"]) == ("normal_scores", "given")
    assert "normal scores of their ranks, as `standard` does and `paper` does not" in unit


def test_an_unknown_csv_form_is_refused_with_the_known_ones(synthetic):
    with pytest.raises(LakeError, match="did you mean 'report'"):
        csv_rows(synthetic, "current", "reports")
