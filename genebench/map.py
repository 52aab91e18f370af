"""Prints the module map: each folder and module with its number of lines and its summary.

Run `python -m genebench.map` in a checkout or an installation. The summaries are the first lines
of the docstrings.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

PACKAGES = ("genebench", "lakehouse", "expectations", "flows")


def describe_tree(root: Path) -> Iterator[str]:
    """Describe the packages below a folder.

    Args:
        root: Folder that holds the packages `genebench`, `lakehouse`, `expectations` and `flows`.

    Yields:
        One line for each folder (number of modules, lines of code, first line of the docstring
        of its `__init__.py`), followed by one line for each of its modules.
    """
    for package in PACKAGES:
        for init in sorted((root / package).rglob("__init__.py")):
            folder = init.parent
            paths = sorted(path for path in folder.glob("*.py") if path != init)
            n_lines = sum(_count_lines(path) for path in (init, *paths))
            indent = "  " * (len(folder.relative_to(root).parts) - 1)
            name = f"{folder.relative_to(root)}/"
            yield f"{indent}{name:<34}{len(paths):>3} modules {n_lines:>6} lines  {_summary(init)}"
            for path in paths:
                yield f"{indent}  {path.name:<32}{_count_lines(path):>18} lines  {_summary(path)}"


def _count_lines(path: Path) -> int:
    return len(path.read_text(encoding="utf-8").splitlines())


def _summary(path: Path) -> str:
    found = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    return found.partition("\n")[0]


if __name__ == "__main__":
    for line in describe_tree(Path(__file__).resolve().parents[1]):
        print(line)
