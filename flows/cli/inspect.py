"""Prints what the registry and the lake contain: ls, show, check, status, cards, validations."""

import json
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import polars as pl

from flows.cli.render import (
    print_imported,
    print_leaderboard,
    print_line,
    print_rows,
    print_task_scores,
)
from genebench.errors import GenebenchError, LakeError, RegistryError
from genebench.protocols.declaration import Protocol
from genebench.registry.loading import DECLARATIONS, load_registry, profile_ids
from genebench.registry.registry import Registry
from genebench.registry.yaml_reader import suggest
from genebench.settings import get_settings
from lakehouse import open_lake
from lakehouse.curate.changes import changes_since_release, describe_changes
from lakehouse.curate.state import (
    choose_snapshots,
    curation_key,
    failed_tasks,
    is_curated,
    merge_user_task_paths,
    missing_files,
    user_task_paths,
)
from lakehouse.embed.encoder_records import encoder_families, encoder_probes, recorded_weights
from lakehouse.query.lake import Lake
from lakehouse.report.imports import imported_means
from lakehouse.report.significance import describe_verdicts
from lakehouse.report.task_cards import card_rows, read_task_cards, render_task_cards
from lakehouse.score.plan import current_release, plan_release
from lakehouse.tables.catalogue import TABLES


def open_registry(profile: str | None) -> Registry:
    """Load the declarations of a profile; by default that of the setting `GENEBENCH_PROFILE`."""
    settings = get_settings()
    existing = [name for name in user_task_paths(open_lake()) if Path(name).exists()]
    return load_registry(
        profile or settings.profile,
        task_paths=[
            *settings.own_tasks,
            *map(Path, merge_user_task_paths(existing, (), settings.own_tasks)),
        ],
        versions=settings.versions,
    )


def print_list(what: str, families: list[str], profile: str | None) -> None:
    """Print a list of tasks, encoders, sources, tables, probes, protocols or releases."""
    lists: dict[str, Callable[[], tuple[list[str], Iterable[list[Any]]]]] = {
        "tasks": lambda: _list_tasks(open_registry(profile), families),
        "encoders": lambda: _list_encoders(open_registry(profile)),
        "sources": lambda: _list_sources(open_registry(profile)),
        "tables": lambda: (
            ["table", "one row is", "key", "content"],
            [[t.name, t.row, ", ".join(t.key), t.description] for t in TABLES.values()],
        ),
        "probes": lambda: (
            ["probe", "title", "description"],
            [[p.id, p.title, p.description] for p in open_registry(profile).probes.values()],
        ),
        "protocols": lambda: (
            ["protocol", "title", "description"],
            [[p.id, p.title, p.description] for p in open_registry(profile).protocols.values()],
        ),
        "releases": lambda: (
            ["release", "tasks", "encoders", "evaluations", "origin"],
            [
                [*row[:4], "imported" if row[4] else "computed"]
                for row in open_lake().releases().iter_rows()
            ],
        ),
    }
    head, rows = lists[what]()
    print_rows(what, head, rows)


def _list_tasks(registry: Registry, families: list[str]) -> tuple[list[str], list[list[Any]]]:
    chosen = registry.select_tasks((), families)
    sizes = _sizes()
    verdicts = describe_verdicts(open_lake(), current_release(get_settings().protocol))
    rows = []
    for task_id in chosen:
        task = registry.tasks[task_id]
        size = sizes.get(task_id)
        rows.append(
            [
                task_id,
                task.family,
                task.kind,
                task.title,
                ", ".join(task.source),
                f"{size:,}" if size else None,
                *([verdicts.get(task_id)] if verdicts else []),
            ]
        )
    head = ["task", "family", "kind", "title", "sources", "samples"]
    return [*head, *(["verdict"] if verdicts else [])], rows


def _sizes() -> dict[str, int]:
    tasks = open_lake().table("silver.tasks").select("task_id", "n_samples").collect()
    return dict(tasks.iter_rows())


def _list_encoders(registry: Registry) -> tuple[list[str], list[list[Any]]]:
    rows = [
        [
            encoder.id,
            encoder.title,
            encoder.modality,
            encoder.dimension,
            encoder.loader,
            "yes" if encoder.id in registry.profile.encoders else None,
        ]
        for encoder in registry.encoders.values()
    ]
    return ["encoder", "title", "kind", "dimension", "loader", "runs by default"], rows


