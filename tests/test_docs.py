"""What the documents say is so: commands exist, tables are current, every verb has an example."""

import ast
import re
import shlex
import shutil
from pathlib import Path

import polars as pl
import pytest
import typer
from typer.testing import CliRunner

from flows.cli.app import app
from genebench.registry.loading import load_registry
from genebench.settings import Settings
from lakehouse.query.lake import Lake
from lakehouse.tables.catalogue import render_tables
from lakehouse.tables.commits import Commit

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text()
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "deployments/README.md",
    "docs/evaluate.md",
    "docs/results.md",
    "docs/submissions.md",
    "docs/reference.md",
    "docs/guarantees.md",
    "docs/what-changed.md",
]
COMMANDS = typer.main.get_command(app).commands


def said_commands():
    """Every `genebench …` that a document shows in code."""
    for name in DOCUMENTS:
        text = (ROOT / name).read_text()
        code = re.findall(r"```(?:\w*)\n(.*?)```", text, re.DOTALL)
        lines = [line for block in code for line in block.splitlines()]
        spans = re.findall(r"`(genebench [^`]+)`", text)
        for line in [*lines, *spans]:
            for part in line.split("  "):
                words = part.strip().removeprefix("$ ").split("#")[0]
                if words.startswith("genebench ") and "<" not in words and "|" not in words:
                    yield name, words.strip()


@pytest.mark.parametrize(("document", "command"), sorted(set(said_commands())))
def test_every_command_in_the_documents_exists_with_its_options(document, command):
    words = shlex.split(command)[1:]
    assert words[0] in COMMANDS, f"{document}: {command}"
    known = {option for p in COMMANDS[words[0]].params for option in p.opts + p.secondary_opts}
    for word in words[1:]:
        if word.startswith("-"):
            assert word.split("=")[0] in {*known, "--help"}, f"{document}: {command}"


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_the_help_of_every_verb_has_an_example(name):
    shown = CliRunner().invoke(app, [name, "--help"])
    assert shown.exit_code == 0
    assert f"Example: genebench {name}" in shown.output


def test_the_reference_shows_the_tables_as_they_are_declared():
    assert render_tables() in (ROOT / "docs" / "reference.md").read_text()


def test_the_reference_names_every_setting_that_the_readme_reader_may_set():
    text = (ROOT / "docs" / "reference.md").read_text()
    named = set(re.findall(r"`GENEBENCH_([A-Z_]+)`", text))
    assert named == {name.upper() for name in Settings.model_fields}


def test_the_query_of_the_readme_is_of_the_current_release_alone(
    synthetic_root, tmp_path, monkeypatch
):
    shutil.copytree(synthetic_root, tmp_path / "lake")
    lake = Lake(tmp_path / "lake")
    commit = Commit(flow_run="r1", code="test", inputs={}, profile="embedded", extra={})
    earlier = (
        lake.scores("task_3")
        .collect()
        .with_columns(pl.col("evaluation_key").str.reverse(), pl.lit(0.0).alias("value"))
    )
    lake.delta.append("gold.scores", earlier, commit)
    monkeypatch.chdir(tmp_path)
    (code,) = re.findall(r"```python\n(import polars.*?)```", README, re.DOTALL)
    *lines, last = ast.parse(code).body
    names = {}
    exec(compile(ast.Module(lines, []), "README.md", "exec"), names)
    shown = eval(compile(ast.Expression(last.value), "README.md", "eval"), names)
    wanted = lake.scores(metric="roc_auc", label="").collect()
    for encoder_id, *means in shown.iter_rows():
        for family, mean in zip(shown.columns[1:], means, strict=True):
            values = wanted.filter(encoder_id=encoder_id, family=family)["value"]
            assert mean == pytest.approx(values.mean(), abs=5e-4)


def test_every_guarantee_names_tests_that_exist():
    text = (ROOT / "docs" / "guarantees.md").read_text()
    named = re.findall(r"`(tests/[^`]+\.py)::([^`]+)`", text)
    assert len(named) > 20
    for path, name in named:
        assert f"def {name}(" in (ROOT / path).read_text(), f"{path}::{name}"


def test_the_example_of_the_page_on_probes_runs_and_equals_scikit_learn(capsys):
    names = {}
    for code in re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/probes.md").read_text(), re.DOTALL
    ):
        exec(compile(code, "docs/probes.md", "exec"), names)
    shown = capsys.readouterr().out
    assert "500 of 500 fits converged" in shown
    ours, theirs = names["auc"]
    assert ours == pytest.approx(theirs, abs=1e-4)
    assert "(10,) (4000, 10) (4000, 10)\nTrue" in shown


def test_the_contributed_task_builds(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    entry = re.search(r"```yaml\n(gene_type:.*?)```", text, re.DOTALL).group(1)
    assert len(entry.strip().splitlines()) < 10
    root = copy_declarations(tmp_path)
    with (root / "tasks" / "declared" / "embedded" / "genomic.yaml").open("a") as file:
        file.write("\n" + entry)
    assert "gene_type" in load_registry("embedded", root).tasks


def test_the_contributed_encoder_loads(tmp_path):
    text = (ROOT / "CONTRIBUTING.md").read_text()
    entry = re.search(r"```yaml\n(id: my_noise.*?)```", text, re.DOTALL).group(1)
    path = tmp_path / "my_noise.yaml"
    path.write_text(entry)
    assert "my_noise" in load_registry("embedded", encoder_files=[str(path)]).encoders


def copy_declarations(folder):
    """All declarations, without the code between them."""
    source = ROOT / "genebench"
    target = folder / "genebench"
    shutil.copytree(source, target, ignore=shutil.ignore_patterns("*.py", "*.gz", "__pycache__"))
    return target
