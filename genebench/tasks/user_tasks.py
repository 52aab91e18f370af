"""Tasks of the user's own: a folder in the published package's format, or a YAML entry with a file.

A folder holds, at any depth, an `outcomes.csv` for each task, and an `entities.csv` beside it or in
a folder above. Their rows correspond. `symbol` is a gene's column, `diseaseId` a disease's; two
columns make pairs. A `task.yaml` beside the outcomes may say what they do not: title, kind,
family, positive, description, max_unresolved. An outcome that is empty, NA, N/A, #N/A, NaN, nan,
NULL or null is missing, and its row is left out and counted; of labels, an empty cell is a no, and
the words are refused. Identifiers are read as they stand: NA is a gene.

A YAML file holds entries as those of the registry, with `file` (and `family`, if any) in place of
`source`.
"""

import csv
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from pydantic import BaseModel, ConfigDict

from genebench.digest import digest_bytes
from genebench.registry.yaml_reader import read_yaml, suggest, validate
from genebench.tasks.declaration import Kind, Task, slug
from genebench.tasks.entries import read_entries

OWN = "own"
ENTITIES, OUTCOMES, SETTINGS = "entities.csv", "outcomes.csv", "task.yaml"
MISSING = ["NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null"]
# What an entity column of the folder format holds: entity type and namespace.
ENTITY_COLUMNS = {
    "symbol": ("gene", "symbol"),
    "ensembl_gene_id": ("gene", "ensembl"),
    "entrez_id": ("gene", "entrez"),
    "hgnc_id": ("gene", "hgnc"),
    "uniprot_id": ("gene", "uniprot"),
    "diseaseId": ("disease", "efo"),
}


@dataclass(frozen=True)
class UserTask:
    """A task of the user's own, with its rows.

    Attributes:
        task: The declaration; its only source is `own.<task id>`.
        table: The rows as written, all columns strings, empty cells null.
        path: The file or folder that it was read from.
        snapshot_id: Names the content, as a snapshot of a source would.
    """

    task: Task
    table: pl.DataFrame
    path: Path
    snapshot_id: str


class FolderSettings(BaseModel):
    """What a `task.yaml` may say."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = None
    kind: Kind | None = None
    family: str = OWN
    positive: str | None = None
    description: str = ""
    max_unresolved: float = 0.2


def read_user_tasks(path: Path, profile: str, mistakes: list[str]) -> Iterator[UserTask]:
    """Read the tasks of a folder or of a YAML file.

    Args:
        path: A folder with `outcomes.csv` files below it, or a `.yaml` file.
        profile: The profile that they join.
        mistakes: Grows by what is wrong.
    """
    if path.is_dir():
        outcomes = sorted(path.rglob(OUTCOMES))
        if not outcomes:
            mistakes.append(f"{path}: no {OUTCOMES} in this folder or below it")
        for one in outcomes:
            yield from _read_folder(path, one.parent, profile, mistakes)
    elif path.suffix in (".yaml", ".yml"):
        yield from _read_file(path, profile, mistakes)
    else:
        mistakes.append(f"{path}: no such folder, and not a .yaml file")


def _read_file(path: Path, profile: str, mistakes: list[str]) -> Iterator[UserTask]:
    data, problems = read_yaml(path)
    if problems:
        mistakes += problems
        return
    for task_id, entry in data.items():
        where = f"{path}: {task_id}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            mistakes.append(f"{where}: the key 'file' is missing: the CSV or TSV with the rows")
            continue
        rows_path = path.parent / entry.pop("file")
        fixed = {
            "profile": profile,
            "family": entry.pop("family", OWN),
            "source": f"{OWN}.{task_id}",
        }
        columns, rows = _read_rows(rows_path, mistakes)
        repeated = _repeated(rows_path, columns)
        mistakes += repeated
        for task in read_entries({task_id: entry}, str(path), fixed, mistakes):
            if columns and not repeated:
                yield _own_task(task, _table(columns, rows), rows_path)


def _read_folder(root: Path, folder: Path, profile: str, mistakes: list[str]) -> Iterator[UserTask]:
    name = folder.relative_to(root).as_posix()
    task_id = slug(root.name if name == "." else name)
    entities_path = _nearest(folder, root)
    if entities_path is None:
        mistakes.append(f"{folder}: no {ENTITIES} beside {OUTCOMES}, nor in a folder above")
        return
    found: list[str] = []
    entity_columns, entities = _read_rows(entities_path, found)
    outcome_columns, outcomes = _read_rows(folder / OUTCOMES, found)
    settings = _read_settings(folder, found)
    unknown = [column for column in entity_columns if column not in ENTITY_COLUMNS]
    if unknown:
        known = ", ".join(ENTITY_COLUMNS)
        hint = suggest(unknown[0], ENTITY_COLUMNS)
        found.append(f"{entities_path}: column {unknown[0]!r} is not one of {known}{hint}")
    if len(entity_columns) > 2:
        found.append(
            f"{entities_path}: {len(entity_columns)} columns ({', '.join(entity_columns)}); a "
            "sample is one entity or a pair, so keep one column or two"
        )
    if entities and outcomes and len(entities) != len(outcomes):
        found.append(
            f"{folder}: {len(entities)} rows of entities ({entities_path}) but {len(outcomes)} of "
            "outcomes; they correspond row by row. In a file of one column a blank line is an "
            "empty cell, except at its end; in others it does not count"
        )
    slots = [f"entity_{number}" for number in range(len(entity_columns))]
    found += _repeated(folder / OUTCOMES, [*slots, *outcome_columns])
    if found or settings is None:
        mistakes += found
        return
    table = _table(
        [*slots, *outcome_columns], [[*e, *o] for e, o in zip(entities, outcomes, strict=True)]
    )
    if (settings.kind or guess_kind(table, outcome_columns)) != "multilabel":
        table = table.with_columns(pl.col(outcome_columns).replace(MISSING, None))
        if table[outcome_columns[0]].null_count() == table.height:
            mistakes.append(f"{folder / OUTCOMES}: no row has an outcome")
            return
    data = _declare(table, entity_columns, slots, outcome_columns, settings) | {
        "title": settings.title or name,
        "description": settings.description,
        "source": f"{OWN}.{task_id}",
    }
    fixed = {"profile": profile, "family": settings.family}
    for task in read_entries({task_id: data}, str(folder), fixed, mistakes):
        yield _own_task(task, table, folder)


def _declare(
    table: pl.DataFrame,
    entity_columns: list[str],
    slots: list[str],
    outcome_columns: list[str],
    settings: FolderSettings,
) -> dict[str, Any]:
    """The entry that the columns of a folder's two files amount to."""
    types = [ENTITY_COLUMNS[column] for column in entity_columns]
    kind = settings.kind or guess_kind(table, outcome_columns)
    entry: dict[str, Any] = {"kind": kind, "entity": [entity_type for entity_type, _ in types]}
    outcome = outcome_columns[0]
    if kind == "binary":
        classes = sorted(table[outcome].drop_nulls().unique().to_list())
        entry["positive"] = settings.positive or classes[-1]
    limit = {"max_unresolved": settings.max_unresolved}
    if len(slots) == 1:
        who = {"id": slots[0], "namespace": types[0][1], **limit}
        if kind == "multilabel":
            return entry | {"recipe": "flags", "with": {**who, "columns": outcome_columns}}
        return entry | {"recipe": "column", "with": {**who, "column": outcome}}
    first, second = slots
    who = {"first": first, "second": second, "second_namespace": types[1][1], **limit}
    if kind == "regression":
        who |= {"first_namespace": types[0][1], "score": outcome}
        return entry | {"recipe": "association", "with": who}
    return entry | {"recipe": "pairs", "with": {**who, "namespace": types[0][1], "label": outcome}}


