"""Reads shipped probes and protocols, with changed fields where a test needs other rules."""

from typing import Any

import yaml

from genebench.probes.declaration import Probe
from genebench.protocols.declaration import Protocol
from genebench.registry.loading import declarations_folder


def read_fields(kind: str, name: str) -> dict[str, Any]:
    """The fields of a shipped declaration, as its YAML file states them.

    Args:
        kind: Folder of the declarations: `probes` or `protocols`.
        name: File name without its suffix.
    """
    return yaml.safe_load((declarations_folder(kind) / f"{name}.yaml").read_text())


def read_probe(name: str, **changes: Any) -> Probe:
    """A shipped probe, with some fields replaced."""
    return Probe.model_validate(read_fields("probes", name) | changes)


def read_protocol(name: str, **changes: Any) -> Protocol:
    """A shipped protocol, with some fields replaced."""
    return Protocol.model_validate(read_fields("protocols", name) | changes)
