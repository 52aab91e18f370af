"""The commands about results, as a person types them."""

import json
import os
import shutil
import subprocess
import sys

import polars as pl
import pytest
from places import Place

from flows.run.summary import RunSummary, Unfinished
from genebench.errors import ExpectationFailed, LakeError
from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.report.exports import CSV_FORMATS, csv_rows
from lakehouse.tables.commits import Commit


@pytest.fixture
def place(synthetic_root, tmp_path, monkeypatch, place_of) -> Place:
    shutil.copytree(synthetic_root, tmp_path / "lake")
    monkeypatch.chdir(tmp_path)
    return place_of(tmp_path / "lake", tmp_path, protocol="standard")


@pytest.fixture
def genebench(place, monkeypatch, capsys):
    """Run a command; returns its exit code, its output and its complaint."""
    from flows.cli.app import main

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["genebench", *words])
        monkeypatch.setenv("COLUMNS", "200")
        with pytest.raises(SystemExit) as stop:
            main()
        said = capsys.readouterr()
        return int(stop.value.code or 0), said.out, said.err

    return run


COUNT = "select encoder_id, count(*) as n from scores group by encoder_id order by encoder_id"


def test_query_prints_csv_and_json_that_read_back(genebench):
    code, out, _ = genebench("query", COUNT, "--format", "csv")
    rows = pl.read_csv(out.encode())
    assert code == 0
    assert rows["encoder_id"].to_list() == ["e0", "oracle", "random", "shuffled"]
    _, out, _ = genebench("query", COUNT, "--format", "json")
    assert json.loads(out) == rows.to_dicts()


def test_query_prints_a_table_of_the_first_rows(genebench):
    code, out, _ = genebench("query", "select task_id, value from scores")
    assert code == 0
    assert "50 shown" in out


def test_query_prints_small_numbers_by_their_first_digits(genebench):
    _, out, _ = genebench("query", "select 1.234e-5 as small, 5e-1 as large, 0 as none")
    assert out.split()[-3:] == ["1.2e-05", "0.500", "0"]


def test_lists_cannot_be_written_as_csv_and_the_message_says_what_can(genebench):
    lists = "select label_names from tasks limit 1"
    for words in (["--format", "csv"], ["--output", "rows.csv"]):
        code, _, err = genebench("query", lists, *words)
        assert code == 1
        assert "label_names" in err
        assert "json" in err
    code, out, _ = genebench("query", lists, "--format", "json")
    assert isinstance(json.loads(out)[0]["label_names"], list)


def test_show_tables_lists_what_can_be_asked(genebench):
    _, out, _ = genebench("query", "show tables", "--format", "csv")
    assert {"scores", "gold.scores"} <= set(out.split())


@pytest.mark.parametrize("ending", ["csv", "json", "parquet"])
def test_query_writes_a_file_in_the_format_of_its_suffix(genebench, tmp_path, ending):
    path = tmp_path / f"rows.{ending}"
    code, _, _ = genebench("query", COUNT, "--output", str(path))
    read = {"csv": pl.read_csv, "json": pl.read_json, "parquet": pl.read_parquet}[ending]
    assert code == 0
    assert read(path)["n"].sum() == open_lake().counts()["gold.scores"]


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["query", "select * from scoers"], "did you mean 'scores'"),
        (["query", "select valu from scores"], "did you mean 'value'"),
        (["query", COUNT, "--format", "parquet"], "name a file"),
        (["query", COUNT, "--output", "rows.xlsx"], "end the file in .csv, .json or .parquet"),
        (["query", COUNT, "--at", "soon"], "'soon' is not a time"),
        (["diff", "current", "2026.1"], "there is no release, run or day '2026.1'"),
        (["diff"], "has no earlier state to compare with"),
        (["compare", "e0", "orcale"], "did you mean 'oracle'"),
        (["compare", "e0"], "compare takes two encoders"),
        (["compare", "--with", "none.csv"], "there is no file none.csv"),
        (["compare", "--with", "june"], "there is no imported release 'june'"),
        (["export", "2026.1", "out"], "there is no release '2026.1'"),
    ],
)
def test_a_wrong_question_is_one_line_and_exit_code_1(genebench, words, complaint):
    code, out, err = genebench(*words)
    assert code == 1
    assert complaint in err
    assert err.count("\n") == 1
    assert "Traceback" not in out + err


