"""The container image is built from deployments/Dockerfile, and its commands are run in it.

The base image is made of Debian packages, because registries of images may be out of reach;
`GENEBENCH_BASE_IMAGE=docker.io/library/python:3.11-slim` names one instead. Nothing needs a
daemon or a kernel's namespaces: buildah builds and runs by chroot, so all containers share the
network of this machine.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
import yaml
from local_stacks import until

from flows.server.local_server import free_port
from lakehouse.query.lake import Lake

ROOT = Path(__file__).resolve().parent.parent
SUITES = {(3, 11): "bookworm", (3, 13): "trixie"}
BASE = os.environ.get("GENEBENCH_BASE_IMAGE")
PATH = "/opt/python/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
CERTIFICATES = "/etc/ssl/certs"
AUTH = "genebench:password of the test"

pytestmark = pytest.mark.soak


@dataclass(frozen=True)
class Builder:
    """Runs buildah with a storage of its own.

    Attributes:
        folder: The folder of its storage.
    """

    folder: Path

    def command(self, *words: str) -> list[str]:
        places = ("--root", str(self.folder / "images"), "--runroot", str(self.folder / "run"))
        # Needs no kernel module and no mount; copies each layer.
        return ["buildah", *places, "--storage-driver", "vfs", *words]

    def call(self, *words: str, seconds: float = 120) -> str:
        """Run a buildah command to its end; its output."""
        done = subprocess.run(
            self.command(*words),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout.strip()


@dataclass(frozen=True)
class Container:
    """A container of the image, whose /data is a folder of this machine.

    Attributes:
        builder: Runs buildah.
        name: Its name.
        data: The folder that is mounted at /data.
    """

    builder: Builder
    name: str
    data: Path

    def command(self, words: list[str], environment: Mapping[str, str]) -> list[str]:
        given = [word for name, value in environment.items() for word in ("-e", f"{name}={value}")]
        mounted = ("--volume", f"{self.data}:/data")
        return self.builder.command(
            "run", "--isolation", "chroot", *mounted, *given, self.name, "--", *words
        )

    def run(self, *words: str, seconds: float = 600, **environment: str) -> str:
        """Run a command to its end; what it printed."""
        done = subprocess.run(
            self.command(list(words), environment),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=seconds,
        )
        assert done.returncode == 0, done.stdout[-4000:]
        return done.stdout


@pytest.fixture(scope="module")
def builder(tmp_path_factory) -> Builder:
    programs = ["buildah"] if BASE else ["buildah", "debootstrap"]
    needed = [name for name in programs if shutil.which(name) is None]
    if needed:
        pytest.skip(f"not installed: {', '.join(needed)} (apt-get install {' '.join(needed)})")
    if os.getuid():
        pytest.skip("only root can run debootstrap")
    if not BASE and sys.version_info[:2] not in SUITES:
        pytest.skip("no Debian release has this version of Python")
    return Builder(tmp_path_factory.mktemp("buildah"))


def make_base(builder: Builder, folder: Path) -> str:
    """Make an image of Debian in which `python` is in a virtual environment, with pip."""
    made = subprocess.run(
        ["debootstrap", "--variant=minbase", "--include=ca-certificates,python3,python3-venv",
         SUITES[sys.version_info[:2]], str(folder)],
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
    )  # fmt: skip
    if made.returncode:
        pytest.skip(f"debootstrap cannot make a base image here: {made.stdout[-300:]}")
    shutil.copy("/etc/hosts", folder / "etc" / "hosts")
    subprocess.run(["chroot", str(folder), "python3", "-m", "venv", "/opt/python"], check=True)
    container = builder.call("from", "scratch").splitlines()[-1]
    builder.call("add", container, str(folder), "/", seconds=600)
    builder.call("config", "--env", f"PATH={PATH}", container)
    builder.call("commit", "--rm", container, "localhost/base", seconds=600)
    shutil.rmtree(folder)
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
def container(builder, tmp_path_factory) -> Iterator[Container]:
    """A container of the image, with an empty /data."""
    folder = tmp_path_factory.mktemp("image")
    base = BASE or make_base(builder, folder / "base")
    builder.call(
        "build-using-dockerfile", "--isolation", "chroot",
        "--build-arg", f"BASE={base}", "--build-arg", "TORCH_CPU_INDEX=", *pip_volumes(folder),
        "--file", str(ROOT / "deployments" / "Dockerfile"), "--tag", "localhost/genebench",
        str(ROOT), seconds=3000,
    )  # fmt: skip
    name = builder.call("from", "localhost/genebench").splitlines()[-1]
    data = folder / "data"
    data.mkdir()
    data.chmod(0o777)
    yield Container(builder, name, data)
    builder.call("rm", "--all")
    shutil.rmtree(builder.folder, ignore_errors=True)


def test_the_image_runs_as_a_user_who_may_write_to_the_data_only(container):
    said = container.run("bash", "-c", "id -un; pwd; touch /data/a && rm /data/a && echo written")
    assert said.split() == ["genebench", "/data", "written"]
    assert "refused" in container.run("bash", "-c", "touch /opt/genebench/a || echo refused")


def test_the_version_is_printed_and_there_is_no_git(container):
    assert container.run("genebench", "--version").startswith("genebench 0.")
    assert "absent" in container.run("bash", "-c", "command -v git || echo absent")


def test_a_small_benchmark_runs_without_git_and_records_the_version_of_the_package(container):
    said = container.run("genebench", "refresh")
    assert "refresh: 7 done" in said
    chosen = ("-e", "random", "-e", "bag_of_words", "-f", "genomic")
    said = container.run("genebench", "benchmark", *chosen, seconds=1200)
    assert "bag_of_words" in said
    rows = Lake(container.data / "lake").table("audit.runs").collect()
    version = container.run("genebench", "--version").split()[1]
    assert rows["code"].unique().to_list() == [version]
    assert "has no faults" in container.run("genebench", "doctor")


@pytest.fixture(scope="module")
def services(container) -> Iterator[dict[str, str]]:
    """The server, the set-up job and a worker of compose.yaml, on SQLite; the client's settings."""
    compose = yaml.safe_load((ROOT / "deployments" / "compose.yaml").read_text())["services"]
    port = str(free_port())
    client = {
        "PREFECT_API_URL": f"http://127.0.0.1:{port}/api",
        "PREFECT_API_AUTH_STRING": AUTH,
        "GENEBENCH_LAKE": "/data/compose",
    }

    def command(name: str) -> list[str]:
        text = compose[name]["command"].replace("4200", port).replace("0.0.0.0", "127.0.0.1")
        return ["bash", "-c", text]

    def environment(name: str) -> dict[str, str]:
        # Values in ${...} are given by the host; the database of this test is SQLite.
        fixed = {
            key: value
            for key, value in compose[name]["environment"].items()
            if isinstance(value, str) and "${" not in value
        }
        return {**fixed, **client}

    given = {**environment("server"), "PREFECT_SERVER_API_AUTH_STRING": AUTH}
    started = []
    with (container.data / "log").open("wb") as log:
        try:
            started.append(start(container.command(command("server"), given), log))
            until(lambda: is_healthy(port), 180, lambda: tail(container))
            health = compose["server"]["healthcheck"]["test"][1:]
            container.run(*(word.replace("4200", port) for word in health), **given)
            container.run(*command("setup"), **environment("setup"))
            started.append(start(container.command(command("worker"), environment("worker")), log))
            yield client
        finally:
            for process in reversed(started):
                os.killpg(process.pid, signal.SIGTERM)
                process.wait(60)


