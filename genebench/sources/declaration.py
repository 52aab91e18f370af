"""Declaration of a source: the addresses of its files, their formats and how to read them."""

import datetime as dt
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

# Increment it when the readers give different rows for the same bytes and declarations.
READER_REVISION = 1

EMBEDDED = "embedded:"
EMBEDDED_FOLDER = Path(__file__).parent / "embedded"

FORMATS = (
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
CONTAINERS = ("gz", "xz", "zip")

COMMON_OPTIONS = {
    "aliases",
    "also",
    "max_unpacked_bytes",
    "member",
    "missing",
    "parts",
    "where",
}
OPTIONS_OF_FORMAT = {
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
    """A page that names versions, and a pattern whose only group captures one."""

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
            raise ValueError(f"must have exactly one group, around the version; has {n_groups}")
        return pattern

    def find_versions(self, text: str) -> list[str]:
        """Return the distinct versions on a page, in natural order."""
        return sorted(set(re.findall(self.pattern, text)), key=version_order)


class SourceFile(BaseModel):
    """One file of a source.

    Attributes:
        url: Address; `{version}` and `{major}` (the part before the first dot) are substituted.
            `embedded:<release>/<file name>` is a file included in the package. An address that
            ends in `/` is a folder whose files matching `options.parts` make one table.
        format: Base format and usual container: `tsv.zip`, `csv`, `json.gz`. Containers are
            detected by their bytes, so a mirror may use another one.
        key: Columns that together identify a row.
        columns: Further required columns.
        options: How to read the file; documented in `genebench/sources/readers/dispatch.py`.
        max_bytes: Largest accepted size of the file.
        companions: Files read together with this one, by role: `labels` of a file of pairs.
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
    def base_format(self) -> str:
        """The format without its container: `tsv` of `tsv.zip`."""
        return self.format.split(".")[0]

    def parsing_digest(self) -> str:
        """Digest of everything except the bytes that determines the rows of the file."""
        relevant = {"format", "columns", "options", "companions"}
        return digest_json([READER_REVISION, self.model_dump(mode="json", include=relevant)])

    @property
    def is_embedded(self) -> bool:
        """Whether the file is included in the package."""
        return self.url.startswith(EMBEDDED)

    @property
    def is_versioned(self) -> bool:
        """Whether the address contains the version; if not, it always serves the newest."""
        return "{version}" in self.url or "{major}" in self.url

    def url_for(self, version: str, role: str | None = None) -> str:
        """Return the address of a version of the file, or of the companion with a role."""
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
        base_format, *containers = value.split(".")
        if base_format not in FORMATS:
            raise ValueError(f"unknown format {base_format!r}; known are {', '.join(FORMATS)}")
        if unknown := [name for name in containers if name not in CONTAINERS]:
            raise ValueError(f"unknown container {unknown[0]!r}; known are {', '.join(CONTAINERS)}")
        return value

    @model_validator(mode="after")
    def _options_fit_the_format(self) -> "SourceFile":
        formats = [self.base_format, *self.options.get("also", [])]
        if unknown := [name for name in formats if name not in FORMATS]:
            raise ValueError(f"options: also: unknown format {unknown[0]!r}")
        known = COMMON_OPTIONS.union(*(OPTIONS_OF_FORMAT[name] for name in formats))
        if surplus := sorted(set(self.options) - known):
            raise ValueError(
                f"options: {surplus[0]!r} is not an option of {self.format}; "
                f"known are {', '.join(sorted(known))}"
            )
        if self.base_format == "json" and "fields" not in self.options:
            raise ValueError("options: a json file needs 'fields', the path of each column")
        return self


class Source(BaseModel):
    """Declaration of a database or publication: licence, citation, version and files."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    id: Slug
    title: str
    license: str
    cite: Slug
    homepage: str
    version: str
    past_of: Slug | None = Field(
        default=None, description="the source of which this one is an earlier release"
    )
    discover: Discovery | None = None
    files: dict[Slug, SourceFile]
    fresh_within: dt.timedelta | None = Field(
        default=None, description="how old the source may become, as `120 days`; None: no limit"
    )
    version_days: dict[str, dt.date] = Field(
        default={}, description="version to its day, where neither it nor the server tells the day"
    )

    @field_validator("fresh_within", mode="before")
    @classmethod
    def _is_number_of_days(cls, value: Any) -> Any:
        if value is None or isinstance(value, dt.timedelta):
            return value
        found = re.fullmatch(r"([1-9]\d{0,4}) days?", str(value))
        if found is None:
            raise ValueError(f"{value!r} is not a number of days; write it as `120 days`")
        return dt.timedelta(days=int(found[1]))

    def release_day(self, version: str) -> dt.date | None:
        """Return the day of a version's release: declared, or the version itself; else None.

        A version of a year and a month, such as 2024-10, counts from the first of the month.
        """
        if version in self.version_days:
            return self.version_days[version]
        found = re.fullmatch(r"(\d{4})-(\d\d)(?:-(\d\d))?", version)
        if found is None:
            return None
        try:
            return dt.date(int(found[1]), int(found[2]), int(found[3] or 1))
        except ValueError:
            return None

    def name_of(self, file: SourceFile) -> str:
        """Return the name under which a file is declared."""
        return next(
            (name for name, declared in self.files.items() if declared == file),
            "(undeclared)",
        )

    def table_of(self, file_name: str) -> str:
        """Return the name of a file's bronze table, without the layer: `hpa_proteinatlas`."""
        return f"{self.id}_{file_name}"


def version_order(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a natural sort key: 9 sorts before 10, and 23.0 before 23.0-composite."""
    parts = re.findall(r"\d+|[^\d._-]+", version)
    return tuple((0, int(p), "") if p.isdigit() else (1, 0, p) for p in parts)


def embedded_path(file: SourceFile) -> Path:
    """Return the path of a file included in the package."""
    return EMBEDDED_FOLDER / file.url.removeprefix(EMBEDDED)


def _checked_url(url: str) -> str:
    if url.startswith(EMBEDDED):
        name = url.removeprefix(EMBEDDED)
        path = (EMBEDDED_FOLDER / name).resolve()
        if not path.is_file() or EMBEDDED_FOLDER.resolve() not in path.parents:
            raise ValueError(f"the package includes no file {name!r}")
        return url
    filled = url.replace("{version}", "1").replace("{major}", "1")
    if left := re.search(r"{\w*}", filled):
        raise ValueError(f"unknown placeholder {left[0]}; known are {{version}} and {{major}}")
    if not url.startswith("ftp://"):
        TypeAdapter(HttpUrl).validate_python(filled)
    return url
