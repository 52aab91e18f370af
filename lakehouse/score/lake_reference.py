"""Tasks of a lake as the reference of `genebench evaluate`, beside published scores."""

import polars as pl

from genebench.encoders.loader import LoaderInput
from genebench.entities.entity_catalogue import GENE
from genebench.errors import LakeError
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import BUNDLE_SCHEMA
from genebench.reference.packaged_reference import Reference
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.reference.published_scores import UNPAIRED, published_scores
from genebench.registry.registry import Registry
from lakehouse.curate.task_selection import superseded_tasks
from lakehouse.score.universes import prepare_universe
from lakehouse.tables.time_travel import Tables


def read_lake_reference(tables: Tables, registry: Registry, protocol: Protocol) -> Reference:
    """Read the tasks of genes from the silver tables of a lake, over all genes that they sample.

    Args:
        tables: A lake whose tasks are curated.
        registry: The declarations of its profile.
        protocol: The protocol by which vectors are scored.

    Raises:
        LakeError: The lake has no tasks of the profile, or lacks the protocol's hold-out groups.
    """
    profile = registry.profile.id
    of_profile = (pl.col("profile_id") == profile) & pl.col("parent_task_id").is_null()
    rows = tables.table("silver.tasks").filter(of_profile).collect()
    if not rows.height:
        raise LakeError(
            f"the lake {tables.delta.storage.root} has no tasks of the profile {profile}; its "
            "sources do not ship with genebench: run `genebench refresh` and `genebench curate` "
            f"with `--profile {profile}` first, in a lake of their own"
        )
    rows = rows.filter(~pl.col("task_id").is_in(list(superseded_tasks(tables.delta))))
    of_genes = pl.col("entity_type") == GENE
    samples = tables.table("silver.samples").collect()
    sampled = samples.filter(of_genes).select("entity_type", "entity_id").unique()
    left_out: dict[str, str] = {}
    universe = prepare_universe(
        (), sampled, rows, samples, tables.table("silver.labels").collect(), protocol, left_out
    )
    entity_ids = universe.entity_ids
    entities = tables.table("silver.entities").filter(of_genes).collect()
    xrefs = tables.table("silver.xrefs").filter(of_genes).collect()
    known = entities["entity_id"].to_list()
    packaged = UniverseTasks(
        entities.filter(pl.col("entity_id").is_in(entity_ids.implode())),
        LoaderInput(GENE, entity_ids.to_list(), xrefs=xrefs, known_ids=known),
        entity_ids,
        universe.prepared,
        dict(rows.select("task_id", "title").iter_rows()),
        left_out,
    )
    kinds = {task_id: task.kind for task_id, task in universe.prepared.items()}
    no_bundle = pl.DataFrame(schema=BUNDLE_SCHEMA)
    published = published_scores(registry, kinds)
    return Reference(profile, protocol, packaged, no_bundle, published, (UNPAIRED,))