def test_the_exit_code_tells_wrong_use_from_refused_data_and_from_a_fault(genebench, monkeypatch):
    assert genebench("status", "--no-such-option")[0] == 1
    assert genebench("no-such-command")[0] == 1
    for error, expected in (
        (Unfinished(RunSummary("embed"), {"esm2": "no weights"}), 2),
        (ExpectationFailed("gold.scores: 1 of 3 rows"), 2),
        (LakeError("no lake"), 1),
        (PermissionError("lake"), 1),
        (ZeroDivisionError("division by zero"), 3),
    ):

        def fail(error=error):
            raise error

        monkeypatch.setattr("flows.server.local_stack.stop_stack", fail)
        code, _, said = genebench("down")
        assert (code, "Traceback" in said) == (expected, expected == 3)


@pytest.mark.parametrize(
    ("words", "complaint"),
    [
        (["status", "--protocol", "papr"], "did you mean 'paper'"),
        (["ls", "tasks", "--family", "genomics"], "did you mean 'genomic'"),
        (["leakage", "chromosome", "--probe", "liner"], "did you mean 'linear'"),
        (["leakage", "chromosome", "--protocol", "papr"], "did you mean 'paper'"),
        (["leakage", "chromosome", "--encoder", "*"], "one encoder"),
        (["later", "chromosome", "--as-of", "2026-11-20", "--probe", "liner"], "'linear'"),
        (["later", "chromosome", "--as-of", "2026-11-20", "--protocol", "papr"], "'paper'"),
        (["sensitivity", "chromosome", "--protocol", "papr"], "did you mean 'paper'"),
        (["sensitivity", "chromosome", "--probe", "liner"], "did you mean 'linear'"),
    ],
)
def test_a_mistyped_name_is_refused_with_a_suggestion(genebench, words, complaint):
    code, _, err = genebench(*words)
    assert code == 1
    assert err.startswith("error: ")
    assert complaint in err


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("WORKERS", "0", "workers: Input should be greater than or equal to 1"),
        ("DEVICE", "gpu", "device: 'gpu' is not one of 'auto', 'cpu' or 'cuda'"),
        ("STORAGE_OPTIONS", "{AWS_SECRET_ACCESS_KEY: hidden}", "storage_options"),
        ("STORAGE_OPTIONS", '["hidden"]', "storage_options: Input should be a valid dictionary"),
    ],
)
def test_a_wrong_setting_is_named_and_its_value_kept(
    genebench, monkeypatch, name, value, complaint
):
    monkeypatch.setenv(f"GENEBENCH_{name}", value)
    get_settings.cache_clear()
    code, out, err = genebench("status")
    assert code == 1
    assert err.startswith("error: the settings (GENEBENCH_* in the environment, or genebench.toml)")
    assert complaint in err
    assert "hidden" not in out + err


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("lakee = './lake'", "unknown key 'lakee', did you mean 'lake'?"),
        ("lake = = './lake'", "Invalid value (at line 1, column 8)"),
    ],
)
def test_a_wrong_settings_file_is_one_clear_error(genebench, tmp_path, text, complaint):
    (tmp_path / "genebench.toml").write_text(text)
    get_settings.cache_clear()
    code, _, err = genebench("status")
    assert code == 1
    assert complaint in err


def test_the_status_of_a_lake_with_a_damaged_table_names_the_table(genebench, tmp_path, place_of):
    where = get_settings().lake
    shutil.copytree(where, tmp_path / "damaged")
    place_of(tmp_path / "damaged", tmp_path)
    for entry in (tmp_path / "damaged/silver/samples/_delta_log").glob("*.json"):
        entry.write_text("{broken")
    code, out, _ = genebench("status")
    assert code == 0
    assert "gold.scores" in out
    assert "silver.samples: cannot open" in " ".join(out.split())


