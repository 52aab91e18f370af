"""What tests of the lake share: an empty lake folder, a server of source files."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import Server

from lakehouse.tables.storage import Storage


@pytest.fixture
def server() -> Iterator[Server]:
    started = Server()
    yield started
    started.http.shutdown()
    started.http.server_close()


@pytest.fixture
def storage(tmp_path: Path) -> Storage:
    return Storage(tmp_path / "lake")
