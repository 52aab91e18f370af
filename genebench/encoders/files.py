"""Reads encoders from YAML files: declared ones, a user's own, and the published package's."""

from pathlib import Path

import yaml
from pydantic import ValidationError

from genebench.encoders.declaration import Encoder, anchor_paths, describe_mistakes
from genebench.encoders.published_files import convert, is_published
from genebench.errors import RegistryError


def read_encoder(path: Path) -> Encoder:
    """Read the encoder of a YAML file, a registered one or a user's own; see `read_encoders`."""
    return read_encoders(path)[0]


def read_encoders(path: Path) -> tuple[Encoder, ...]:
    """Read the encoders of a YAML file.

    A path in it (`./vectors.csv`) is relative to the file. A model file of the published package
    (with `encoder:` and perhaps `descriptor:`) is read too; it may need several encoders, of
    which the first is the one it stands for.

    Raises:
        RegistryError: The file is not there, is no YAML mapping, or says something wrong; all
            mistakes at once.
    """
    try:
        entry = yaml.safe_load(path.read_text())
    except OSError as error:
        raise RegistryError([f"{path}: cannot be read: {error.strerror}"]) from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise RegistryError([f"{path}: is not YAML: {str(error).splitlines()[0]}"]) from error
    if not isinstance(entry, dict):
        raise RegistryError([f"{path}: an encoder is a mapping, this is {type(entry).__name__}"])
    if is_published(entry):
        return convert(entry, path).encoders
    try:
        return (Encoder.model_validate(anchor_paths(entry, path.parent)),)
    except ValidationError as error:
        raise RegistryError(describe_mistakes(str(path), error)) from error
