"""Sections of the page that need a temporal task, or a release that holds out relatives."""

import shutil
from pathlib import Path

import pytest
from page_visit import Visit, number
from relatives_release import LOST, add_relatives
from temporal_lake import TASK, make_temporal

from lakehouse import open_lake
from lakehouse.report.page.write import write_report


@pytest.fixture(scope="session")
def temporal_path(synthetic_root, tmp_path_factory) -> Path:
    """The page of a lake with a temporal task and a release that holds out relatives."""
    folder = tmp_path_factory.mktemp("temporal")
    shutil.copytree(synthetic_root, folder / "lake")
    make_temporal(open_lake(folder / "lake"))
    add_relatives(open_lake(folder / "lake"))
    lake = open_lake(folder / "lake")
    return write_report(lake, "current", folder / "report", code="0.1.0", with_files=False)


def test_scores_of_temporal_tasks_alone_carry_the_marks_of_their_encoders(browser, temporal_path):
    visit = Visit(browser, temporal_path, "desktop", "light")
    marks = visit.page.locator("#board sup").all_inner_texts()
    assert sorted(marks) == ["†", "‡"], "in the column of temporal tasks"
    assert "may have been written after the label" in visit.page.inner_text("#gains-note")
    visit.page.select_option("#family", "temporal")
    rows = visit.page.locator("#task-table tbody tr")
    assert rows.count() == 1
    assert sorted(rows.locator("sup").all_inner_texts()) == ["†", "‡"]
    visit.open_task(TASK)
    marked = visit.page.locator("#task th:has(sup)").all_inner_texts()
    marked = [name.strip("†‡\n").removesuffix("control") for name in marked]
    assert sorted(marked) == ["Encoder 0", "Random"]
    assert "trained on data that are newer" in visit.page.inner_text("#mark-note")
    visit.open_task("task_2")
    assert visit.page.locator("#task sup").count() == 0
    assert visit.page.locator("#mark-note").count() == 0
    assert visit.complaints == []
    visit.context.close()


def test_the_drop_under_relatives_stands_beside_each_encoder_and_family(browser, temporal_path):
    visit = Visit(browser, temporal_path, "desktop", "light")
    heads = visit.page.locator("#relatives-table thead button").all_inner_texts()
    families = visit.page.locator("#board thead button").all_inner_texts()
    assert heads == ["Encoder", *families[2:-2]]
    names = [name.removesuffix("control").strip() for name in visit.column("relatives-table", 1)]
    overall = visit.column("board", 3)
    means = dict(zip(visit.column("board", 1), map(number, overall), strict=True))
    means = {name.removesuffix("control").strip(): mean for name, mean in means.items()}
    assert set(names) == set(means)
    for name, cell in zip(names, visit.column("relatives-table", 2), strict=True):
        change, before, _, after = cell.replace("−", "-").split()
        assert float(change) == pytest.approx(-LOST, abs=0.0011)
        assert float(before) == pytest.approx(means[name], abs=0.0011)
        assert float(after) == pytest.approx(float(before) - LOST, abs=0.0011)
    visit.page.locator("#relatives-table thead button").nth(1).click()
    order = visit.page.locator("#relatives-table th[aria-sort=ascending]")
    assert order.count() == 1
    visit.page.select_option("#metric", "f1")
    assert not visit.page.is_visible("#relatives"), "only main metrics are compared"
    assert visit.complaints == []
    visit.context.close()
