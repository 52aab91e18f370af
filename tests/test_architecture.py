"""The shape of the house: who may import whom, what imports cost, and that flows stay thin."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from expectations.declared import expectations_of
from lakehouse.tables.catalogue import TABLES

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "sentence_transformers", "transformers", "esm", "sklearn", "prefect", "deltalake")
PACKAGES = ("genebench", "lakehouse", "expectations", "flows")
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
    ["import genebench", "from genebench.registry.loading import load_registry; load_registry()"],
)
def test_reading_every_declaration_loads_no_heavy_library(statement):
    assert not loaded_by(statement) & set(HEAVIER)


def test_the_command_line_starts_without_prefect_or_torch():
    assert not loaded_by("import flows.cli.app") & set(HEAVIER)


def test_a_list_needs_no_prefect_great_expectations_or_torch():
    assert not loaded_by("import flows.cli.inspect") & {"torch", "prefect", "great_expectations"}


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
    for path in modules(*PACKAGES):
        empty = tmp_path / path.relative_to(ROOT)
        empty.parent.mkdir(parents=True, exist_ok=True)
        empty.write_text("")
    (tmp_path / "genebench" / "bad.py").write_text("import prefect\n")
    (tmp_path / "lakehouse" / "curate" / "bad.py").write_text("import lakehouse.score.plan\n")
    (tmp_path / "flows" / "bad.py").write_text("import flows.cli.app\n")
    (tmp_path / "pyproject.toml").write_text((ROOT / "pyproject.toml").read_text())
    for name in ("delta", "delta_schema", "delta_table", "lake_lock"):
        path = tmp_path / "lakehouse" / "tables" / f"{name}.py"
        path.write_text("import deltalake\n")
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
    for module in ("genebench.bad", "lakehouse.curate.bad", "flows.bad"):
        assert module in done.stdout


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
        *(
            ROOT / "genebench" / f"{n}.py"
            for n in ("evaluation/metrics", "evaluation/evaluate", "evaluation/folds")
        ),
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
    assert not [p for p in modules(*PACKAGES, "tests", "benchmarks") if p.stem in banned]


# The verbs are a flow and a command of the same name; the other names are one interface each.
SAME_MEANING = {
    *("refresh", "curate", "embed", "score", "report", "benchmark", "release"),
    "evaluate",  # fit a probe to vectors and score it
    "main",  # the entry point of a script
    "fit_problems",  # what every probe implements
    "declaration",  # what a YAML entry of this kind may contain
}


def test_no_two_modules_classes_or_functions_share_a_name():
    places: dict[str, set[str]] = {}
    for path in modules(*PACKAGES):
        where = path.relative_to(ROOT)
        if path.name != "__init__.py":
            places.setdefault(path.stem, set()).add(f"module {where}")
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.ClassDef | ast.FunctionDef) and not node.name.startswith("_"):
                places.setdefault(f"{node.name}()", set()).add(f"{node.name} of {where}")
    shared = {
        name: found
        for name, found in places.items()
        if len(found) > 1 and name.removesuffix("()") not in SAME_MEANING
    }
    assert not shared


def imported_modules(path: Path, names: set[str]) -> set[str]:
    """The modules of ours that a file imports anywhere: lazily and for type checkers too."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                whole = f"{node.module}.{alias.name}"
                found.add(whole if whole in names else node.module)
        elif isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
    return found & names


def find_circle(imports: dict[str, set[str]]) -> list[str]:
    """The modules of one circle of imports; empty where there is none."""
    left = dict(imports)
    while left:
        free = [name for name, needed in left.items() if not needed & left.keys()]
        if not free:
            break
        for name in free:
            del left[name]
    # What is left needs something that is left: walking on must come back.
    trail = list(left)[:1]
    while trail and trail.count(trail[-1]) == 1:
        trail.append(min(left[trail[-1]] & left.keys()))
    return trail[trail.index(trail[-1]) :] if trail else []


def test_a_circle_of_imports_would_be_found():
    tree = {"a": {"b"}, "b": {"c", "d"}, "c": {"b"}, "d": set(), "e": {"a"}}
    assert set(find_circle(tree)) == {"b", "c"}
    assert not find_circle({"a": {"b"}, "b": set()})


def test_no_circle_of_imports_lazy_and_type_checking_ones_included():
    paths = {}
    for path in modules(*PACKAGES):
        parts = path.relative_to(ROOT).with_suffix("").parts
        paths[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    imports = {name: imported_modules(path, set(paths)) - {name} for name, path in paths.items()}
    assert not find_circle(imports)


def test_modules_that_go_around_prefect_say_first_what_it_lacks():
    # These use Prefect as it is, or have nothing to do with it.
    plain = {"__init__", "change_artifact", "context", "gate", "summary"}
    paths = [path for path in modules("flows/server", "flows/run") if path.stem not in plain]
    firsts = {path.name: path.read_text().splitlines()[0] for path in paths}
    assert not {name: line for name, line in firsts.items() if "Prefect 3.8.8" not in line}


def test_no_module_is_too_long_to_read_in_one_sitting():
    lengths = {path: len(path.read_text().splitlines()) for path in modules(*PACKAGES)}
    assert not {str(path): n for path, n in lengths.items() if n > 350}


def test_the_module_map_is_the_tree():
    done = subprocess.run(
        [sys.executable, "-m", "genebench.map"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    for path in modules(*PACKAGES):
        if path.name != "__init__.py":
            assert path.name in done.stdout, path
