"""Reads user tasks: folders in the published package's format, and YAML entries with a file.

A folder contains, at any depth, an `outcomes.csv` for each task and an `entities.csv` beside it or
in a folder above. The rows of the two files correspond. The column `symbol` identifies genes,
`diseaseId` diseases; two columns make pairs. An optional `task.yaml` beside the outcomes sets
title, kind, family, positive, description and max_unresolved.

An outcome that is empty, NA, N/A, #N/A, NaN, nan, NULL or null is missing; its row is left out and
counted. In multi-label tasks an empty cell means that the label is absent, and the other missing
values are an error. Identifiers are read unchanged: NA is a gene.

A YAML file contains entries as in the registry, with `file` (and optionally `family`) instead of
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
from genebench.tasks.declaration import Kind, Task, slugify
from genebench.tasks.entries import read_entries

USER_FAMILY = "own"
ENTITIES, OUTCOMES, SETTINGS = "entities.csv", "outcomes.csv", "task.yaml"
MISSING = ["NA", "N/A", "#N/A", "NaN", "nan", "NULL", "null"]
# Entity column of the folder format to its entity type and namespace.
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
    """A user task, with its rows.

    Attributes:
        task: The declaration; its only source is `own.<task id>`.
        table: The rows of the file, all columns strings, empty cells null.
        path: The file or folder that it was read from.
        snapshot_id: Identifies the content, like the snapshot of a source.
    """

    task: Task
    table: pl.DataFrame
    path: Path
    snapshot_id: str


class FolderSettings(BaseModel):
    """The keys of a `task.yaml`."""

    model_config = ConfigDict(extra="forbid")

    title: str | None = None
    kind: Kind | None = None
    family: str = USER_FAMILY
    positive: str | None = None
    description: str = ""
    max_unresolved: float = 0.2


def read_user_tasks(path: Path, profile: str, mistakes: list[str]) -> Iterator[UserTask]:
    """Read the tasks of a folder or of a YAML file.

    Args:
        path: A folder with `outcomes.csv` files below it, or a `.yaml` file.
        profile: The profile to which the tasks are added.
        mistakes: List to which a message is appended for each mistake.
    """
    if path.is_dir():
        outcomes = sorted(path.rglob(OUTCOMES))
        if not outcomes:
            mistakes.append(f"{path}: no {OUTCOMES} in this folder or below it")
        for outcomes_path in outcomes:
            yield from _read_folder(path, outcomes_path.parent, profile, mistakes)
    elif path.suffix in (".yaml", ".yml"):
        yield from _read_file(path, profile, mistakes)
    else:
        mistakes.append(f"{path}: no such folder, and no .yaml file")


def _read_file(path: Path, profile: str, mistakes: list[str]) -> Iterator[UserTask]:
    data, problems = read_yaml(path)
    if problems:
        mistakes += problems
        return
    for task_id, entry in data.items():
        where = f"{path}: {task_id}"
        if not isinstance(entry, dict) or not isinstance(entry.get("file"), str):
            mistakes.append(
                f"{where}: the key 'file' is missing; name the CSV or TSV with the rows"
            )
            continue
        rows_path = path.parent / entry.pop("file")
        fixed = {
            "profile": profile,
            "family": entry.pop("family", USER_FAMILY),
            "source": f"{USER_FAMILY}.{task_id}",
        }
        columns, rows = _read_rows(rows_path, mistakes)
        duplicates = _duplicate_columns(rows_path, columns)
        mistakes += duplicates
        for task in read_entries({task_id: entry}, str(path), fixed, mistakes):
            if columns and not duplicates:
                yield _user_task(task, _table(columns, rows), rows_path)


def _read_folder(root: Path, folder: Path, profile: str, mistakes: list[str]) -> Iterator[UserTask]:
    name = folder.relative_to(root).as_posix()
    task_id = slugify(root.name if name == "." else name)
    entities_path = _find_entities_file(folder, root)
    if entities_path is None:
        mistakes.append(f"{folder}: no {ENTITIES} beside {OUTCOMES} or in a folder above")
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
            "sample is one entity or a pair of entities, so keep one column or two"
        )
    if entities and outcomes and len(entities) != len(outcomes):
        found.append(
            f"{folder}: {len(entities)} rows of entities ({entities_path}) but {len(outcomes)} of "
            "outcomes; they must correspond row by row. A blank line is an empty cell in a file "
            "with one column, except at its end; in other files it is ignored"
        )
    slots = [f"entity_{number}" for number in range(len(entity_columns))]
    found += _duplicate_columns(folder / OUTCOMES, [*slots, *outcome_columns])
    if found or settings is None:
        mistakes += found
        return
    table = _table(
        [*slots, *outcome_columns], [[*e, *o] for e, o in zip(entities, outcomes, strict=True)]
    )
    if (settings.kind or infer_kind(table, outcome_columns)) != "multilabel":
        table = table.with_columns(pl.col(outcome_columns).replace(MISSING, None))
        if table[outcome_columns[0]].null_count() == table.height:
            mistakes.append(f"{folder / OUTCOMES}: no row has an outcome")
            return
    data = _infer_entry(table, entity_columns, slots, outcome_columns, settings) | {
        "title": settings.title or name,
        "description": settings.description,
        "source": f"{USER_FAMILY}.{task_id}",
    }
    fixed = {"profile": profile, "family": settings.family}
    for task in read_entries({task_id: data}, str(folder), fixed, mistakes):
        yield _user_task(task, table, folder)


def _infer_entry(
    table: pl.DataFrame,
    entity_columns: list[str],
    slots: list[str],
    outcome_columns: list[str],
    settings: FolderSettings,
) -> dict[str, Any]:
    """Infer the task entry from the columns of a folder's two files."""
    types = [ENTITY_COLUMNS[column] for column in entity_columns]
    kind = settings.kind or infer_kind(table, outcome_columns)
    entry: dict[str, Any] = {"kind": kind, "entity": [entity_type for entity_type, _ in types]}
    outcome = outcome_columns[0]
    if kind == "binary":
        classes = sorted(table[outcome].drop_nulls().unique().to_list())
        entry["positive"] = settings.positive or classes[-1]
    limit = {"max_unresolved": settings.max_unresolved}
    if len(slots) == 1:
        arguments = {"id": slots[0], "namespace": types[0][1], **limit}
        if kind == "multilabel":
            return entry | {"recipe": "flags", "with": {**arguments, "columns": outcome_columns}}
        return entry | {"recipe": "column", "with": {**arguments, "column": outcome}}
    first, second = slots
    arguments = {"first": first, "second": second, "second_namespace": types[1][1], **limit}
    if kind == "regression":
        arguments |= {"first_namespace": types[0][1], "score": outcome}
        return entry | {"recipe": "association", "with": arguments}
    arguments |= {"namespace": types[0][1], "label": outcome}
    return entry | {"recipe": "pairs", "with": arguments}


