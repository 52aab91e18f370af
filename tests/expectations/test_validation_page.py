"""The validation page: order, latest run per table, escaping and no external files."""

import datetime as dt
from html.parser import HTMLParser

import polars as pl

from expectations.validation_page import (
    newest_validations,
    render_validations,
    summarise_validations,
)
from lakehouse.tables.catalogue import table

NOON = dt.datetime(2026, 11, 20, 12, tzinfo=dt.UTC)


def rows(*found: dict) -> pl.DataFrame:
    usual = {
        "table_name": "silver.labels",
        "expectation_id": "label_is_a_word",
        "severity": "critical",
        "is_met": True,
        "has_raised": False,
        "observed": "0 of 9 rows",
        "n_unexpected": 0,
        "examples": [],
        "run_id": "run",
        "validated_at": NOON,
    }
    return pl.DataFrame([usual | one for one in found], schema=table("audit.validations").schema)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.found += [value for name, value in attrs if name in ("src", "href")]
        self.found += [tag] if tag in ("script", "link", "iframe", "img") else []


def test_the_page_needs_no_other_file():
    links = _Links()
    links.feed(render_validations(rows({})))
    assert links.found == []


def test_what_is_not_met_stands_first_with_its_reason_and_examples():
    page = render_validations(
        rows(
            {},
            {"expectation_id": "outcomes_vary", "severity": "warning", "is_met": False},
            {"expectation_id": "values_are_present", "is_met": False, "examples": ["a | b"]},
            {"expectation_id": "key_is_unique", "is_met": False, "has_raised": True},
        )
    )
    places = [
        page.index(f"<code>{name}</code>")
        for name in ("values_are_present", "key_is_unique", "outcomes_vary", "label_is_a_word")
    ]
    assert places == sorted(places)
    assert "a | b" in page
    assert "a label without a name cannot be reported" in page
    assert "1 rejected a frame, 1 could not be evaluated, 1 warning, 1 met" in page


def test_examples_are_text_and_never_markup():
    page = render_validations(rows({"is_met": False, "examples": ["<script>alert(1)</script>"]}))
    assert "<script>" not in page
    assert "&lt;script&gt;" in page


def test_only_the_newest_check_of_each_table_is_shown():
    older = {"run_id": "before", "validated_at": NOON - dt.timedelta(days=1), "is_met": False}
    found = newest_validations(rows(older, {}, {"table_name": "gold.scores", **older}))
    assert found.select("table_name", "is_met").rows() == [
        ("silver.labels", True),
        ("gold.scores", False),
    ]


def test_what_one_batch_of_a_run_broke_is_not_hidden_by_the_next():
    later = {"validated_at": NOON + dt.timedelta(minutes=1)}
    broken = {"is_met": False, "n_unexpected": 2, "examples": ["a"]}
    other = {"expectation_id": "outcomes_vary"}
    earlier_run = {
        "run_id": "before",
        "validated_at": NOON - dt.timedelta(days=1),
        "is_met": False,
    }
    found = newest_validations(rows(other | earlier_run, broken, other, later, other | later))
    assert found.select("expectation_id", "is_met", "n_unexpected").rows() == [
        ("label_is_a_word", False, 2),
        ("outcomes_vary", True, 0),
    ]


def test_the_summary_has_a_line_for_each_table_and_each_failure():
    _, lines = summarise_validations(rows({}, {"expectation_id": "outcomes_vary", "is_met": False}))
    assert lines[0] == ["silver.labels", "1 of 2 met", ""]
    assert lines[1][1] == "outcomes_vary rejected a frame"


def test_a_skipped_check_is_neither_met_nor_a_warning():
    skipped = {"expectation_id": "few_labels_change", "is_met": False, "is_skipped": True}
    _, lines = summarise_validations(rows({}, skipped))
    assert lines == [["silver.labels", "1 of 1 met, 1 skipped", ""]]
    assert "1 skipped, 1 met" in render_validations(rows({}, skipped))


def test_a_check_that_one_write_of_a_run_skipped_shows_how_the_other_went():
    later = {"validated_at": NOON + dt.timedelta(minutes=1)}
    skipped = {"is_met": False, "is_skipped": True} | later
    assert newest_validations(rows({}, skipped))["is_met"].to_list() == [True]
    found = newest_validations(rows({"is_met": False}, skipped))
    assert found.select("is_met", "is_skipped").rows() == [(False, None)]
