"""The pydantic model of an encoder's declaration, one YAML file for each encoder.

All fields except `id`, `runtime` and the descriptive ones decide the vectors and enter the
encoder's digest; `runtime` decides only the speed. Checking the arguments of a loader imports the
loader's module, but no model library.
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
from genebench.encoders.templates import MissingRule, list_templates, template_fields
from genebench.tasks.declaration import Family

Modality = Literal["text", "expression", "dna", "protein", "classical", "control"]
Slug = Annotated[str, Field(pattern=r"^[a-z0-9]+(_[a-z0-9]+)*$")]
HUB_MODEL = re.compile(r"^[A-Za-z0-9][\w.-]*/[\w.-]+$")
COMMIT = re.compile(r"^[0-9a-f]{40}$")


class _FrozenModel(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)


class WeightFile(_FrozenModel):
    """A file that a loader reads, stored as `<weights>/<encoder id>/<name>`.

    Args:
        name: File name, or an absolute path.
        url: Download address; the error for a missing file shows the command that downloads it.
            `embedded:<path>` is a file that is part of genebench.
        sha256: SHA-256 of the published file; a file with another hash is refused.
    """

    name: str
    url: str | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None


class Runtime(_FrozenModel):
    """Device, batch size and memory settings; they decide only the speed and enter no digest.

    Args:
        device: `auto` uses a GPU if there is one. The setting `device` overrides it.
        tokens: Tokens per batch, padding included; None uses the default of the device.
        keeps_memory: Make the C library keep freed memory (on Linux), which saves page faults.
    """

    device: str = "auto"
    tokens: Annotated[int, Field(gt=0)] | None = None
    keeps_memory: bool = True


class Encoder(_FrozenModel):
    """The declaration of an encoder.

    Args:
        id: Slug; never changes.
        title: Name shown in the leaderboard.
        modality: Kind of data that the vectors come from; `control` marks an encoder whose
            result is known in advance.
        loader: Name of the loader that computes the vectors; see `LOADERS`.
        model: A Hugging Face id (`org/name`), `package:<module>`, or a path to a file or folder.
        revision: The 40-digit commit of the Hugging Face model, or the version of the package.
        template: Text of an entity, with fields such as `{symbol}`. A list gives several
            templates, richest first; the first one whose fields all occur in the inputs is used.
            A mapping gives templates by entity type.
        missing: Rule for an entity that lacks a field. `skip`: it gets no text. `partial`: the
            field becomes `No available <field>`, as in the published package. A mapping gives the
            rule by entity type.
        field: Kind of sequence to read if an entity has several (`cdna`, `genomic`).
        entities: Entity types that the encoder covers.
        dimension: Width of the vectors; None if the data decide it.
        parameters: Number of parameters of the model.
        files: Weight files by role, for loaders that read such files.
        base: Encoders whose vectors it reads: one id, a list, or a mapping by entity type.
        arguments: Arguments of the loader, declared as `with:`.
        needs_gpu: Whether the model is too slow for a CPU.
        probe: Probe that always scores this encoder, instead of the requested one; for controls
            whose score does not depend on vectors.
        families: Families of tasks that the encoder is scored on; all if empty. For controls that
            say nothing of other tasks, and for texts of the past.
        trained: Month after which no text or data entered the weights, as `2020-08`, or the best
            date known for it, such as that of the publication; a comment names its source.
        runtime: Device and batch size.
    """

    id: Annotated[Slug, Field(max_length=100)]
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
    families: tuple[Family, ...] = ()
    trained: Annotated[str, Field(pattern=r"^\d{4}-\d{2}$")] | None = None
    runtime: Runtime = Runtime()

    @field_validator("loader")
    @classmethod
    def _check_loader(cls, loader: str) -> str:
        if loader not in LOADERS:
            raise ValueError(f"unknown loader {loader!r}{suggest_loader(loader)}")
        return loader

    @model_validator(mode="after")
    def _check_against_loader(self) -> Self:
        entry = self.entry
        for name in entry.needs:
            if not getattr(self, name):
                raise ValueError(f"loader {self.loader!r} needs {name!r} in the declaration")
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
                f"loader {self.loader!r} reads no file {unused[0]!r}; it reads these: {takes}"
            )
        self._check_entity_types()
        if self.is_hub_model and not COMMIT.match(self.revision or ""):
            raise ValueError(
                f"model {self.model!r} is on Hugging Face: set `revision` to its 40-digit commit"
            )
        parse_arguments(self)
        return self

    def _check_entity_types(self) -> None:
        for template in self._templates():
            template_fields(template)
        for name in ("template", "missing"):
            value = getattr(self, name)
            if isinstance(value, dict) and (extra := set(value) - set(self.entities)):
                raise ValueError(
                    f"{name} for {min(extra)!r}, which is not in entities; add it there"
                )
        if isinstance(self.base, dict) and set(self.base) != set(self.entities):
            raise ValueError("base by entity type must name exactly the types in entities")

    def _templates(self) -> list[str]:
        return list_templates(self.template or ())

    @property
    def entry(self) -> LoaderEntry:
        """The catalogue entry of the loader, available without importing the loader."""
        return LOADERS[self.loader]

    @property
    def reads(self) -> str:
        """What the loader reads of an entity; see `Reads` for the values."""
        return self.entry.reads

    @property
    def is_fitted(self) -> bool:
        """Whether a vector also depends on the other entities; a change then encodes all again."""
        return self.entry.is_fitted

    @property
    def is_hub_model(self) -> bool:
        """Whether `model` is a Hugging Face id, not a package or a path."""
        return self.model is not None and self.loader != "precomputed" and is_hub_id(self.model)

    @property
    def is_control(self) -> bool:
        """Whether the result of the encoder is known in advance."""
        return self.modality == "control"

    @property
    def fields(self) -> list[str]:
        """The text fields of its templates, or the kind of sequence; empty: all sequences."""
        named = {name for template in self._templates() for name in template_fields(template)}
        return sorted(named) or ([self.field] if self.field else [])

    def bases(self, entity_type: str | None = None) -> tuple[str, ...]:
        """Return the ids of the encoders whose vectors it reads, for one entity type or for all."""
        if self.base is None:
            return ()
        if isinstance(self.base, str):
            return (self.base,)
        if isinstance(self.base, dict):
            return (self.base[entity_type],) if entity_type else tuple(self.base.values())
        return self.base

    def templates(self, entity_type: str) -> tuple[str, ...]:
        """Return the templates of an entity type, richest first; () if there is none."""
        value = self.template
        if isinstance(value, dict):
            value = value.get(entity_type)
        if value is None:
            return ()
        return (value,) if isinstance(value, str) else value

    def missing_rule(self, entity_type: str) -> MissingRule:
        """Return the rule for missing fields of an entity type; `skip` if none is declared."""
        if isinstance(self.missing, dict):
            return self.missing.get(entity_type, "skip")
        return self.missing


class Arguments(_FrozenModel):
    """Base class of the arguments of a loader; a loader with arguments has a subclass."""


def suggest_nearest(name: str, known: Iterable[str]) -> str:
    """Return `, did you mean '<name>'?` for a misspelt name, or '' if no known name is similar."""
    near = difflib.get_close_matches(name, list(known), n=1)
    return f", did you mean {near[0]!r}?" if near else ""


def is_hub_id(model: str) -> bool:
    """Whether a model name is a Hugging Face id, not a package or a path."""
    return bool(HUB_MODEL.match(model)) and not model.startswith(("./", "../"))


class HasArguments(Protocol):
    """A loader class, reduced to the class of its arguments."""

    Arguments: ClassVar[type[Arguments]]


def loader_class(name: str) -> type[HasArguments]:
    """Import the module of a loader and return its class; imports no model library."""
    entry = LOADERS[name]
    found: type[HasArguments] = getattr(importlib.import_module(entry.module), entry.name)
    return found


def parse_arguments(encoder: Encoder) -> Arguments:
    """Validate `with:` of a declaration against the arguments of its loader.

    Raises:
        ValueError: An argument is unknown or has a wrong value; the message lists all mistakes.
    """
    try:
        return loader_class(encoder.loader).Arguments.model_validate(encoder.arguments)
    except ValidationError as error:
        mistakes = "; ".join(
            f"with.{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()
        )
        raise ValueError(f"loader {encoder.loader!r}: {mistakes}") from None


def resolve_relative_paths(entry: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Return the entry with relative paths (`./x`, `../x`) resolved against the file's folder."""

    def resolved(value: Any) -> Any:
        if isinstance(value, str) and value.startswith(("./", "../")):
            return str((folder / value).resolve())
        return value

    files = entry.get("files")
    if isinstance(files, dict):
        files = {
            role: {**file, "name": resolved(file.get("name"))} if isinstance(file, dict) else file
            for role, file in files.items()
        }
    changed = {"model": resolved(entry.get("model")), "files": files}
    return entry | {key: value for key, value in changed.items() if key in entry}


def describe_mistakes(file_name: str, error: ValidationError) -> list[str]:
    """Return one line per mistake of a declaration: file, key, what is wrong, a suggestion."""
    known = [field.alias or key for key, field in Encoder.model_fields.items()]
    lines = []
    for mistake in error.errors():
        where = ".".join(map(str, mistake["loc"]))
        message = mistake["msg"].removeprefix("Value error, ")
        if mistake["type"] == "extra_forbidden" and len(mistake["loc"]) == 1:
            message = f"unknown key{suggest_nearest(where, known)}"
        lines.append(f"{file_name}: {where}: {message}" if where else f"{file_name}: {message}")
    return lines
