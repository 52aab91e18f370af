"""The container image is built from deployments/Dockerfile, and its commands are run in it.

The base image is made of Debian packages, because registries of images may be out of reach;
`GENEBENCH_BASE_IMAGE=docker.io/library/python:3.11-slim` names one instead. The database of
compose.yaml is made of Debian packages too, in the version that compose.yaml names.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import pytest
from containers import Builder, Container, Service, read_compose
from local_stacks import ENDED, until

from flows.server.local_server import free_port
from lakehouse.query.lake import Lake

ROOT = Path(__file__).resolve().parent.parent
COMPOSE = ROOT / "deployments" / "compose.yaml"
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
BASE = os.environ.get("GENEBENCH_BASE_IMAGE")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs"
AUTH = "genebench:password of the test"
# What the host gives to compose.
VALUES = {
    "PREFECT_AUTH": AUTH,
    "POSTGRES_PASSWORD": "password-of-the-database",
    "GENEBENCH_LAKE": "/data/compose",
}

# The release of Debian whose PostgreSQL has the version in compose.yaml.
DATABASE_SUITE = "trixie"
# The second line keeps the package from starting a server of its own.
INSTALL_DATABASE = """
set -e
printf '#!/bin/sh\\nexit 101\\n' > /usr/sbin/policy-rc.d && chmod +x /usr/sbin/policy-rc.d
export DEBIAN_FRONTEND=noninteractive
apt-get update --quiet
apt-get install --quiet --yes --no-install-recommends postgresql-$PG_MAJOR
"""
# What the entrypoint of the image in compose.yaml does with the same variables.
START_DATABASE = """
set -e
if [ ! -e "$PGDATA/PG_VERSION" ]; then
  initdb --username "$POSTGRES_USER" --pwfile <(echo "$POSTGRES_PASSWORD") \\
    --auth-local trust --auth-host scram-sha-256 --encoding UTF8
  echo "CREATE DATABASE \\"$POSTGRES_DB\\"" | postgres --single postgres
fi
exec postgres -c listen_addresses=127.0.0.1
"""
AS_POSTGRES = ("setpriv", "--reuid", "postgres", "--regid", "postgres", "--init-groups")
STOP_DATABASE = 'kill -INT $(head -1 "$PGDATA/postmaster.pid")'

pytestmark = pytest.mark.soak


@pytest.fixture(scope="module")
def builder(tmp_path_factory) -> Iterator[Builder]:
    programs = ["buildah"] if BASE else ["buildah", "debootstrap"]
    needed = [name for name in programs if shutil.which(name) is None]
    if needed:
        pytest.skip(f"not installed: {', '.join(needed)} (apt-get install {' '.join(needed)})")
    if os.getuid():
        pytest.skip("only root can run debootstrap")
    if not BASE and sys.version_info[:2] not in SUITES:
        pytest.skip("no Debian release has this version of Python")
    builder = Builder(tmp_path_factory.mktemp("buildah"))
    yield builder
    builder.call("rm", "--all")
    shutil.rmtree(builder.folder, ignore_errors=True)


def make_base(builder: Builder) -> str:
    """Make an image of Debian in which `python` is in a virtual environment, with pip."""
    suite = SUITES[sys.version_info[:2]]
    container = builder.make_debian(suite, "python3", "python3-venv")
    container.run("python3", "-m", "venv", "/opt/python")
    builder.call("config", "--env", f"PATH=/opt/python/bin:{PATH}", container.name)
    builder.call("commit", "--rm", container.name, "localhost/base")
    return "localhost/base"


def pip_volumes(folder: Path) -> list[str]:
    """Mount the settings of this machine's pip, and the local folders that they name."""
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True
    ).stdout
    settings = {}
    for line in listed.splitlines():
        name, _, value = line.partition("=")
        settings[name.removeprefix(":env:.").removeprefix("global.")] = value.strip("'")
    lines = ["[global]", *(f"{name} = {value}" for name, value in settings.items())]
    (folder / "pip.conf").write_text("\n".join(lines) + "\n")
    words = " ".join(settings.values()).split()
    # The pages of a local index link to files beside its folder.
    words = [str(Path(w[7:]).parent) if w.startswith("file://") else w for w in words]
    places = {word for word in words if word.startswith("/") and Path(word).exists()}
    mounted = {str(folder / "pip.conf"): "/etc/pip.conf", CERTIFICATES: CERTIFICATES}
    mounted |= {place: place for place in places if not place.startswith(CERTIFICATES)}
    return [word for a, b in mounted.items() for word in ("--volume", f"{a}:{b}:ro")]


