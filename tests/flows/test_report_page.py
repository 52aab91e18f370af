"""The page in a real browser: it works, fits a phone, is accessible, and asks nobody."""

import shutil
import subprocess
from pathlib import Path

import polars as pl
import pytest
from page_visit import OUTPUT, SIZES, Visit, number

from genebench.registry.loading import load_registry
from lakehouse import open_lake
from lakehouse.report.imports import read_imported
from lakehouse.report.page.write import write_report
from lakehouse.tables.commits import Commit


@pytest.fixture(scope="session")
def axe() -> str:
    """The source of axe-core, from npm."""
    path = OUTPUT / "axe" / "node_modules" / "axe-core" / "axe.min.js"
    if not path.is_file():
        if shutil.which("npm") is None:
            pytest.skip("npm is not installed, which brings axe-core")
        command = ["npm", "install", "--no-save", "--prefix", str(OUTPUT / "axe"), "axe-core@4"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if not path.is_file():
            pytest.skip(f"axe-core cannot be installed: {done.stderr.strip()[-200:]}")
    return path.read_text()


@pytest.fixture(scope="session")
def page_path(synthetic_root, tmp_path_factory) -> Path:
    """The page of the synthetic lake, with a published release beside ours."""
    folder = tmp_path_factory.mktemp("report")
    shutil.copytree(synthetic_root, folder / "lake")
    lake = open_lake(folder / "lake")
    (folder / "june.csv").write_text(
        "task,model,metric,value\nTask 3,e0,roc_auc,0.7\nTask 3,e0,roc_auc_sd,0.02\n"
    )
    rows = read_imported(folder / "june.csv", "june", load_registry("embedded").tasks, "test")
    rows = rows.with_columns(
        pl.lit("task_3").alias("task_id"), pl.col("encoder_name").alias("encoder_id")
    )
    commit = Commit("test", "test")
    lake.delta.replace("gold.foreign_scores", rows, commit, {"release_id": "june"})
    return write_report(lake, "current", folder / "report", code="0.1.0", with_files=False)


@pytest.fixture(scope="module", params=["desktop", "phone"])
def visit(request, browser, page_path):
    """The page with an opened task, at two sizes; tests change nothing but the figure."""
    opened = Visit(browser, page_path, request.param, "light")
    opened.size = request.param
    opened.open_task("task_54")
    yield opened
    opened.context.close()


@pytest.fixture(scope="module")
def unchanged(browser, page_path):
    """The page as it opens; tests only read it."""
    opened = Visit(browser, page_path, "desktop", "light")
    yield opened
    opened.context.close()


@pytest.fixture
def desktop(browser, page_path):
    opened = Visit(browser, page_path, "desktop", "light")
    yield opened
    opened.context.close()


def test_the_page_opens_without_a_complaint_and_asks_nobody(visit):
    for figure in visit.page.locator("#figure option").evaluate_all("all => all.map(o => o.value)"):
        visit.page.select_option("#figure", figure)
        visit.page.wait_for_selector(
            f"#figure-plot[data-figure={figure}][aria-busy=false] svg.marks"
        )
    visit.shoot(f"report_{visit.size}")
    assert visit.complaints == []
    assert {url.split(":")[0] for url in visit.requests} <= {"file", "data", "blob"}
    assert len([url for url in visit.requests if url.startswith("file")]) == 1


def test_the_page_is_no_wider_than_the_screen(visit):
    width = visit.page.evaluate("document.documentElement.scrollWidth")
    assert width <= SIZES[visit.size][0]


@pytest.mark.parametrize(
    ("size", "scheme"),
    [
        ("desktop", "light"),
        ("phone", "dark"),
        pytest.param("desktop", "dark", marks=pytest.mark.soak),
        pytest.param("phone", "light", marks=pytest.mark.soak),
    ],
)
def test_an_accessibility_check_finds_nothing_serious(browser, page_path, axe, size, scheme):
    visit = Visit(browser, page_path, size, scheme)
    visit.open_task("task_54")
    for details in visit.page.locator("main details:not([open]) > summary").all():
        if details.is_visible() and not details.evaluate(
            "one => one.closest('.vega-embed') != null"
        ):
            details.click()
    visit.page.evaluate(axe)
    found = visit.page.evaluate("axe.run({resultTypes: ['violations']})")
    serious = [
        (one["id"], [node["html"][:120] for node in one["nodes"][:3]])
        for one in found["violations"]
        if one["impact"] in ("serious", "critical")
    ]
    visit.shoot(f"report_{size}_{scheme}_open")
    visit.context.close()
    assert serious == []
    assert len(found["passes"]) > 20


def test_columns_sort_both_ways_and_say_so(desktop):
    button = desktop.page.locator("#board thead button", has_text="Overall")
    head = desktop.page.locator("#board thead th", has_text="Overall")
    before = [number(cell) for cell in desktop.column("board", 3)]
    assert before == sorted(before, reverse=True)
    assert head.get_attribute("aria-sort") == "descending"
    button.click()
    assert [number(cell) for cell in desktop.column("board", 3)] == sorted(before)
    assert head.get_attribute("aria-sort") == "ascending"
    desktop.page.locator("#board thead button", has_text="Encoder").click()
    names = desktop.column("board", 1)
    assert names == sorted(names, key=str.lower)


def test_another_metric_or_probe_sorts_the_board_best_first_for_it(desktop):
    page = desktop.page
    head = page.locator("#board thead th", has_text="Overall")
    page.locator("#board thead button", has_text="Encoder").click()
    page.select_option("#metric", "log_loss")
    means = [number(cell) for cell in desktop.column("board", 3)]
    assert means == sorted(means), "lower is better"
    assert head.get_attribute("aria-sort") == "ascending"
    page.locator("#board thead button", has_text="Encoder").click()
    page.select_option("#series", label="mlp")
    assert head.get_attribute("aria-sort") == "ascending"
    page.select_option("#metric", "roc_auc")
    means = [number(cell) for cell in desktop.column("board", 3)]
    assert means == sorted(means, reverse=True)
    page.locator("#board thead button", has_text="Encoder").click()
    page.fill("#encoder-search", "o")
    assert head.get_attribute("aria-sort") == "none", "a search keeps the reader's order"


def test_the_keyboard_alone_sorts_and_opens_a_task(desktop):
    page = desktop.page
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.className") == "skip"
    page.locator("#task-table thead button").first.focus()
    page.keyboard.press("Enter")
    assert page.locator("#task-table thead th").first.get_attribute("aria-sort") == "descending"
    assert page.evaluate("document.activeElement.dataset.column") == "0"
    page.locator("#task-table tbody a").first.focus()
    page.keyboard.press("Enter")
    page.wait_for_selector("#task:not([hidden])")
    assert page.evaluate("document.activeElement.id") == "task-title"


def test_search_and_filters_narrow_the_tables_and_count(desktop):
    page = desktop.page
    page.fill("#encoder-search", "ORAC")
    assert desktop.column("board", 1) == ["Oraclecontrol"], "the name and its tag"
    assert page.inner_text("#board-count").startswith("1 encoder of 4")
    page.fill("#encoder-search", "")
    page.locator("#modalities input[value=control]").uncheck()
    assert desktop.column("board", 1) == ["Encoder 0"]
    page.select_option("#kind", "multilabel")
    assert set(desktop.column("task-table", 3)) == {"many labels"}
    assert page.inner_text("#task-count").startswith("10 tasks")
    page.select_option("#family", "genomic")
    assert set(desktop.column("task-table", 2)) == {"Genomic properties"}
    page.select_option("#kind", "")
    page.select_option("#family", "")
    page.fill("#task-search", "label 7")
    assert len(desktop.column("task-table", 1)) == 10, "tasks that have the label"
    page.check("#subtasks")
    assert len(desktop.column("task-table", 1)) == 20, "and the labels themselves"


def test_a_long_table_shows_its_rest_when_asked(desktop):
    page = desktop.page
    page.check("#subtasks")
    rows = page.locator("#task-table tbody tr")
    assert rows.count() == 101
    page.get_by_role("button", name="Show 264 more rows").click()
    assert rows.count() == 364
    assert page.inner_text("#task-count") == "364 tasks of 364."


def test_another_metric_and_probe_show_other_numbers(desktop, synthetic):
    def shown():
        row = desktop.page.locator("#board tbody tr", has_text="Encoder 0")
        return number(row.locator("td").nth(1).inner_text())

    def stored(metric, probe):
        rows = synthetic.leaderboard(metric=metric)
        mine = rows.filter((pl.col("encoder_id") == "e0") & (pl.col("probe_id") == probe))
        return mine["overall"].item()

    assert shown() == pytest.approx(stored("roc_auc", "linear"), abs=6e-4)
    desktop.page.select_option("#metric", "f1")
    assert shown() == pytest.approx(stored("f1", "linear"), abs=6e-4)
    desktop.page.select_option("#series", label="mlp")
    assert shown() == pytest.approx(stored("f1", "mlp"), abs=6e-4)


def test_a_task_shows_folds_balance_coverage_and_controls(desktop):
    desktop.open_task("task_54")
    article = desktop.page.locator("#task")
    words = article.inner_text()
    assert "Task 54" in words
    assert "29 labels, ROC AUC of each" in words
    assert article.locator("#task-balance svg.marks").count() == 1
    assert article.locator("tr.is-control").count() == 3
    assert "100%" in words


def test_controls_carry_a_tag_wherever_encoders_are_listed(unchanged):
    for place in ("#board tbody", "#cards"):
        assert unchanged.page.locator(f"{place} .tag").all_inner_texts() == ["control"] * 3


def test_published_numbers_stand_beside_ours_in_deviations(unchanged, synthetic):
    row = unchanged.page.locator("#published-table tbody tr").inner_text()
    rows = synthetic.scores("task_3", "e0", metric="roc_auc", probe="linear").collect()
    in_sds = (rows["value"].mean() - 0.7) / 0.02
    assert "june" in row
    verdict = "within 2" if abs(in_sds) <= 2 else "outside 2"
    assert f"{in_sds:.3f}".replace("-", "−") in row or verdict in row
    assert verdict in row


def test_published_numbers_are_shown_beside_the_same_probe_only(desktop):
    page = desktop.page
    assert len(desktop.column("published-table", 1)) == 1
    assert page.inner_text("#published-count") == "1 published number for the probe linear."
    page.select_option("#series", label="mlp")
    assert desktop.column("published-table", 1) == []
    assert page.inner_text("#published-count") == (
        "No published number uses the probe mlp; there are numbers for: linear."
    )


def test_the_theme_button_changes_the_colours(desktop):
    ground = "getComputedStyle(document.body).backgroundColor"
    before = desktop.page.evaluate(ground)
    desktop.page.click("#theme")
    assert desktop.page.evaluate(ground) != before


def test_filtering_draws_no_more_rows_than_it_shows(desktop):
    # What a filter costs, on any machine: a table of thousands of rows must not be drawn whole.
    desktop.page.check("#subtasks")
    drawn = desktop.page.evaluate(
        """() => {
            const field = document.getElementById("task-search");
            const table = document.getElementById("task-table");
            const count = (word) => {
                const seen = new MutationObserver(() => {});
                seen.observe(table, {childList: true, subtree: true});
                field.value = word;
                field.dispatchEvent(new Event("input"));
                const added = seen.takeRecords().flatMap((one) => [...one.addedNodes]);
                seen.disconnect();
                const isRow = (one) => one.nodeName === "TR";
                const within = (one) => one.querySelectorAll?.("tr").length ?? 0;
                const n = added.reduce((sum, one) => sum + within(one) + isRow(one), 0);
                return [n, table.querySelectorAll("tbody tr").length];
            };
            return ["t", "ta", "label 2", ""].map(count);
        }"""
    )
    for n_drawn, n_shown in drawn:
        assert 0 < n_drawn <= n_shown + 2, "the rows shown, a head and a foot"


def test_without_a_release_that_holds_out_relatives_the_section_is_hidden(unchanged):
    assert not unchanged.page.is_visible("#relatives")
    assert not unchanged.page.is_visible("#nav-relatives")
