"""What a declaration of a source may say: where its files come from and how they are read."""

import re
from pathlib import Path
from typing import Annotated, Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    HttpUrl,
    StringConstraints,
    TypeAdapter,
    field_validator,
    model_validator,
)

from genebench.digest import digest_json

# Raised when the same bytes and declarations would be read as other rows.
READING = 1

EMBEDDED = "embedded:"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

SHAPES = (
    "tsv",
    "csv",
    "pairs",
    "json",
    "jsonl",
    "parquet",
    "fasta",
    "xlsx",
    "gmt",
    "pickle",
)
CONTAINERS = ("gz", "zip")

OPTIONS_OF_ALL = {
    "aliases",
    "also",
    "max_unpacked_bytes",
    "member",
    "missing",
    "parts",
    "where",
}
OPTIONS_OF_SHAPE = {
    "tsv": {"encoding", "header", "quotes"},
    "csv": {"encoding", "header", "quotes"},
    "pairs": {"encoding", "header"},
    "json": {"explode", "fields", "rows"},
    "jsonl": {"explode", "fields"},
    "parquet": set[str](),
    "fasta": {"fields"},
    "xlsx": {"sheet"},
    "gmt": {"header"},
    "pickle": {"header"},
}

Slug = Annotated[str, StringConstraints(pattern=r"^[a-z0-9_]+$")]


class Discovery(BaseModel):
    """A page that names the newest version, and the pattern whose first group reads it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    page: str
    pattern: str

    @field_validator("pattern")
    @classmethod
    def _has_one_group(cls, pattern: str) -> str:
        try:
            n_groups = re.compile(pattern).groups
        except re.error as fault:
            raise ValueError(f"not a regular expression: {fault}") from fault
        if n_groups != 1:
            raise ValueError(f"needs exactly one group, around the version; it has {n_groups}")
        return pattern

    def find_versions(self, text: str) -> list[str]:
        """List the versions that a page names, each once, the last in natural order last."""
        return sorted(set(re.findall(self.pattern, text)), key=version_order)


class SourceFile(BaseModel):
    """One file of a source.

    Attributes:
        url: Where it is; `{version}` and `{major}` (the part before the first dot) are filled in.
            `embedded:<file name>` is a file that the package carries. An address that ends in `/`
            is a folder whose files matching `options.parts` make one table.
        format: The shape, and the container it usually comes in: `tsv.zip`, `csv`, `json.gz`.
            Containers are recognised by their bytes, so a mirror may hold another one.
        key: Columns that together name a row.
        columns: Columns without which the file cannot be read.
        options: How to read it; `genebench/sources/readers/dispatch.py` explains each.
        max_bytes: A delivery larger than this is refused.
        companions: Further files read beside this one, by role: `labels` of a file of pairs.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    url: str
    format: str
    key: list[str] = []
    columns: list[str] = []
    options: dict[str, Any] = {}
    max_bytes: int = Field(default=500_000_000, gt=0)
    companions: dict[Slug, str] = {}

    @property
    def shape(self) -> str:
        """The format without its container: `tsv` of `tsv.zip`."""
        return self.format.split(".")[0]

    def reading(self) -> str:
        """Digest of what decides the rows that bytes are read as, other than the bytes."""
        decides = {"format", "columns", "options", "companions"}
        return digest_json([READING, self.model_dump(mode="json", include=decides)])

    @property
    def is_embedded(self) -> bool:
        """Whether the package itself carries the file."""
        return self.url.startswith(EMBEDDED)

    @property
    def is_versioned(self) -> bool:
        """Whether the address names the version; if not it serves the newest under one name."""
        return "{version}" in self.url or "{major}" in self.url

    def url_for(self, version: str, role: str | None = None) -> str:
        """The address of one version of the file, or of its companion in a role."""
        template = self.url if role is None else self.companions[role]
        return template.replace("{version}", version).replace(
            "{major}", version.split(".", maxsplit=1)[0]
        )

    @field_validator("url")
    @classmethod
    def _can_be_fetched(cls, url: str) -> str:
        return _checked_url(url)

    @field_validator("companions")
    @classmethod
    def _companions_can_be_fetched(cls, companions: dict[str, str]) -> dict[str, str]:
        return {role: _checked_url(url) for role, url in companions.items()}

    @field_validator("format")
    @classmethod
    def _is_known(cls, value: str) -> str:
        shape, *containers = value.split(".")
        if shape not in SHAPES:
            raise ValueError(f"unknown format {shape!r}; known are {', '.join(SHAPES)}")
        if unknown := [name for name in containers if name not in CONTAINERS]:
            raise ValueError(f"unknown container {unknown[0]!r}; known are {', '.join(CONTAINERS)}")
        return value

    @model_validator(mode="after")
    def _options_fit_the_format(self) -> "SourceFile":
        shapes = [self.shape, *self.options.get("also", [])]
        if unknown := [shape for shape in shapes if shape not in SHAPES]:
            raise ValueError(f"options: also: unknown format {unknown[0]!r}")
        known = OPTIONS_OF_ALL.union(*(OPTIONS_OF_SHAPE[shape] for shape in shapes))
        if surplus := sorted(set(self.options) - known):
            raise ValueError(
                f"options: {surplus[0]!r} is not an option of {self.format}; "
                f"known are {', '.join(sorted(known))}"
            )
        if self.shape == "json" and "fields" not in self.options:
            raise ValueError("options: a json file needs 'fields', the path of each column")
        return self


class Source(BaseModel):
    """A database or publication that is read, with the licence and citation its owner states."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Slug
    title: str
    license: str
    cite: Slug
    homepage: str
    version: str
    discover: Discovery | None = None
    files: dict[Slug, SourceFile]

    def name_of(self, file: SourceFile) -> str:
        """The name under which one of its files is declared."""
        return next(
            (name for name, declared in self.files.items() if declared == file),
            "(undeclared)",
        )

    def table_of(self, file_name: str) -> str:
        """The bronze table of a file, without its layer: `hpa_proteinatlas`."""
        return f"{self.id}_{file_name}"


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key under which 9 comes before 10, and 23.0 before 23.0-composite."""
    parts = re.findall(r"\d+|[^\d._-]+", version)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)


def embedded_path(file: SourceFile) -> Path:
    """The path of a file that the package carries."""
    return EMBEDDED_FOLDER / file.url.removeprefix(EMBEDDED)


def _checked_url(url: str) -> str:
    if url.startswith(EMBEDDED):
        name = url.removeprefix(EMBEDDED)
        if not (EMBEDDED_FOLDER / name).is_file() or Path(name).name != name:
            raise ValueError(f"the package carries no file {name!r}")
        return url
    filled = url.replace("{version}", "1").replace("{major}", "1")
    if left := re.search(r"{\w*}", filled):
        raise ValueError(f"unknown placeholder {left[0]}; known are {{version}} and {{major}}")
    if not url.startswith("ftp://"):
        TypeAdapter(HttpUrl).validate_python(filled)
    return url
