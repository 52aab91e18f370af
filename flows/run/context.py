"""What every flow run needs: settings, declarations, the lake, and what its commits say."""

import functools
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import prefect.runtime

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderContext
from genebench.errors import LakeError
from genebench.registry.loading import Registry, load_registry
from genebench.settings import Settings, get_settings
from lakehouse import open_lake
from lakehouse.query.lake import Lake
from lakehouse.tables.commits import Commit


@dataclass(frozen=True)
class Context:
    """Settings, declarations and lake of one flow run.

    Attributes:
        settings: All settings.
        registry: The declarations of the profile.
        lake: The tables.
        run_id: Id of the flow run; in every row and commit that it writes.
    """

    settings: Settings
    registry: Registry
    lake: Lake
    run_id: str

    @property
    def place(self) -> LoaderContext:
        """Where weights and vectors of other people are, and what to run on."""
        sources = self.settings.sources
        is_folder = sources is not None and "://" not in sources
        return LoaderContext(
            self.settings.weights,
            Path(sources) if is_folder and sources else None,
            self.settings.device,
        )

    def commit(self, inputs: dict[str, str | int] | None = None, **extra: str) -> Commit:
        """What a commit of this run says of itself."""
        return Commit(
            flow_run=self.run_id,
            code=code_version(),
            inputs=inputs or {},
            profile=self.registry.profile.id,
            extra=extra,
        )

    def choose_encoders(self, patterns: list[str], files: tuple[str, ...] = ()) -> list[Encoder]:
        """Encoders by glob, after those that they are made from; the user's own come along.

        Raises:
            RegistryError: A pattern matches none; suggests what is near.
        """
        chosen = self.registry.select_encoders(patterns) if patterns or not files else []
        own = [name for name in self.registry.encoders if name in self.registry.own_encoders]
        ordered: dict[str, Encoder] = {}

        def add(encoder_id: str) -> None:
            encoder = self.registry.encoders[encoder_id]
            for base in encoder.bases():
                add(base)
            ordered[encoder_id] = encoder

        for encoder_id in [*chosen, *own]:
            add(encoder_id)
        return list(ordered.values())


def open_context(
    profile: str | None = None,
    encoder_files: tuple[str, ...] = (),
    task_paths: tuple[str, ...] = (),
    versions: Mapping[str, str] | None = None,
    lake_root: str | None = None,
) -> Context:
    """Open what a flow run works with.

    Args:
        profile: The profile; the setting `GENEBENCH_PROFILE` by default.
        encoder_files: Encoder declarations of the user's own, beside the registry's.
        task_paths: Tasks of the user's own, beside the registry's and the setting's.
        versions: Source or source file to the version wanted; goes before the setting's.
        lake_root: Where the flow run's lake is, told to a task run that may run elsewhere.

    Raises:
        RegistryError: A declaration is wrong.
        LakeError: The lake cannot be opened, serves another profile, or is not the flow run's.
    """
    settings = get_settings()
    registry = load_registry(
        profile or settings.profile,
        encoder_files=encoder_files,
        task_paths=[*settings.own_tasks, *(Path(name) for name in task_paths)],
        versions={**settings.versions, **(versions or {})},
    )
    lake = open_lake()
    if lake_root not in (None, lake.delta.storage.root):
        raise LakeError(
            f"this worker's lake is {lake.delta.storage.root}, the flow run's is {lake_root}; give "
            "the worker the same GENEBENCH_LAKE, and a folder or store that both can reach"
        )
    _refuse_other_profile(lake, registry.profile.id)
    run_id = prefect.runtime.flow_run.id or "no-run"
    return Context(settings, registry, lake, run_id)


def _refuse_other_profile(lake: Lake, profile: str) -> None:
    found = lake.profile()
    if found and found != profile:
        raise LakeError(
            f"the lake {lake.delta.storage.root} serves the profile {found!r}, not {profile!r}: a "
            "lake has one gene catalogue; set GENEBENCH_LAKE to another folder, or "
            f"GENEBENCH_PROFILE={found}"
        )


@functools.cache
def code_version() -> str:
    """The version of genebench, with the commit where it runs from a checkout."""
    here = Path(__file__).parent
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=here,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = done.stdout.strip()
    number = version("genebench")
    return f"{number}+{commit}" if done.returncode == 0 and commit else number
