"""The shape of the house: who may import whom, what imports cost, and that flows stay thin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from expectations.declared import expectations_of
from lakehouse.tables import TABLES

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "sentence_transformers", "transformers", "esm", "sklearn", "prefect", "deltalake")
HEAVIER = (*HEAVY, "great_expectations", "pandas")


def loaded_by(statement: str) -> set[str]:
    """The top-level modules that a statement loads in a fresh interpreter."""
    code = f"{statement}\nimport sys\nprint(' '.join({{n.split('.')[0] for n in sys.modules}}))"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def modules(*packages: str) -> list[Path]:
    return [path for name in packages for path in sorted((ROOT / name).rglob("*.py"))]


@pytest.mark.parametrize(
    "statement",
    ["import genebench", "from genebench.registry import load_registry; load_registry()"],
)
def test_reading_every_declaration_loads_no_heavy_library(statement):
    assert not loaded_by(statement) & set(HEAVIER)


def test_the_command_line_starts_without_prefect_or_torch():
    assert not loaded_by("import flows.cli") & set(HEAVIER)


def test_a_list_needs_no_prefect_great_expectations_or_torch():
    assert not loaded_by("import flows.listings") & {"torch", "prefect", "great_expectations"}


def test_import_contracts_hold():
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout


def test_a_broken_contract_would_be_seen(tmp_path):
    for name in ("genebench", "lakehouse", "expectations", "flows"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "__init__.py").write_text("")
    (tmp_path / "genebench" / "bad.py").write_text("import prefect\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    (tmp_path / "lakehouse" / "delta.py").write_text("import deltalake\n")
    (tmp_path / "expectations" / "engine.py").write_text(
        "import great_expectations\nimport pandas\n"
    )
    done = subprocess.run(
        [Path(sys.executable).parent / "lint-imports", "--config", tmp_path / "pyproject.toml"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(tmp_path), "PATH": "/usr/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0
    assert "genebench.bad" in done.stdout


@pytest.mark.parametrize("path", modules("flows"), ids=lambda p: p.name)
def test_flows_hold_no_polars_expression(path):
    used = [
        node.lineno
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "pl"
        and node.attr in {"col", "lit", "when", "concat"}
    ]
    assert not used, f"{path}: lines {used}; frames are worked on in lakehouse and genebench"


@pytest.mark.parametrize("path", modules("flows"), ids=lambda p: p.name)
def test_flows_do_without_postponed_annotations(path):
    """Prefect cannot build a run's form from them (PrefectHQ/prefect#19447)."""
    assert "from __future__ import annotations" not in path.read_text()


def test_the_core_of_scoring_does_not_speak_of_genes():
    named = [
        *modules("genebench/probes", "genebench/protocols"),
        *(ROOT / "genebench" / f"{n}.py" for n in ("metrics", "evaluate", "folds", "leaderboard")),
        ROOT / "genebench" / "digest.py",
    ]
    for path in named:
        text = path.read_text().replace("genebench", "").replace("gene-benchmark", "")
        words = text.lower().replace("general", "").replace("generat", "").replace("genero", "")
        assert "gene " not in words, path
        assert "genes" not in words, path


def test_every_table_has_expectations():
    for name in TABLES:
        assert expectations_of(name), name


def test_no_module_is_named_for_nothing():
    banned = {"utils", "util", "helpers", "helper", "common", "misc"}
    packages = ("genebench", "lakehouse", "expectations", "flows", "tests", "benchmarks")
    assert not [p for p in modules(*packages) if p.stem in banned]
