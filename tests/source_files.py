"""Source files for tests of the readers: a small table, its declaration, and zip files."""

import io
import zipfile
from collections.abc import Callable

import polars as pl

from genebench.sources.declaration import Source, SourceFile

TABLE = "Gene\tName\nNA\tfirst\nBRX1\t\n"
Read = Callable[..., pl.DataFrame]


def declare_file(**declaration: object) -> tuple[Source, SourceFile]:
    file = SourceFile.model_validate(
        {"url": "https://example.org/f", "format": "tsv"} | declaration
    )
    source = Source(
        id="demo",
        title="A demonstration",
        license="CC0",
        cite="demo2024",
        homepage="https://example.org",
        version="1.0",
        files={"table": file},
    )
    return source, file


def zipped(**members: bytes) -> bytes:
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    return packed.getvalue()
