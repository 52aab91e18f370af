"""Containers for tests: made and run by buildah without a daemon, as a compose file says.

buildah runs by chroot here, which needs no kernel's namespaces: all containers share the network
and the processes of this machine.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import pytest
import yaml


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

    def call(self, *words: str, seconds: float = 600) -> str:
        """Run a buildah command to its end; its output."""
        return finish(self.command(*words), seconds).strip()

    def make(self, image: str) -> "Container":
        """Make a container of an image, or of nothing: `scratch`."""
        return Container(self, self.call("from", image).splitlines()[-1])

    def make_debian(self, suite: str, *packages: str) -> "Container":
        """Make a container of a release of Debian and some of its packages."""
        if shutil.which("debootstrap") is None:
            pytest.skip("not installed: debootstrap (apt-get install debootstrap)")
        folder = self.folder / suite
        included = ",".join(("ca-certificates", *packages))
        made = subprocess.run(
            ["debootstrap", "--variant=minbase", f"--include={included}", suite, str(folder)],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False,
        )  # fmt: skip
        if made.returncode:
            pytest.skip(f"debootstrap cannot make a base image here: {made.stdout[-300:]}")
        shutil.copy("/etc/hosts", folder / "etc" / "hosts")
        container = self.make("scratch")
        self.call("add", container.name, str(folder), "/")
        shutil.rmtree(folder)
        return container


@dataclass(frozen=True)
class Container:
    """A container, with folders of this machine in it.

    Attributes:
        builder: Runs buildah.
        name: Its name.
        mounted: The folders of this machine, by their path in the container.
        environment: The variables that each command gets.
    """

    builder: Builder
    name: str
    mounted: Mapping[str, Path] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def command(self, *words: str) -> list[str]:
        options = ["--isolation", "chroot"]
        for path, folder in self.mounted.items():
            options += ["--volume", f"{folder}:{path}"]
        for name, value in self.environment.items():
            options += ["--env", f"{name}={value}"]
        return self.builder.command("run", *options, self.name, "--", *words)

    def run(self, *words: str, seconds: float = 600) -> str:
        """Run a command to its end; what it printed."""
        return finish(self.command(*words), seconds)

    def succeeds(self, *words: str) -> bool:
        """Whether a command ends without an error."""
        done = subprocess.run(self.command(*words), capture_output=True, check=False, timeout=600)
        return done.returncode == 0

    def start(self, log: IO[bytes], *words: str) -> "subprocess.Popen[bytes]":
        """Start a command, the first of a group of processes."""
        return subprocess.Popen(
            self.command(*words), stdout=log, stderr=subprocess.STDOUT, start_new_session=True
        )


@dataclass(frozen=True)
class Service:
    """A service of a compose file.

    Attributes:
        image: The name of its image.
        command: The words of its command; none: the command of the image.
        environment: Its variables that have a value.
        health: The words of its health check.
        volume: The path at which its volume is mounted.
    """

    image: str
    command: list[str]
    environment: dict[str, str]
    health: list[str]
    volume: str


def read_compose(
    path: Path, values: Mapping[str, str], places: Mapping[str, str]
) -> dict[str, Service]:
    """Read the services of a compose file as compose does.

    Args:
        path: The file.
        values: The variables of the host, for `${NAME}`, `${NAME:-default}` and `${NAME:?why}`.
        places: What stands for the addresses in the file, since the network is shared.
    """
    text = path.read_text()
    for address, other in places.items():
        assert address in text, f"{path.name} has no {address} any more"
        text = text.replace(address, other)
    innermost = re.compile(r"\$\{(\w+)(?::([-?])([^${}]*))?\}")
    while found := innermost.search(text):
        name, sign, word = found.groups()
        value = values.get(name) or (word if sign == "-" else "")
        assert value or sign != "?", f"{name}: {word}"
        text = text[: found.start()] + value + text[found.end() :]
    return {name: to_service(one) for name, one in yaml.safe_load(text)["services"].items()}


def to_service(declared: dict) -> Service:
    kind, *words = declared.get("healthcheck", {}).get("test", ["CMD"])
    return Service(
        image=declared["image"],
        command=shlex.split(declared.get("command", "")),
        environment={k: str(v) for k, v in declared["environment"].items() if v is not None},
        health=["sh", "-c", *words] if kind == "CMD-SHELL" else words,
        volume=declared["volumes"][0].partition(":")[2],
    )


def finish(command: list[str], seconds: float) -> str:
    """Run a command to its end, which must be a good one; its output."""
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=seconds,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    return done.stdout