def test_an_empty_lake_says_what_to_run(genebench, tmp_path, place_of):
    place_of(tmp_path / "empty", tmp_path)
    for words in (["query", COUNT], ["diff", "a", "b"], ["compare", "a", "b"]):
        code, _, err = genebench(*words)
        assert code == 1
        assert "genebench benchmark" in err
    code, _, err = genebench("show", "biological_process__growth")
    assert code == 1
    assert "genebench refresh" in err


@pytest.mark.parametrize(
    "words", [["--help"], ["ls", "tables"], ["query", "select 'R²→β' as sign"]]
)
def test_a_terminal_that_knows_few_letters_shows_the_others_as_codes(place, words):
    done = subprocess.run(
        [sys.executable, "-c", "from flows.cli.app import main; main()", *words],
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    assert done.stdout.isascii()
    if words[0] == "query":
        assert "R\\xb2\\u2192\\u03b2" in done.stdout.decode()


def test_compare_prints_two_encoders_and_keeps_all_rows(genebench, tmp_path):
    code, out, _ = genebench("compare", "oracle", "e0", "--csv", "rows.csv")
    assert code == 0
    assert "folds oracle won" in out
    assert pl.read_csv(tmp_path / "rows.csv").height == 364


def test_compare_says_what_its_signs_mean(place, capsys):
    from flows.cli.render import print_comparison

    lake = open_lake()
    rows = lake.compare("e0", "random")
    print_comparison(lake, rows, "e0", "random")
    assert "after Holm" not in capsys.readouterr().out
    found = {"low": 0.1, "high": 0.2, "p_adjusted": 1e-9, "is_established": True}
    tested = rows.with_columns(pl.lit(value).alias(name) for name, value in found.items())
    print_comparison(lake, tested, "e0", "random")
    out = capsys.readouterr().out
    assert "p: after Holm over all pairs of encoders and tasks; *: " in out
    assert "1.0e-09" in out


def test_scores_by_task_say_in_which_direction_they_are_better(place, capsys):
    from flows.cli.render import print_task_table

    print_task_table(open_lake(), "current", "roc_auc")
    assert "ROC AUC (mean over folds; higher is better)" in capsys.readouterr().out
    print_task_table(open_lake(), "current", "rmse")
    assert "(mean over folds; lower is better)" in capsys.readouterr().out


def test_compare_with_a_published_file_gives_verdicts_and_causes(genebench, tmp_path):
    (tmp_path / "june.csv").write_text(
        "task_id,encoder_id,label,fold,metric,value\n"
        "Chromosome,bag_of_words,,0,roc_auc,0.9\nChromosome,bag_of_words,,1,roc_auc,0.8\n"
    )
    code, _, err = genebench("compare", "--with", "june.csv")
    assert code == 1
    assert "has none of the published encoders (bag_of_words)" in err


def test_published_tasks_are_found_among_those_of_the_lakes_own_profile(genebench, tmp_path):
    commit = Commit("test", "test", profile="paper")
    lake = open_lake()
    lake.delta.append("bronze.snapshots", lake.table("bronze.snapshots").collect(), commit)
    (tmp_path / "june.csv").write_text(
        "task_name,model_name,fold,metric,score\nTF vs non-TF,oracle,0,roc_auc,0.9\n"
    )
    code, out, _ = genebench("compare", "--with", "june.csv", "--csv", "rows.csv")
    assert code == 0
    assert "not known here" not in out
    assert pl.read_csv(tmp_path / "rows.csv")["verdict"].to_list() == ["not run here"]


def test_diff_of_a_release_with_itself_says_that_nothing_moved(genebench):
    code, out, _ = genebench("diff", "current", "current")
    assert code == 0
    assert "nothing differs" in out
    code, out, _ = genebench("diff", "current", "current", "--json")
    counts = json.loads(out)["counts"]
    assert counts["kept"] > 0
    assert counts["computed"] == counts["moved"] == counts["unexplained"] == 0


def test_export_names_the_files_that_it_wrote(genebench, tmp_path):
    code, out, _ = genebench("export", "current", "shared")
    assert code == 0
    assert str(len(pl.read_parquet(tmp_path / "shared" / "current.parquet"))) > "0"
    assert "shared/current.md" in out


@pytest.mark.usefixtures("prefect")
def test_a_release_is_frozen_once_and_again_without_change(place):
    from flows.release import release

    outcome = release("2026.1")
    assert list(outcome.done)[-1] == "gold.releases"
    lake = open_lake()
    assert lake.leaderboard("2026.1").equals(lake.leaderboard("current"))
    before = lake.counts()
    release("2026.1")
    after = open_lake().counts()
    changed = {name for name in after if after[name] != before[name]}
    assert changed <= {"audit.validations", "audit.runs"}


@pytest.mark.usefixtures("prefect")
def test_imported_results_are_listed_apart_and_never_mix(place, tmp_path):
    from flows.release import import_results, release

    (tmp_path / "june.csv").write_text("task,model,metric,value\nChromosome,MPNet,roc_auc,0.9\n")
    ours = open_lake().counts()["gold.scores"]
    outcome = import_results(str(tmp_path / "june.csv"), "june_2024", profile="embedded")
    assert "1 rows" in outcome.done["gold.foreign_scores"]
    lake = open_lake()
    listed = dict(lake.releases().select("release_id", "is_foreign").iter_rows())
    assert listed == {"current": False, "june_2024": True}
    assert lake.counts()["gold.scores"] == ours
    with pytest.raises(LakeError, match="there is no release 'june_2024'"):
        lake.leaderboard("june_2024")
    with pytest.raises(LakeError, match="is an imported release"):
        release("june_2024")
    with pytest.raises(LakeError, match="is reserved"):
        import_results(str(tmp_path / "june.csv"), "current", profile="embedded")


@pytest.mark.usefixtures("prefect")
def test_importing_again_replaces(place, tmp_path):
    from flows.release import import_results

    path = tmp_path / "june.csv"
    for value in ("0.9", "0.8"):
        path.write_text(f"task,model,metric,value\nChromosome,MPNet,roc_auc,{value}\n")
        import_results(str(path), "june_2024", profile="embedded")
    assert open_lake().imported_scores("june_2024")["value"].to_list() == [0.8]


@pytest.mark.usefixtures("prefect")
def test_a_published_number_out_of_its_range_stays_outside(place, tmp_path):
    from flows.release import import_results

    path = tmp_path / "june.csv"
    path.write_text("task,model,metric,value\nChromosome,MPNet,roc_auc,1.9\n")
    with pytest.raises(ExpectationFailed, match="roc_auc"):
        import_results(str(path), "june_2024", profile="embedded")
    assert not open_lake().delta.exists("gold.foreign_scores")


@pytest.mark.usefixtures("prefect")
def test_report_writes_the_page_its_figures_and_a_csv_file_and_each_form_reads_back(
    place, tmp_path
):
    from flows.report import report

    path = tmp_path / "rows.csv"
    outcome = report(csv=str(path), csv_form="report", folder=str(tmp_path / "page"))
    forms = {form: csv_rows(place.lake, "current", form) for form in CSV_FORMATS}
    assert pl.read_csv(path, infer_schema=False).height == forms["report"].height
    assert f"{forms['report'].height:,} rows in report form" in outcome.done[str(path)]
    for form, rows in forms.items():
        rows.write_csv(tmp_path / f"{form}.csv")
        assert pl.read_csv(tmp_path / f"{form}.csv", infer_schema=False).height == rows.height > 0
    assert (tmp_path / "page" / "index.html").is_file()
    drawn = {path.suffix for path in (tmp_path / "page" / "figures").iterdir()}
    assert drawn == {".svg", ".png"}
