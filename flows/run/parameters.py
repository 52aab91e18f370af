"""Types of flow parameters: forms of Prefect 3.8.8 read choices from JSON schemas only.

A choice is an `enum` of the parameter's JSON schema, so only the Prefect server enforces it. A
direct call, such as the command line's, may pass globs and user files; there the registry refuses
an unknown id and suggests similar ones.
"""

from typing import Annotated, Any, get_args

from pydantic import Field, JsonValue
from pydantic.json_schema import SkipJsonSchema

from genebench.encoders.identifier_inference import GENE_NAMESPACES
from genebench.reference.packaged_reference import PROFILE
from genebench.registry.loading import declarations_folder, load_registry, profile_ids
from genebench.registry.yaml_reader import read_yaml
from genebench.tasks.declaration import Family
from lakehouse.score.plan import CURRENT, RELEASE_NAME
from lakehouse.score.universes import UNIVERSES


def _ids(folder: str) -> list[str]:
    """The ids declared in a folder: the names of its YAML files."""
    paths = sorted(declarations_folder(folder).glob("*.yaml"))
    return [path.stem for path in paths if not path.name.endswith(".lock.yaml")]


def _sources() -> list[str]:
    """The sources, each followed by its files."""
    names: list[str] = []
    for source in _ids("sources"):
        entry, _ = read_yaml(declarations_folder("sources") / f"{source}.yaml")
        files = entry.get("files")
        names += [source, *(f"{source}.{file}" for file in files or {})]
    return names


def _choice(ids: list[str]) -> Any:
    values: list[JsonValue] = [*ids]
    return Field(json_schema_extra={"enum": values})


def _tasks() -> list[str]:
    """The declared tasks of all profiles."""
    return sorted({name for profile in profile_ids() for name in load_registry(profile).tasks})


# The choice of what the settings of the worker say.
SETTING = "default"
ProfileId = Annotated[str, _choice([SETTING, *profile_ids()])]
ProtocolId = Annotated[str, _choice([SETTING, *_ids("protocols")])]
EncoderId = Annotated[str, _choice(_ids("encoders"))]
FamilyId = Annotated[str, _choice(list(get_args(Family)))]
ProbeId = Annotated[str, _choice(_ids("probes"))]
SourceId = Annotated[str, _choice(_sources())]
UniverseId = Annotated[str, _choice(list(UNIVERSES))]
TaskId = Annotated[str, _choice(_tasks())]
TaskPattern = Annotated[
    str, Field(pattern=r"^[a-z0-9_*?\[\]-]+$", examples=["chromosome", "rna_*"], max_length=200)
]
ReleaseId = Annotated[str, Field(pattern=r"^([A-Za-z0-9][A-Za-z0-9._-]*)?$", max_length=100)]
# The name of a new release. Pydantic's patterns have no lookahead, so only the server enforces it;
# a direct call is refused by `lakehouse.score.plan.require_release_name`.
NewReleaseId = Annotated[
    str,
    Field(
        max_length=100,
        examples=["2026.1"],
        json_schema_extra={"pattern": rf"^(?!{CURRENT}){RELEASE_NAME}$"},
    ),
]
CsvForm = Annotated[str, _choice(["long", "report", "leaderboard"])]
DeploymentName = Annotated[
    str, Field(pattern=r"^([^/]+/[^/]+)?$", examples=["embed/embed"], max_length=200)
]
EmbeddingName = Annotated[str, Field(max_length=100, examples=["my_model"])]
NamespaceId = Annotated[str, _choice(["auto", *GENE_NAMESPACES])]
ReferenceTaskId = Annotated[str, _choice(sorted(load_registry(PROFILE).tasks))]
RivalId = Annotated[str, _choice([*load_registry(PROFILE).profile.encoders])]
VectorsAddress = Annotated[
    str, Field(min_length=1, max_length=2000, examples=["vectors.csv", "https://example.org/v.npz"])
]
FilePath = Annotated[str, Field(min_length=1, max_length=1000)]
OptionalPath = Annotated[str, Field(max_length=1000)]
Version = Annotated[str, Field(max_length=100, examples=["23.0"])]

# The Prefect UI shows None in a JSON schema as a type of its own, so it is hidden (`Unset`): a form
# sends an empty list or text where nothing was entered; a direct call may pass None.
Unset = SkipJsonSchema[None]
NO_SELECTION: list[str] = []


def choose(value: str | None, setting: str) -> str:
    """Return the value of a parameter, or the setting if the parameter leaves the choice to it."""
    return setting if value in (None, "", SETTING) else str(value)
