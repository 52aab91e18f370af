"""Builds the documentation site from the documents of the repository: `make docs`.

Pages of the command line, the Python functions and the encoders are generated. The site needs no
network. A link to a page that does not exist ends the build with an error.

    python docs/build_site.py [folder]          # default: build/site
"""

import inspect
import logging
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer
import yaml

import genebench
import lakehouse
from flows.cli.app import app
from genebench.reference.comparison import Comparison
from genebench.registry.loading import load_registry
from lakehouse.query.lake import Lake

ROOT = Path(__file__).resolve().parents[1]

# Title in the navigation, page of the site, document of the repository.
PAGES = (
    ("Start", "index.md", "README.md"),
    ("Evaluate your embedding", "evaluate.md", "docs/evaluate.md"),
    ("Leaderboard of submissions", "submissions.md", "docs/submissions.md"),
    ("Read and query results", "results.md", "docs/results.md"),
    ("What changed since the last release?", "what-changed.md", "docs/what-changed.md"),
    ("Run it as a service", "service.md", "deployments/README.md"),
    ("Tasks", "tasks.md", "docs/tasks.md"),
    ("Encoders", "encoders.md", None),
    ("Method", "method.md", "docs/method.md"),
    ("Linear probes on your arrays", "probes.md", "docs/probes.md"),
    ("Solver", "solver.md", "docs/solver.md"),
    ("Guarantees", "guarantees.md", "docs/guarantees.md"),
    ("Architecture", "architecture.md", "ARCHITECTURE.md"),
    ("Command line", "command-line.md", None),
    ("Python", "python.md", None),
    ("Settings and tables", "reference.md", "docs/reference.md"),
    ("Contribute", "contribute.md", "CONTRIBUTING.md"),
    ("Changes", "changes.md", "CHANGELOG.md"),
)


def main() -> None:
    """Build the site.

    Raises:
        SystemExit: mkdocs is not installed, or a link is broken.
    """
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "site"
    with tempfile.TemporaryDirectory() as folder:
        write_pages(Path(folder))
        build(Path(folder), target.resolve())
    print(target / "index.html")


def write_pages(folder: Path) -> None:
    """Write all pages as Markdown; documents of the repository link to each other's pages."""
    generated = {
        "encoders.md": render_encoders(),
        "command-line.md": render_commands(),
        "python.md": render_python(),
    }
    for _, page, document in PAGES:
        text = generated[page] if document is None else (ROOT / document).read_text()
        (folder / page).write_text(_link_pages(text))
    shutil.copytree(ROOT / "docs" / "images", folder / "images")
    shutil.copy(ROOT / "docs" / "tour.py", folder)


def build(pages: Path, target: Path) -> None:
    """Build the site with mkdocs; a warning, such as of a broken link, is an error."""
    try:
        from mkdocs.commands.build import build as build_site
        from mkdocs.config import load_config
    except ImportError:
        sys.exit("mkdocs is not installed; run `make docs`, or pip install mkdocs")
    settings = {
        "site_name": "genebench",
        "docs_dir": str(pages),
        "site_dir": str(target),
        "use_directory_urls": False,
        "strict": True,
        "theme": {"name": "readthedocs", "highlightjs": False},
        "markdown_extensions": ["tables", "fenced_code", {"toc": {"toc_depth": 2}}],
        "nav": [{title: page} for title, page, _ in PAGES],
        "plugins": ["search"],
        "validation": {"links": {"anchors": "warn"}},
    }
    logging.basicConfig(level=logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "mkdocs.yml"
        file.write_text(yaml.safe_dump(settings, sort_keys=False))
        build_site(load_config(str(file)))


def _link_pages(text: str) -> str:
    """Turn names of documents in code, such as `docs/method.md`, into links to their pages."""
    for _, page, document in PAGES:
        if document is not None:
            text = text.replace(f"`{document}`", f"[`{document}`]({page})")
    return text.replace("](docs/images/", "](images/")


def render_encoders() -> str:
    """The declared encoders as a table."""
    lines = [
        "# Encoders",
        "`genebench ls encoders` lists them, `genebench show minilm` shows one.",
        "",
        "| encoder | kind | dimension | reads | licence | description |",
        "|---|---|---|---|---|---|",
    ]
    encoders = load_registry("paper").encoders | load_registry("embedded").encoders
    for name, encoder in sorted(encoders.items()):
        cells = (
            f"`{name}`", encoder.modality, encoder.dimension or "–", encoder.reads,
            encoder.license or "–", encoder.description or encoder.title,
        )  # fmt: skip
        lines.append("| " + " | ".join(_cell(cell) for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def render_commands() -> str:
    """All commands with their arguments and options."""
    group: Any = typer.main.get_command(app)
    parts = ["# Command line", "Generated from the help texts."]
    for name, command in sorted(group.commands.items()):
        parts += [f"## genebench {name}", command.help or "", f"`{command.epilog}`"]
        rows = [
            (
                ", ".join(f"`{one}`" for one in (*shown.opts, *shown.secondary_opts)),
                shown.help or "",
            )
            for shown in command.params
            if shown.name != "help"
        ]
        if rows:
            table = ["| argument or option | meaning |", "|---|---|"]
            table += [f"| {option} | {_cell(text)} |" for option, text in rows]
            parts.append("\n".join(table))
    return "\n\n".join(parts) + "\n"


def render_python() -> str:
    """The public functions and classes with their signatures and docstrings."""
    parts = ["# Python", "Generated from the docstrings."]
    for module in (genebench, lakehouse):
        for name in module.__all__:
            item = getattr(module, name)
            if inspect.isfunction(item):
                parts += _describe(f"{module.__name__}.{name}", item)
    for shown in (Comparison, Lake):
        parts += [f"## {shown.__name__}", f"```text\n{inspect.getdoc(shown)}\n```"]
        for name, method in _public_methods(shown):
            parts += _describe(f"{shown.__name__}.{name}", method, "###")
    return "\n\n".join(parts) + "\n"


def _public_methods(kind: type) -> Iterator[tuple[str, Any]]:
    for name, method in inspect.getmembers(kind, inspect.isfunction):
        if not name.startswith("_"):
            yield name, method


def _describe(name: str, item: Any, level: str = "##") -> list[str]:
    signature = str(inspect.signature(item)).replace("genebench.", "").replace("polars.", "pl.")
    return [f"{level} {name}", f"```text\n{name}{signature}\n\n{inspect.getdoc(item)}\n```"]


def _cell(value: Any) -> str:
    return re.sub(r"\s+", " ", str(value)).replace("|", "\\|").replace("<", "&lt;")


if __name__ == "__main__":
    main()