@pytest.fixture(scope="module")
def container(builder, tmp_path_factory) -> Container:
    """A container of the image, with an empty /data."""
    folder = tmp_path_factory.mktemp("image")
    base = BASE or make_base(builder)
    builder.call(
        "build-using-dockerfile", "--isolation", "chroot",
        "--build-arg", f"BASE={base}", "--build-arg", "TORCH_CPU_INDEX=", *pip_volumes(folder),
        "--file", str(ROOT / "deployments" / "Dockerfile"), "--tag", "localhost/genebench",
        str(ROOT), seconds=3000,
    )  # fmt: skip
    return replace(builder.make("localhost/genebench"), mounted={"/data": make_data(folder)})


def make_data(folder: Path) -> Path:
    """Make a folder to which the user of the image can write."""
    data = folder / "data"
    data.mkdir()
    data.chmod(0o777)
    return data


def test_the_image_runs_as_a_user_who_may_write_to_the_data_only(container):
    said = container.run("bash", "-c", "id -un; pwd; touch /data/a && rm /data/a && echo written")
    assert said.split() == ["genebench", "/data", "written"]
    assert "refused" in container.run("bash", "-c", "touch /opt/genebench/a || echo refused")


def test_the_version_is_printed_and_there_is_no_git(container):
    assert container.run("genebench", "--version").startswith("genebench 0.")
    assert "absent" in container.run("bash", "-c", "command -v git || echo absent")


def test_a_small_benchmark_runs_without_git_and_records_the_version_of_the_package(container):
    said = container.run("genebench", "refresh")
    assert "done, 0 already there" in said
    chosen = ("-e", "random", "-e", "bag_of_words", "-f", "genomic")
    said = container.run("genebench", "benchmark", *chosen, seconds=1200)
    assert "Bag of words" in said
    rows = Lake(container.mounted["/data"] / "lake").table("audit.runs").collect()
    version = container.run("genebench", "--version").split()[1]
    assert rows["code"].unique().to_list() == [version]
    assert "has no faults" in container.run("genebench", "doctor")


@dataclass(frozen=True)
class Stack:
    """The services of compose.yaml, running.

    Attributes:
        services: The services by name, as compose.yaml declares them.
        server: The container of the server.
        worker: The container of the worker and of the set-up job.
        database: The container of PostgreSQL.
        log: What all of them print.
    """

    services: dict[str, Service]
    server: Container
    worker: Container
    database: Container
    log: Path

    @property
    def lakes(self) -> Path:
        return self.worker.mounted["/data"]

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-3000:]

    def is_healthy(self, name: str) -> bool:
        """Whether the health check that compose.yaml declares for a service passes in it."""
        return getattr(self, name).succeeds(*self.services[name].health)

    def ask(self, method: str, path: str, body: object = None) -> dict:
        """Ask the server."""
        address = self.worker.environment["PREFECT_API_URL"] + path
        user, _, password = AUTH.partition(":")
        answer = httpx.request(method, address, json=body, auth=(user, password), timeout=120)
        assert answer.is_success, answer.text
        return answer.json()

    def submit(self, name: str, **body: object) -> str:
        """Create a run of a deployment; its id."""
        found = self.ask("GET", f"/deployments/name/{name}/{name}")
        return self.ask("POST", f"/deployments/{found['id']}/create_flow_run", body)["id"]

    def state(self, run: str) -> dict:
        return self.ask("GET", f"/flow_runs/{run}")["state"]

    def has_ended(self, run: str) -> bool:
        return self.state(run)["type"] in ENDED

    def select(self, query: str) -> list[str]:
        """Ask the database; the rows of the answer."""
        name = self.services["database"].environment["POSTGRES_DB"]
        user = self.services["database"].environment["POSTGRES_USER"]
        words = ("--no-align", "--tuples-only", "--username", user, "--command", query, name)
        return self.database.run("psql", *words).splitlines()


@pytest.fixture(scope="module")
def database(builder) -> Container:
    """A container with the PostgreSQL that compose.yaml names, not started."""
    image = read_compose(COMPOSE, VALUES, {})["database"].image
    major = image.removeprefix("postgres:")
    path = f"/usr/lib/postgresql/{major}/bin:{PATH}"
    made = replace(
        builder.make_debian(DATABASE_SUITE), environment={"PG_MAJOR": major, "PATH": path}
    )
    made.run("bash", "-c", INSTALL_DATABASE)
    return made


