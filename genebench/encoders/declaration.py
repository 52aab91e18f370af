"""What an encoder may say: the paper's Table 3 as data.

What decides an encoder's vectors is apart from what only decides the speed: `runtime` is in no
digest. A loader's module is imported to check its arguments; that imports no model library.
"""

import difflib
import importlib
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from genebench.encoders.loader_catalogue import LOADERS, LoaderEntry, suggest_loader
from genebench.encoders.templates import MissingRule, fields_of

Modality = Literal["text", "expression", "dna", "protein", "classical", "control"]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
HUB_MODEL = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")


class _Declared(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class WeightFile(_Declared):
    """One file that a loader reads, kept under `<weights>/<encoder id>/<name>`.

    Args:
        name: File name; an absolute path stands for itself (a user's own file).
        url: Where it can be had; the message about a missing file gives the command.
            `embedded:<name>` is a file that comes with genebench.
        sha256: Of the published bytes; a file with other bytes is refused.
    """

    name: str
    url: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Runtime(_Declared):
    """What only decides the speed; in no digest.

    Args:
        device: `auto` takes a GPU where there is one; the place's own setting goes before it.
        tokens: Tokens of one batch, padding included; None takes the device's default.
        keeps_memory: Tell the C library to keep freed blocks (on Linux), which saves page faults.
    """

    device: str = "auto"
    tokens: Annotated[int, Field(gt=0)] | None = None
    keeps_memory: bool = True


class Encoder(_Declared):
    """One declared encoder.

    Args:
        id: Slug; never changes.
        title: What the leaderboard shows.
        modality: What it was made from, for grouping; `control` marks a known result.
        loader: Which loader reads it; see `LOADERS`.
        model: A hub id (`org/name`), `package:<module>`, or a path to a file or folder.
        revision: The hub's 40-digit commit, or the package's version.
        template: The text of an entity; of a list, richest first, the first counts whose fields
            occur among the inputs at all; a mapping is by entity type.
        missing: `skip`: no text unless every field is there. `partial`: as the published
            package, `No available <field>` stands for an absent one. A mapping is by type.
        field: Which kind of sequence it reads where there are several (`cdna`, `genomic`).
        entities: Entity types it covers.
        dimension: Width of the vectors; None where the data decide it.
        files: Weight files by role, for the loaders that read files of their own.
        base: Other encoders it is made from: one id, a list, or a mapping by entity type.
        arguments: The loader's arguments, written `with:`.
        probe: The probe that reads it, whichever is asked for; for controls that see no vector.
        runtime: Device and batch size.
    """

    id: Slug
    title: str
    modality: Modality
    loader: str
    model: str | None = None
    revision: str | None = None
    template: str | tuple[str, ...] | dict[Slug, str | tuple[str, ...]] | None = None
    missing: MissingRule | dict[Slug, MissingRule] = "skip"
    field: Slug | None = None
    entities: tuple[Slug, ...] = ("gene",)
    dimension: Annotated[int, Field(gt=0)] | None = None
    parameters: Annotated[int, Field(ge=0)] | None = None
    license: str | None = None
    cite: str | None = None
    homepage: str | None = None
    description: str = ""
    files: dict[Slug, WeightFile] = Field(default_factory=dict)
    base: Slug | tuple[Slug, ...] | dict[Slug, Slug] | None = None
    arguments: dict[str, Any] = Field(default_factory=dict, alias="with")
    needs_gpu: bool = False
    probe: Slug | None = None
    runtime: Runtime = Runtime()

    @field_validator("loader")
    @classmethod
    def _loader_exists(cls, loader: str) -> str:
        if loader not in LOADERS:
            raise ValueError(f"unknown loader {loader!r}{suggest_loader(loader)}")
        return loader

    @model_validator(mode="after")
    def _fits_its_loader(self) -> Self:
        entry = self.entry
        for name in entry.needs:
            if not getattr(self, name):
                raise ValueError(f"loader {self.loader!r} needs {name!r}")
        if self.template is not None and entry.reads != "text":
            raise ValueError(f"loader {self.loader!r} reads {entry.reads}, so it takes no template")
        if self.field is not None and entry.reads not in ("dna", "protein"):
            raise ValueError(f"loader {self.loader!r} reads {entry.reads}, so it takes no field")
        if self.base is not None and "base" not in entry.needs:
            raise ValueError(f"loader {self.loader!r} takes no base")
        unused = sorted(set(self.files) - set(entry.files))
        if unused:
            takes = ", ".join(entry.files) or "none"
            raise ValueError(
                f"loader {self.loader!r} reads no file {unused[0]!r}; it reads {takes}"
            )
        self._check_types()
        if self.names_hub and not COMMIT.match(self.revision or ""):
            raise ValueError(
                f"model {self.model!r} is on the hub: revision must be its 40-digit commit"
            )
        parse_arguments(self)
        return self

    def _check_types(self) -> None:
        for template in self._templates():
            fields_of(template)
        for name in ("template", "missing"):
            value = getattr(self, name)
            if isinstance(value, dict) and (extra := set(value) - set(self.entities)):
                raise ValueError(f"{name} for {min(extra)!r}, which is not in entities")
        if isinstance(self.base, dict) and set(self.base) != set(self.entities):
            raise ValueError("base by entity type must name exactly the types in entities")

    def _templates(self) -> list[str]:
        value = self.template
        groups = list(value.values()) if isinstance(value, dict) else [value] if value else []
        return [t for group in groups for t in ((group,) if isinstance(group, str) else group)]

    @property
    def entry(self) -> LoaderEntry:
        """What is known of the loader without importing it."""
        return LOADERS[self.loader]

    @property
    def reads(self) -> str:
        """`text dna protein identifiers nothing vectors labels`: what it reads of an entity."""
        return self.entry.reads

    @property
    def is_fitted(self) -> bool:
        """Whether a vector depends on the other entities, so that a change encodes all again."""
        return self.entry.is_fitted

    @property
    def names_hub(self) -> bool:
        """Whether `model` is a hub id, rather than a package or a path."""
        return self.model is not None and self.loader != "precomputed" and is_hub(self.model)

    @property
    def is_control(self) -> bool:
        """Whether its result is known beforehand."""
        return self.modality == "control"

    def bases(self, entity_type: str | None = None) -> tuple[str, ...]:
        """Ids of the encoders whose vectors it reads, for one entity type or for all."""
        if self.base is None:
            return ()
        if isinstance(self.base, str):
            return (self.base,)
        if isinstance(self.base, dict):
            return (self.base[entity_type],) if entity_type else tuple(self.base.values())
        return self.base

    def templates(self, entity_type: str) -> tuple[str, ...]:
        """The templates of an entity type, richest first; () where there is none."""
        value = self.template
        if isinstance(value, dict):
            value = value.get(entity_type)
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    def missing_rule(self, entity_type: str) -> MissingRule:
        """The rule for missing fields of an entity type; `skip` where none is stated."""
        if isinstance(self.missing, dict):
            return self.missing.get(entity_type, "skip")
        return self.missing


class Arguments(_Declared):
    """A loader's own arguments; each loader with any declares a subclass."""


def describe_near(name: str, known: Iterable[str]) -> str:
    """A hint for an unknown name: the nearest known one, else nothing."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def is_hub(model: str) -> bool:
    """Whether a model name is a hub id rather than a package or a path."""
    return bool(HUB_MODEL.match(model)) and not model.startswith(("./", "../"))


class TakesArguments(Protocol):
    """What a loader class declares about its own arguments."""

    Arguments: ClassVar[type[Arguments]]


def loader_class(name: str) -> type[TakesArguments]:
    """Import the module of a loader and give its class; imports no model library."""
    entry = LOADERS[name]
    found: type[TakesArguments] = getattr(importlib.import_module(entry.module), entry.name)
    return found


def parse_arguments(encoder: Encoder) -> Arguments:
    """Check `with:` against the loader's own model.

    Raises:
        ValueError: An argument is unknown or has a wrong value; every mistake is named.
    """
    try:
        return loader_class(encoder.loader).Arguments.model_validate(encoder.arguments)
    except ValidationError as error:
        mistakes = "; ".join(
            f"with.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"loader {encoder.loader!r}: {mistakes}") from None


def anchor_paths(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """An entry whose relative paths (`./x`, `../x`) start at the folder of its file."""

    def anchored(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(("./", "../")):
            return str((folder / value).resolve())
        return value

    files = entry.get("files")
    if isinstance(files, dict):
        files = {
            role: {**file, "name": anchored(file.get("name"))} if isinstance(file, dict) else file
            for role, file in files.items()
        }
    changed = {"model": anchored(entry.get("model")), "files": files}
    return entry | {key: value for key, value in changed.items() if key in entry}


def describe_mistakes(name: str, error: ValidationError) -> list[str]:
    """One line for each mistake of a declaration: file, place, what is wrong, a suggestion."""
    known = [field.alias or key for key, field in Encoder.model_fields.items()]
    lines = []
    for mistake in error.errors():
        where = ".".join(map(str, mistake["loc"]))
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden" and len(mistake["loc"]) == 1:
            message = f"unknown key{describe_near(where, known)}"
        lines.append(f"{name}: {where}: {message}" if where else f"{name}: {message}")
    return lines