def guess_kind(table: pl.DataFrame, columns: list[str]) -> Kind:
    """The kind that outcomes look like, where nobody says it.

    Several columns are labels, two different values classes, more that are all numbers numbers.
    """
    if len(columns) > 1:
        return "multilabel"
    values = table[columns[0]].drop_nulls()
    if values.n_unique() == 2:
        return "binary"
    is_number = values.cast(pl.Float64, strict=False).is_not_null().all()
    return "regression" if is_number else "multiclass"


def _nearest(folder: Path, root: Path) -> Path | None:
    """The `entities.csv` of a folder, or of the lowest folder above it up to the root."""
    for place in [folder, *folder.parents]:
        if (place / ENTITIES).is_file():
            return place / ENTITIES
        if place == root:
            break
    return None


def _read_settings(folder: Path, mistakes: list[str]) -> FolderSettings | None:
    path = folder / SETTINGS
    if not path.is_file():
        return FolderSettings()
    data, problems = read_yaml(path)
    settings, invalid = validate(FolderSettings, data, str(path)) if not problems else (None, [])
    mistakes += [*problems, *invalid]
    return settings


def _read_rows(path: Path, mistakes: list[str]) -> tuple[list[str], list[list[str]]]:
    """Header and rows of a CSV or TSV file; nothing is interpreted, so the gene NA survives."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = "\t" if path.suffix in (".tsv", ".txt") else ","
            lines = list(csv.reader(file, delimiter=separator, strict=True))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        mistakes.append(f"{path}: cannot be read: {error}")
        return [], []
    filled = [number for number, row in enumerate(lines) if row]
    if len(filled) < 2:
        mistakes.append(f"{path}: a header and at least one row are needed")
        return [], []
    header, *rows = lines[filled[0] : filled[-1] + 1]
    # The only cell of a row may be empty; dropped, it would shift outcomes against entities.
    rows = [row or [""] for row in rows] if len(header) == 1 else [row for row in rows if row]
    ragged = next((n for n, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if ragged is not None:
        mistakes.append(f"{path}: line {ragged} has not {len(header)} cells as the header has")
        return [], []
    return [name.strip() for name in header], rows


def _repeated(path: Path, columns: list[str]) -> list[str]:
    """The column names of a file that are taken already, by another column or by an entity."""
    return [
        f"{path}: the column name {name!r} is taken already; rename this column"
        for position, name in enumerate(columns)
        if name in columns[:position]
    ]


def _table(columns: list[str], rows: list[list[str]]) -> pl.DataFrame:
    schema = dict.fromkeys(columns, pl.String)
    cells = [[cell.strip() or None for cell in row] for row in rows]
    return pl.DataFrame(cells, schema=schema, orient="row")


def _own_task(task: Task, table: pl.DataFrame, path: Path) -> UserTask:
    content = digest_bytes(table.write_csv().encode())
    return UserTask(task, table, path, f"{OWN}_{task.id}_{content[:8]}")
