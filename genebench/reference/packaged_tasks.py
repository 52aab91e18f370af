"""Prepares the tasks of the included data in memory, without a lake or a Prefect server."""

from collections.abc import Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import polars as pl

from genebench.encoders.loader import LoaderInput
from genebench.entities.entity_catalogue import GENE, build_catalogue
from genebench.entities.identifiers import Resolver
from genebench.errors import DegenerateTask, GenebenchError
from genebench.evaluation.problems import PreparedTask, prepare_task
from genebench.protocols.declaration import Protocol
from genebench.registry.registry import Registry
from genebench.sources.declaration import EMBEDDED, EMBEDDED_FOLDER
from genebench.sources.readers.dispatch import read_source_file
from genebench.tasks.declaration import Task
from genebench.tasks.recipes.recipe import build


@dataclass(frozen=True)
class UniverseTasks:
    """The whole tasks of a profile over one universe; sub-tasks are left out.

    Attributes:
        entities: Symbol, name and identifiers of the genes of the universe: `silver.entities`.
        inputs: All genes of the catalogue with their identifiers; `entity_ids` are the universe.
        entity_ids: (entities,) sorted ids of the universe; the rows of the tasks are positions in
            them.
        tasks: Task id to the task.
        titles: Task id to its title.
        left_out: Task id to the reason why it could not be prepared.
    """

    entities: pl.DataFrame
    inputs: LoaderInput
    entity_ids: pl.Series
    tasks: Mapping[str, PreparedTask]
    titles: Mapping[str, str]
    left_out: Mapping[str, str]


def prepare_packaged_tasks(
    registry: Registry,
    protocol: Protocol,
    entity_ids: pl.Series,
    task_ids: Collection[str] = (),
    *,
    threads: int = 1,
) -> UniverseTasks:
    """Build tasks whose sources are included in the package.

    The samples, labels and folds equal those of a lake that was made from the same files.

    Args:
        registry: The declarations of a profile whose catalogue is included in the package.
        protocol: Minimum shares, and the rule for the positive class.
        entity_ids: Sorted ids of the universe.
        task_ids: The tasks to build. Default: all of the profile.
        threads: Number of tasks built at once.

    Raises:
        GenebenchError: There is no such task; or a source is not included in the package, or is
            damaged.
    """
    known_tasks = [task.id for task in registry.tasks.values() if not task.superseded_by]
    for task_id in task_ids:
        if task_id not in known_tasks:
            if task_id in registry.tasks:
                raise GenebenchError(
                    f"task {task_id!r} is scored only where it is named, so the reference release "
                    f"has no scores of it; run `genebench benchmark --task {task_id} --encoder ...`"
                )
            raise GenebenchError(f"no task {task_id!r}: the tasks are {', '.join(known_tasks)}")
    wanted = [registry.tasks[task_id] for task_id in task_ids or known_tasks]
    catalogue_file = registry.profile.catalogues[GENE]
    files = dict.fromkeys([catalogue_file, *(name for task in wanted for name in task.source)])

    def prepare(task: Task) -> PreparedTask | str:
        """The task, or why it could not be prepared."""
        tables = {name: raw[name] for name in task.source}
        try:
            built = build(tables, task, resolvers)
            row = {"task_id": task.id, **task.model_dump(include={"kind", "family", "positive"})}
            return prepare_task(row, built.samples, built.labels, entity_ids, protocol)
        except DegenerateTask as reason:
            return str(reason)

    with ThreadPoolExecutor(threads) as pool:
        raw = dict(zip(files, pool.map(partial(_read_packaged, registry), files), strict=True))
        catalogue = build_catalogue(raw[catalogue_file], catalogue_file)
        resolvers = {GENE: Resolver(catalogue.xrefs, GENE)}
        ids = [task.id for task in wanted]
        prepared = dict(zip(ids, pool.map(prepare, wanted), strict=True))
    tasks = {name: found for name, found in prepared.items() if isinstance(found, PreparedTask)}
    left_out = {name: found for name, found in prepared.items() if isinstance(found, str)}
    known = catalogue.entities["entity_id"]
    return UniverseTasks(
        catalogue.entities.filter(pl.col("entity_id").is_in(entity_ids.to_list())),
        LoaderInput(GENE, entity_ids.to_list(), xrefs=catalogue.xrefs, known_ids=known.to_list()),
        entity_ids,
        tasks,
        {task_id: registry.tasks[task_id].title for task_id in tasks},
        left_out,
    )


def _read_packaged(registry: Registry, file_id: str) -> pl.DataFrame:
    source_id, _, name = file_id.partition(".")
    source = registry.sources[source_id]
    url = source.files[name].url
    if url is None or not url.startswith(EMBEDDED):
        raise GenebenchError(
            f"{file_id} is not included in the package; `genebench evaluate` runs on the profile "
            "embedded; for other profiles run `genebench benchmark --encoder`"
        )
    path = EMBEDDED_FOLDER / url.removeprefix(EMBEDDED)
    return read_source_file(path, source.files[name], source, source.version or "")
