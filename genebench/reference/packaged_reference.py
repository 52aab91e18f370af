"""The reference of `genebench evaluate`: tasks over one universe, and the rivals on them."""

import functools
import os
from collections.abc import Collection
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import polars as pl

from genebench.errors import GenebenchError
from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.reference.bundle import bundle_probe_digest, read_bundle, universe_digest
from genebench.reference.packaged_tasks import UniverseTasks, prepare_packaged_tasks
from genebench.registry.loading import load_registry
from genebench.settings import get_settings

PROFILE, PROTOCOL, PROBE = "embedded", "standard", "linear"
ENTITIES_FILE, BUNDLE_FILE = "embedded_entities.txt", "embedded.parquet"


def reference_folder() -> Path:
    """The folder of the reference release."""
    return Path(str(resources.files("genebench.reference") / "release"))


def read_reference_entities() -> pl.Series:
    """Read the sorted ids of the entities of the reference release.

    Raises:
        GenebenchError: The file is missing.
    """
    path = reference_folder() / ENTITIES_FILE
    try:
        return pl.Series("entity_id", path.read_text(encoding="utf-8").split())
    except OSError as error:
        raise GenebenchError(
            f"{path}: cannot be read ({error}); install genebench again"
        ) from error


@dataclass(frozen=True)
class Reference:
    """What new vectors are scored on and compared with.

    Attributes:
        profile: Id of the profile.
        protocol: The protocol.
        tasks: The tasks over one universe.
        bundle: Rivals with stored predictions: rows of a bundle, maybe none.
        published: Rivals of which scores alone are known: see `published_scores`; maybe none.
        notes: What a reader of the results has to know.
    """

    profile: str
    protocol: Protocol
    tasks: UniverseTasks
    bundle: pl.DataFrame
    published: pl.DataFrame | None = None
    notes: tuple[str, ...] = ()


def packaged_reference(task_ids: Collection[str] = ()) -> Reference:
    """The reference release that ships with the package, of some tasks or of all."""
    return Reference(
        PROFILE,
        load_registry(PROFILE).protocols[PROTOCOL],
        prepare_reference_tasks(task_ids),
        read_bundle(reference_folder() / BUNDLE_FILE),
    )


def prepare_reference_tasks(task_ids: Collection[str] = ()) -> UniverseTasks:
    """Prepare some tasks of the reference release, or all, once per process.

    Raises:
        GenebenchError: There is no such task.
    """
    return _prepare_reference_tasks(tuple(task_ids))


@functools.cache
def _prepare_reference_tasks(task_ids: tuple[str, ...]) -> UniverseTasks:
    registry = load_registry(PROFILE)
    return prepare_packaged_tasks(
        registry,
        registry.protocols[PROTOCOL],
        read_reference_entities(),
        task_ids,
        threads=get_settings().threads or os.cpu_count() or 1,
    )


def collect_rivals(
    reference: Reference, bundles: Collection[Path], against: Collection[str], probe: Probe
) -> pl.DataFrame:
    """Collect the rivals with stored predictions: of the reference, and of other bundles.

    Args:
        reference: The reference.
        bundles: Bundles of further rivals.
        against: Rivals to keep, with or without stored predictions. Default: all.
        probe: The probe of the new vectors.

    Returns:
        Rows of bundles.

    Raises:
        GenebenchError: A bundle is damaged or of other data or rules, or a rival is unknown.
    """
    parts = [reference.bundle]
    wanted = {
        "universe_digest": universe_digest(reference.tasks.entity_ids),
        "protocol_digest": reference.protocol.digest(),
        "probe_digest": bundle_probe_digest(probe),
    }
    for path in bundles:
        bundle = read_bundle(Path(path))
        for column, value in wanted.items():
            if (bundle[column] != value).any():
                raise GenebenchError(
                    f"{path}: was written with another {column.removesuffix('_digest')}, so its "
                    "scores cannot be compared; write it again with this version of genebench"
                )
        parts.append(bundle)
    rivals = pl.concat(parts)
    repeated = rivals.filter(rivals.select("encoder_id", "task_id").is_duplicated())
    if repeated.height:
        raise GenebenchError(
            f"two bundles have an encoder {repeated['encoder_id'][0]!r}; rename one with --name"
        )
    known = rivals["encoder_id"].unique().sort().to_list()
    if reference.published is not None:
        known += reference.published["encoder_id"].unique().sort().to_list()
    for rival in against:
        if rival not in known:
            raise GenebenchError(f"no rival {rival!r}; the rivals are {', '.join(known)}")
    return rivals.filter(pl.col("encoder_id").is_in(list(against))) if against else rivals