@pytest.fixture(scope="module")
def stack(container, database, tmp_path_factory) -> Iterator[Stack]:
    """The database, the server, the set-up job and a worker of compose.yaml."""
    ports = {"PORT": str(free_port()), "PGPORT": str(free_port())}
    places = {
        "server:4200": f"127.0.0.1:{ports['PORT']}",
        "127.0.0.1:4200/": f"127.0.0.1:{ports['PORT']}/",
        "--host 0.0.0.0 --port 4200": f"--host 127.0.0.1 --port {ports['PORT']}",
        "database:5432": f"127.0.0.1:{ports['PGPORT']}",
    }
    services = read_compose(COMPOSE, VALUES, places)

    def place(name: str, made: Container, **more: str) -> Container:
        service = services[name]
        environment = {**made.environment, **service.environment, **more}
        data = make_data(tmp_path_factory.mktemp(name))
        return replace(made, mounted={service.volume: data}, environment=environment)

    home = services["database"].volume
    stack = Stack(
        services=services,
        server=place("server", container),
        worker=place("worker", container),
        database=place("database", database, PGDATA=home, PGPORT=ports["PGPORT"]),
        log=tmp_path_factory.mktemp("logs") / "log",
    )
    started = []
    with stack.log.open("wb") as log:
        try:
            stack.database.run("chown", "postgres", services["database"].volume)
            words = (*AS_POSTGRES, "bash", "-c", START_DATABASE)
            started.append(stack.database.start(log, *words))
            until(lambda: stack.is_healthy("database"), 120, stack.tail)
            started.append(stack.server.start(log, *services["server"].command))
            until(lambda: stack.is_healthy("server"), 300, stack.tail)
            setup = replace(stack.worker, environment=services["setup"].environment)
            setup.run(*services["setup"].command)
            started.append(stack.worker.start(log, *services["worker"].command))
            yield stack
        finally:
            for process in reversed(started[1:]):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)
            if started and started[0].poll() is None:
                stack.database.run("bash", "-c", STOP_DATABASE)
                started[0].wait(60)


def test_the_services_of_compose_run_a_deployment(stack):
    run = stack.submit("refresh")
    until(lambda: stack.has_ended(run), 300, stack.tail)
    assert stack.state(run)["name"] == "Completed"
    assert (stack.lakes / "compose" / "bronze").is_dir()


def test_the_server_of_compose_keeps_runs_in_postgresql_and_makes_no_sqlite_file(stack):
    run = stack.submit("refresh")
    until(lambda: stack.has_ended(run), 300, stack.tail)
    found = stack.select(f"SELECT state_name FROM flow_run WHERE id = '{run}'")
    assert found == ["Completed"]
    # Events are written some seconds later, together: one that is refused holds up the others.
    ended = "event = 'prefect.flow-run.Completed'"
    query = f"SELECT event FROM events WHERE {ended} AND resource_id = 'prefect.flow-run.{run}'"
    until(lambda: stack.select(query), 120, stack.tail)
    data = stack.server.mounted["/data"]
    files = [path for path in data.rglob("*") if path.is_file()]
    assert (data / ".prefect").is_dir()
    assert not [path for path in files if path.read_bytes().startswith(b"SQLite format 3")]


def test_the_server_of_compose_serves_the_ui(stack):
    address = stack.worker.environment["PREFECT_API_URL"].removesuffix("/api")
    page = httpx.get(address, headers={"Accept": "text/html"}, follow_redirects=True, timeout=120)
    assert page.is_success
    assert "<title>Prefect" in page.text


def test_the_command_of_the_kubernetes_template_executes_a_run(container, stack):
    path = ROOT / "deployments" / "kubernetes" / "base-job.json"
    command = json.loads(path.read_text())["variables"]["properties"]["command"]["default"]
    # No worker takes a run that is not scheduled.
    run = stack.submit("refresh", state={"type": "PENDING"})
    given = {"GENEBENCH_LAKE": "/data/kubernetes", "PREFECT__FLOW_RUN_ID": run}
    kept = ("PREFECT_API_URL", "PREFECT_API_AUTH_STRING")
    given |= {name: stack.worker.environment[name] for name in kept}
    replace(container, environment=given).run("bash", "-c", command)
    assert stack.state(run)["name"] == "Completed"
    assert (container.mounted["/data"] / "kubernetes" / "bronze").is_dir()
