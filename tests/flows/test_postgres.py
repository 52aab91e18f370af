"""A server on PostgreSQL, named by one setting, takes many runs in a row while it is polled."""

import collections
import os
import shutil
import subprocess
import tempfile
import threading
from pathlib import Path

import httpx
import pytest
from local_stacks import LocalStack
from world import build_world

from flows.server.local_server import free_port

N_RUNS = 20
SETTING = "PREFECT_SERVER_DATABASE_CONNECTION_URL"


def programs() -> Path | None:
    """The folder of PostgreSQL's programs."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))
    return folders[-1].parent if folders else None


@pytest.fixture
def database_url():
    """The address of an empty PostgreSQL database of this test."""
    folder, port = programs(), free_port()
    if folder is None:
        pytest.skip("no PostgreSQL (apt-get install postgresql)")
    # PostgreSQL refuses to run as root, and its user cannot read the folders of pytest.
    is_root = os.getuid() == 0
    prefix = ["runuser", "-u", "postgres", "--"] if is_root else []
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        if is_root:
            shutil.chown(place, "postgres")

        def run(program: str, *words: str) -> None:
            command = [*prefix, str(folder / program), *words]
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=place)

        run("initdb", "-D", f"{place}/data", "-A", "trust", "-U", "prefect", "-E", "UTF8")
        options = f"-p {port} -k {place} -c listen_addresses=127.0.0.1"
        server = ("-D", f"{place}/data", "-l", f"{place}/log", "-w")
        run("pg_ctl", *server, "-o", options, "start")
        try:
            run("createdb", "-h", "127.0.0.1", "-p", str(port), "-U", "prefect", "prefect")
            yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/prefect"
        finally:
            run("pg_ctl", *server, "-m", "immediate", "stop")


@pytest.mark.soak
def test_up_on_postgresql_completes_many_runs_in_a_row_while_it_is_polled(tmp_path, database_url):
    build_world(tmp_path / "sources")
    stack = LocalStack(tmp_path, tmp_path / "sources", more={SETTING: database_url})
    answers: collections.Counter[int] = collections.Counter()
    is_over = threading.Event()

    def poll() -> None:
        user, _, password = stack.login.partition(":")
        with httpx.Client(auth=(user, password), timeout=120) as client:
            while not is_over.wait(0.5):
                for path in ("flow_runs/filter", "task_runs/filter", "logs/filter"):
                    asked = client.post(f"{stack.url}/{path}", json={"limit": 50})
                    answers[asked.status_code] += 1

    poller = threading.Thread(target=poll)
    try:
        said = stack.up()
        assert "PostgreSQL" in said
        poller.start()
        states = []
        for _ in range(N_RUNS):
            run = stack.submit("refresh", sources=["bioconductor"])
            states.append(stack.wait(run)["type"])
    finally:
        is_over.set()
        if poller.is_alive():
            poller.join()
        stack.run("down")
    assert states == ["COMPLETED"] * N_RUNS
    assert set(answers) == {200}
    assert "503" not in (stack.home / "server.log").read_text()