def _list_sources(registry: Registry) -> tuple[list[str], list[list[Any]]]:
    current = open_lake().current_snapshots(registry.source_files, registry.wanted_versions)
    rows = []
    for file_id in registry.source_files:
        source = registry.sources[file_id.split(".")[0]]
        rows.append([file_id, source.title, source.version, source.license, current.get(file_id)])
    return ["source file", "title", "version", "license", "snapshot in the lake"], rows


def print_card(name: str, profile: str | None) -> None:
    """Print one task, encoder, source, probe, protocol, table or release.

    Raises:
        GenebenchError: Nothing has this name; suggests the nearest one.
    """
    registry = open_registry(profile)
    kinds: Mapping[str, Mapping[str, Any]] = {
        "task": registry.tasks,
        "encoder": registry.encoders,
        "source": registry.sources,
        "probe": registry.probes,
        "protocol": registry.protocols,
    }
    for noun, entries in kinds.items():
        if noun == "task" and name in entries:
            card = next(c for c in read_task_cards(open_lake(), registry) if c.task.id == name)
            print_rows(f"task {name}", ["", ""], card_rows(card))
            print_task_scores(open_lake(), current_release(get_settings().protocol), name)
            return
        if name in entries:
            declared = entries[name].model_dump(mode="json", by_alias=True, exclude_defaults=True)
            print_rows(f"{noun} {name}", ["", ""], _flatten(declared))
            if noun == "encoder":
                _print_encoder_record(open_lake(), name)
            return
    if name in TABLES:
        table = TABLES[name]
        print_line(f"{table.name}: one row is {table.row}. {table.description}")
        print_rows(
            f"key: {', '.join(table.key)}; partition: {', '.join(table.partition) or 'none'}; "
            f"mode: {table.mode}",
            ["column", "type", "null"],
            [[c.name, c.type, "yes" if c.is_nullable else ""] for c in table.columns.values()],
        )
        return
    if "__" in name:
        _print_task_state(open_lake(), name)
        return
    if name in (releases := open_lake().releases())["release_id"]:
        _print_release(open_lake(), name)
        return
    known = [*(key for entries in kinds.values() for key in entries), *TABLES]
    known += releases["release_id"].to_list()
    raise GenebenchError(
        f"nothing is named {name!r}{suggest(name, known)}; `genebench ls tasks`, `ls encoders`, "
        "`ls sources`, `ls tables` and `ls releases` list the names"
    )


def _print_encoder_record(lake: Lake, encoder_id: str) -> None:
    """Print the lake's record of an encoder and the digests of its weights."""
    rows = lake.encoders().filter(encoder_id=encoder_id).to_dicts()
    if not rows:
        return
    names = ("n_wanted", "n_entities", "dimension", "is_complete", "encoder_digest", "embedded_at")
    print_rows("in the lake", ["", ""], [[name, rows[0][name]] for name in names])
    if weights := recorded_weights(lake.delta, encoder_id):
        print_rows("weights", ["file", "sha256"], weights.items())


def _print_release(lake: Lake, name: str) -> None:
    """Print the counts and leaderboard of a release, or the means of an imported one."""
    row = next(row for row in lake.releases().iter_rows(named=True) if row["release_id"] == name)
    if row.pop("is_foreign"):
        print_imported(imported_means(lake.imported_scores(name)), name)
        return
    print_rows(f"release {name}", ["", ""], row.items())
    print_leaderboard(lake, name)


def _flatten(declared: Mapping[str, Any]) -> list[list[str]]:
    rows = []
    for key, value in declared.items():
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        rows.append([key, text])
    return rows


def write_cards(path: Path, profile: str | None) -> None:
    """Write the cards of all tasks to a Markdown file."""
    path.write_text(
        render_task_cards(read_task_cards(open_lake(), open_registry(profile))), encoding="utf-8"
    )
    print_line(f"wrote {path}")


def print_validations(html: Path | None) -> None:
    """Print the newest validation of each table, or write all validations as an HTML page.

    Raises:
        LakeError: The lake has no validations yet.
    """
    from expectations.validation_page import (
        newest_validations,
        render_validations,
        summarise_validations,
    )

    found = open_lake().table("audit.validations").collect()
    if found.is_empty():
        raise LakeError(
            "the lake has no validations yet; `genebench refresh` validates the first tables"
        )
    if html is not None:
        html.write_text(render_validations(found), encoding="utf-8")
        print_line(f"wrote {html}")
        return
    head, rows = summarise_validations(newest_validations(found))
    print_rows("validations", head, rows)


