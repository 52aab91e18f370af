"""The context of a flow run: settings, declarations, lake and commit metadata."""

import functools
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import prefect.runtime

from flows.run.parameters import choose
from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderContext
from genebench.errors import LakeError
from genebench.registry.loading import load_registry
from genebench.registry.registry import Registry
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
        run_id: The id of the flow run. Every row and commit that it writes carries it.
    """

    settings: Settings
    registry: Registry
    lake: Lake
    run_id: str

    @property
    def loader_context(self) -> LoaderContext:
        """The folders of weights and source files, and the device that encoders run on."""
        sources = self.settings.sources
        is_folder = sources is not None and "://" not in sources
        return LoaderContext(
            self.settings.weights,
            Path(sources) if is_folder and sources else None,
            self.settings.device,
        )

    def commit(self, inputs: Mapping[str, str | int] | None = None, **extra: str) -> Commit:
        """Return the metadata of a commit of this run.

        Args:
            inputs: What the rows are made from: table to version, or source file to snapshot id.
            **extra: More metadata keys with their values.
        """
        return Commit(
            flow_run=self.run_id,
            code=code_version(),
            inputs=dict(inputs or {}),
            profile=self.registry.profile.id,
            extra=extra,
        )

    def choose_encoders(
        self, patterns: Sequence[str], files: tuple[str, ...] = ()
    ) -> list[Encoder]:
        """Select encoders by id or glob, each after its base encoders.

        User encoders are always included. Without patterns, all encoders of the profile are
        selected, or only the user encoders if `files` names some.

        Raises:
            RegistryError: A pattern matches no encoder. The message suggests similar ids.
        """
        chosen = self.registry.select_encoders(list(patterns)) if patterns or not files else []
        user_encoders = [
            name for name in self.registry.encoders if name in self.registry.user_encoders
        ]
        ordered: dict[str, Encoder] = {}

        def add(encoder_id: str) -> None:
            encoder = self.registry.encoders[encoder_id]
            for base in encoder.bases():
                add(base)
            ordered[encoder_id] = encoder

        for encoder_id in [*chosen, *user_encoders]:
            add(encoder_id)
        return list(ordered.values())


def open_context(
    profile: str | None = None,
    encoder_files: tuple[str, ...] = (),
    task_paths: tuple[str, ...] = (),
    versions: Mapping[str, str] | None = None,
    lake_root: str | None = None,
) -> Context:
    """Load settings and declarations, and open the lake.

    Args:
        profile: The profile. Default: the setting `GENEBENCH_PROFILE`.
        encoder_files: User encoders (YAML files), added to the registry's.
        task_paths: User tasks (folders or YAML files), added to the registry's and the setting's.
        versions: Source or source file to its version. Overrides the setting `GENEBENCH_VERSIONS`.
        lake_root: The root of the flow run's lake. A task run passes it, because its worker may
            have other settings.

    Raises:
        RegistryError: A declaration is wrong.
        LakeError: The lake cannot be opened, serves another profile, or differs from `lake_root`.
    """
    settings = get_settings()
    registry = load_registry(
        choose(profile, settings.profile),
        encoder_files=encoder_files,
        task_paths=[*settings.own_tasks, *(Path(name) for name in task_paths)],
        versions={**settings.versions, **(versions or {})},
    )
    lake = open_lake()
    if lake_root not in (None, lake.delta.storage.root):
        raise LakeError(
            f"the lake of this worker is {lake.delta.storage.root}, but the lake of the flow run "
            f"is {lake_root}; set GENEBENCH_LAKE of the worker to the lake of the flow run, in a "
            "folder or object store that both can reach"
        )
    _refuse_other_profile(lake, registry.profile.id)
    run_id = prefect.runtime.flow_run.id or "no-run"
    return Context(settings, registry, lake, run_id)


def _refuse_other_profile(lake: Lake, profile: str) -> None:
    found = lake.profile()
    if found and found != profile:
        raise LakeError(
            f"the lake {lake.delta.storage.root} serves the profile {found!r}, not {profile!r}: a "
            "lake has one gene catalogue; set GENEBENCH_LAKE to another folder, or set "
            f"GENEBENCH_PROFILE={found}"
        )


@functools.cache
def code_version() -> str:
    """The version of genebench; in a git checkout of genebench, followed by the commit.

    Without git, or where genebench is installed inside another repository, the version alone.
    """
    number = version("genebench-lakehouse")
    git, root = shutil.which("git"), Path(__file__).parents[2]
    if git is None or not (root / ".git").exists():
        return number
    done = subprocess.run(
        [git, "describe", "--always", "--dirty", "--exclude", "*"],
        cwd=root,
        capture_output=True,
        text=True,
        check=False,
    )
    commit = done.stdout.strip()
    return f"{number}+{commit}" if done.returncode == 0 and commit else number
