"""The types of the flows' parameters: what a form offers, with help, and what an API refuses.

A choice is told to Prefect's server and its UI as a list of words. A direct call, such as the
command line's, is not held to it: there the registry itself refuses an unknown word and suggests
the nearest, and globs and files of the user's own are welcome.
"""

from typing import Annotated, Any, get_args

from pydantic import Field
from pydantic.json_schema import SkipJsonSchema

from genebench.registry.loading import declarations_folder, profile_ids
from genebench.registry.yaml_reader import read_yaml
from genebench.tasks.declaration import Family
from lakehouse.score.universes import UNIVERSES


def _ids(folder: str) -> list[str]:
    """The ids declared in a folder: its file names."""
    paths = sorted(declarations_folder(folder).glob("*.yaml"))
    return [path.stem for path in paths if not path.name.endswith(".lock.yaml")]


def _sources() -> list[str]:
    """Sources, each followed by its files."""
    names: list[str] = []
    for source in _ids("sources"):
        entry, _ = read_yaml(declarations_folder("sources") / f"{source}.yaml")
        files = entry.get("files")
        names += [source, *(f"{source}.{file}" for file in files or {})]
    return names


def _choice(words: list[str], **more: Any) -> Any:
    return Field(json_schema_extra={"enum": words, **more})


ProfileId = Annotated[str, _choice(profile_ids())]
ProtocolId = Annotated[str, _choice(_ids("protocols"))]
EncoderId = Annotated[str, _choice(_ids("encoders"))]
FamilyId = Annotated[str, _choice(list(get_args(Family)))]
ProbeId = Annotated[str, _choice(_ids("probes"))]
SourceId = Annotated[str, _choice(_sources())]
UniverseId = Annotated[str, _choice(list(UNIVERSES))]
TaskPattern = Annotated[
    str, Field(pattern=r"^[a-z0-9_*?\[\]-]+$", examples=["chromosome", "rna_*"], max_length=200)
]
ReleaseId = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", max_length=100)]
CsvForm = Annotated[str, _choice(["long", "report", "leaderboard"])]
FilePath = Annotated[str, Field(min_length=1, max_length=1000)]

# A form offers an empty choice for a list that may be left out, and sends it as an empty list; a
# direct call may say None. A single value that is left out stays None to both: a form that hides
# the None would send it all the same, and be refused.
Unset = SkipJsonSchema[None]
UNCHOSEN: list[str] = []
