"""What `genebench benchmark` prints: a line a stage, the leaderboard and the next commands."""

import logging

import polars as pl

from expectations import check_frame
from flows.cli import render, run_flows
from flows.run.summary import RunSummary
from lakehouse import open_lake
from lakehouse.tables.catalogue import table


def record(name: str) -> logging.LogRecord:
    return logging.LogRecord(f"prefect.{name}", logging.INFO, __file__, 1, "text", None, None)


def test_a_stage_is_one_line_with_its_counts_and_its_time():
    summary = RunSummary("score", {"minilm": "128 ok"}, {"tfidf": "128"}, seconds=41.2)
    assert summary.stage_line.split(maxsplit=1)[0] == "score"
    assert "1 encoders done, 1 already there" in summary.stage_line
    assert summary.stage_line.endswith(" 41 s")
    summary.seconds, summary.refused = 321.0, {"esm2": "its weights are missing"}
    assert "1 refused" in summary.stage_line
    assert summary.stage_line.endswith(" 5 min 21 s")


def test_data_warnings_are_counted_and_progress_is_printed_once_a_minute(monkeypatch):
    now = 0.0
    monkeypatch.setattr(run_flows.time, "monotonic", lambda: now)
    brief = run_flows.BriefLogFilter()
    assert brief.filter(record("flow_runs"))
    assert not brief.filter(record("genebench.data"))
    assert brief.n_data_warnings == 1
    assert not brief.filter(record("genebench.progress"))
    now = run_flows.SECONDS_BETWEEN_LINES
    assert brief.filter(record("genebench.progress"))
    assert not brief.filter(record("genebench.progress"))


def test_refused_things_are_listed_up_to_a_few(capsys):
    render.print_refused(RunSummary("embed", refused={f"e{n}": "no weights" for n in range(7)}))
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "  ! embed e0: no weights"
    assert lines[-1] == "  ! 2 more; `genebench embed` lists them"
    assert len(lines) == render.MAX_REFUSED + 1


def test_the_next_commands_are_about_what_the_leaderboard_shows(synthetic_root, capsys):
    lake = open_lake(synthetic_root)
    render.print_next_commands(lake, "current")
    first, second = capsys.readouterr().out.splitlines()[1:]
    program, command, task, *_ = first.split()
    assert (program, command) == ("genebench", "show")
    assert task in set(lake.scores().collect()["task_id"])
    models = lake.leaderboard("current")
    n_models = models.filter(pl.col("modality") != "control")["encoder_id"].n_unique()
    expected = ["genebench", "compare"] if n_models > 1 else ["genebench", "up"]
    assert second.split()[:2] == expected


def test_a_data_warning_names_the_rows_and_their_number():
    from flows.run.gate import describe_warning

    outcome = check_frame("silver.tasks", small_class()).failures
    warning = next(one for one in outcome if one.expectation_id == "smallest_class_can_be_split")
    text = describe_warning("silver.tasks", warning)
    assert "1 of 1 rows (task_id rare, n_smallest_class 1)" in text


def small_class() -> pl.DataFrame:
    declared = table("silver.tasks")
    row = {"task_id": "rare", "kind": "binary", "n_smallest_class": 1, "label_density": 0.5}
    return (
        pl.DataFrame([row])
        .select(
            pl.col(name) if name in row else pl.lit(None).alias(name) for name in declared.columns
        )
        .cast(dict(declared.schema))
    )
