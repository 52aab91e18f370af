"""Fixtures of the tests of genebench."""

from pathlib import Path

import polars as pl
import pytest
from source_files import Read, declare_file

from genebench.sources.readers.dispatch import read_source_file


@pytest.fixture
def read_bytes(tmp_path: Path) -> Read:
    def read_content(content: bytes | str, **declaration: object) -> pl.DataFrame:
        path = tmp_path / "delivered"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        source, file = declare_file(**declaration)
        return read_source_file(path, file, source, "1.0")

    return read_content