def start(command: list[str], log) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)


def tail(container: Container) -> str:
    return (container.data / "log").read_text()[-3000:]


def is_healthy(port: str) -> bool:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/api/health").is_success
    except httpx.HTTPError:
        return False


def ask(services: dict[str, str], method: str, path: str, body: object = None) -> dict:
    user, _, password = AUTH.partition(":")
    address = services["PREFECT_API_URL"] + path
    answer = httpx.request(method, address, json=body, auth=(user, password), timeout=60)
    assert answer.is_success, answer.text
    return answer.json()


def test_the_services_of_compose_run_a_deployment(container, services):
    found = ask(services, "GET", "/deployments/name/refresh/refresh")
    run = ask(services, "POST", f"/deployments/{found['id']}/create_flow_run", {})
    until(lambda: has_ended(services, run), 300, lambda: tail(container))
    assert ask(services, "GET", f"/flow_runs/{run['id']}")["state"]["name"] == "Completed"
    assert (container.data / "compose" / "bronze").is_dir()


def has_ended(services: dict[str, str], run: dict) -> bool:
    kind = ask(services, "GET", f"/flow_runs/{run['id']}")["state"]["type"]
    return kind in ("COMPLETED", "FAILED", "CRASHED")


def test_the_command_of_the_kubernetes_template_executes_a_run(container, services):
    path = ROOT / "deployments" / "kubernetes" / "base-job.json"
    command = json.loads(path.read_text())["variables"]["properties"]["command"]["default"]
    found = ask(services, "GET", "/deployments/name/refresh/refresh")
    # No worker takes a run that is not scheduled.
    body = {"state": {"type": "PENDING"}}
    run = ask(services, "POST", f"/deployments/{found['id']}/create_flow_run", body)
    lake = {"GENEBENCH_LAKE": "/data/kubernetes", "PREFECT__FLOW_RUN_ID": run["id"]}
    container.run("bash", "-c", command, **{**services, **lake})
    assert ask(services, "GET", f"/flow_runs/{run['id']}")["state"]["name"] == "Completed"
    assert (container.data / "kubernetes" / "bronze").is_dir()