def infer_kind(table: pl.DataFrame, columns: list[str]) -> Kind:
    """Infer the kind of a task from its outcomes.

    Several columns: multilabel. One column: binary if it has two different values, regression if
    all values are numbers, otherwise multiclass.
    """
    if len(columns) > 1:
        return "multilabel"
    values = table[columns[0]].drop_nulls()
    if values.n_unique() == 2:
        return "binary"
    is_number = values.cast(pl.Float64, strict=False).is_not_null().all()
    return "regression" if is_number else "multiclass"


def _find_entities_file(folder: Path, root: Path) -> Path | None:
    """Return the `entities.csv` of a folder or of its nearest parent, up to the root."""
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
    """Read header and rows of a CSV or TSV file as text, so that the gene NA is not missing."""
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            separator = "\t" if path.suffix in (".tsv", ".txt") else ","
            lines = list(csv.reader(file, delimiter=separator, strict=True))
    except (OSError, ValueError, csv.Error) as error:
        mistakes.append(f"{path}: cannot be read: {error}")
        return [], []
    filled = [number for number, row in enumerate(lines) if row]
    if len(filled) < 2:
        mistakes.append(f"{path}: a header and at least one row are needed")
        return [], []
    header, *rows = lines[filled[0] : filled[-1] + 1]
    # Blank lines of a file with one column are empty cells; dropping them would shift the rows.
    rows = [row or [""] for row in rows] if len(header) == 1 else [row for row in rows if row]
    ragged = next((n for n, row in enumerate(rows, start=2) if len(row) != len(header)), None)
    if ragged is not None:
        mistakes.append(f"{path}: line {ragged} does not have {len(header)} cells like the header")
        return [], []
    return [name.strip() for name in header], rows


def _duplicate_columns(path: Path, columns: list[str]) -> list[str]:
    """Return a message for each column name that another column or an entity slot already has."""
    return [
        f"{path}: the column name {name!r} is already used; rename this column"
        for position, name in enumerate(columns)
        if name in columns[:position]
    ]


def _table(columns: list[str], rows: list[list[str]]) -> pl.DataFrame:
    schema = dict.fromkeys(columns, pl.String)
    cells = [[cell.strip() or None for cell in row] for row in rows]
    return pl.DataFrame(cells, schema=schema, orient="row")


def _user_task(task: Task, table: pl.DataFrame, path: Path) -> UserTask:
    content = digest_bytes(table.write_csv().encode())
    return UserTask(task, table, path, f"{USER_FAMILY}_{task.id}_{content[:8]}")
