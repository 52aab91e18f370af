"""Reads encoders from YAML files: those of genebench, of users, and of the published package."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from genebench.encoders.declaration import Encoder, describe_mistakes, resolve_relative_paths
from genebench.encoders.published_files import convert_published_file, is_published_file
from genebench.errors import RegistryError


def read_encoder(path: Path) -> Encoder:
    """Read the main encoder of a YAML file; see `read_encoders`."""
    return read_encoders(path)[0]


def read_encoders(path: Path) -> tuple[Encoder, ...]:
    """Read the encoders of a YAML file.

    A relative path in the file (`./vectors.csv`) starts at the folder of the file. A model file of
    the published package (with `encoder:` and perhaps `descriptor:`) is read too.

    Returns:
        One encoder; for a published file, the encoder of the file first, then the encoders whose
        vectors it reads.

    Raises:
        RegistryError: The file cannot be read, is not a YAML mapping, or has mistakes; the error
            lists all of them.
    """
    try:
        entry = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RegistryError(
            [f"{path}: cannot be read: {error.strerror}; correct the path"]
        ) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RegistryError([f"{path}: is not valid YAML: {str(error).splitlines()[0]}"]) from error
    if not isinstance(entry, dict):
        found = type(entry).__name__
        raise RegistryError(
            [f"{path}: an encoder must be a YAML mapping (`id: ...`), but the file holds a {found}"]
        )
    if is_published_file(entry):
        return convert_published_file(entry, path).encoders
    try:
        return (Encoder.model_validate(resolve_relative_paths(entry, path.parent)),)
    except ValidationError as error:
        raise RegistryError(describe_mistakes(str(path), error)) from error