def _print_task_state(lake: Lake, task_id: str) -> None:
    row = lake.task(task_id)
    shown = {key: value for key, value in row.items() if value is not None}
    names = shown.pop("label_names")
    shown["label_names"] = ", ".join(names[:12]) + (" …" if len(names) > 12 else "")
    print_rows("in the lake, before restriction to a universe", ["", ""], shown.items())


def print_check(profile: str | None) -> None:
    """Validate the declarations of one profile, or of all profiles.

    Raises:
        RegistryError: A declaration is wrong; lists every mistake.
    """
    mistakes: list[str] = []
    for profile_id in [profile] if profile else profile_ids():
        try:
            registry = load_registry(profile_id)
        except RegistryError as error:
            mistakes += [mistake for mistake in error.mistakes if mistake not in mistakes]
            continue
        print_line(
            f"{profile_id}: {len(registry.sources)} sources, {len(registry.tasks)} tasks, "
            f"{len(registry.encoders)} encoders, {len(registry.probes)} probes, "
            f"{len(registry.protocols)} protocols"
        )
    if mistakes:
        raise RegistryError(mistakes)
    print_line(f"all declarations in {DECLARATIONS} are valid")


def print_status(protocol: str | None, profile: str | None) -> None:
    """Print the number of rows of each table, then what each verb would do and why."""
    lake = open_lake()
    counts = _count_rows(lake)
    if not counts:
        print_line(f"the lake {lake.delta.storage.root} is empty; `genebench benchmark` fills it")
        return
    print_rows(f"lake {lake.delta.storage.root}", ["table", "rows"], counts.items())
    try:
        _print_pending(lake, protocol, profile)
    except LakeError as error:
        # A table that cannot be read is what a reader of the status has to know.
        print_rows("pending", ["verb", "what", "why"], [["–", "cannot be told", str(error)]])


def _print_pending(lake: Lake, protocol: str | None, profile: str | None) -> None:
    registry = open_registry(profile)
    rules = registry.choose_protocol(protocol or get_settings().protocol)
    print_rows("pending", ["verb", "what", "why"], _pending(lake, registry, rules))
    release = current_release(rules.id)
    changes = describe_changes(
        changes_since_release(lake, release), lake.table("bronze.snapshots").collect()
    )
    if changes:
        print_rows(f"tasks changed since release {release}", ["task", "samples"], changes.items())


def _count_rows(lake: Lake) -> dict[str, str]:
    """Count the rows of each table; the error message where a table cannot be read."""
    counted = {}
    for name in lake.delta.list_tables():
        try:
            counted[name] = f"{lake.delta.scan(name).select(pl.len()).collect().item():,}"
        except (LakeError, OSError, pl.exceptions.PolarsError) as error:
            counted[name] = str(error).partition("\n")[0]
    return counted | lake.delta.list_unreadable()


def _pending(lake: Lake, registry: Registry, rules: Protocol) -> list[list[str]]:
    try:
        snapshots = choose_snapshots(lake, registry)
    except GenebenchError as error:
        return [["refresh", "source files", str(error)]]
    rows = [
        ["refresh", name, f"not in the lake; {len(tasks)} tasks need it"]
        if tasks
        else ["refresh", name, "not in the lake; the profile reads entities or inputs from it"]
        for name, tasks in missing_files(registry, snapshots).items()
    ]
    if not is_curated(lake, curation_key(lake, registry, snapshots)):
        return [
            *rows,
            ["curate", "silver tables", "snapshots or declarations changed since the last run"],
        ]
    rows += [["curate", name, reason] for name, reason in failed_tasks(lake).items()]
    plan = plan_release(
        lake.delta,
        rules,
        [registry.probes["linear"]],
        current_release(rules.id),
        encoder_probes=encoder_probes(lake.delta, registry),
        encoder_families=encoder_families(lake.delta, registry),
    )
    rows += [["score", name, reason] for name, reason in plan.excluded.items()]
    counts = plan.pending.group_by("encoder_id", "why").len().sort("encoder_id", "why").rows()
    rows += [["score", name, f"{n:,} evaluations: {why}"] for name, why, n in counts]
    if plan.items.is_empty():
        rows += [["embed", "every encoder", "no vectors of the entities that the tasks sample"]]
    return rows or [["–", "nothing", "the release has all of its evaluations"]]
