"""Encoders: what turns the inputs of entities into vectors.

An encoder is one YAML file (`declaration`); a loader is what reads it and has one method
(`reading`). Loader modules are imported only when they are asked for, and model libraries only
when they encode, so reading every declaration costs neither.
"""

from pathlib import Path

import yaml
from pydantic import ValidationError

from genebench.encoders.declaration import (
    Arguments,
    Encoder,
    Runtime,
    WeightFile,
    anchor_paths,
    describe_mistakes,
    is_hub,
    loader_class,
    parse_arguments,
)
from genebench.encoders.identity import digest
from genebench.encoders.loaders import LOADERS, LoaderEntry
from genebench.encoders.reading import (
    DeclaredLoader,
    Loader,
    Place,
    Reading,
    Vectors,
    check_dimension,
)
from genebench.encoders.templates import fields_of, render
from genebench.errors import RegistryError

__all__ = [
    "LOADERS",
    "Arguments",
    "DeclaredLoader",
    "Encoder",
    "Loader",
    "LoaderEntry",
    "Place",
    "Reading",
    "Runtime",
    "Vectors",
    "WeightFile",
    "anchor_paths",
    "check_dimension",
    "describe_mistakes",
    "digest",
    "fields_of",
    "is_hub",
    "load",
    "loader_class",
    "parse_arguments",
    "read",
    "read_all",
    "render",
]


def load(encoder: Encoder, place: Place | None = None) -> Loader:
    """Make the loader of an encoder; weights are read when it first encodes.

    >>> encoder = Encoder(id="noise", title="Noise", modality="control", loader="random",
    ...                   dimension=4)
    >>> load(encoder).encode(Reading("gene", ["hgnc:1100"]), lambda n: None).matrix.shape
    (1, 4)
    """
    return loader_class(encoder.loader)(encoder, place or Place())


def read(path: Path) -> Encoder:
    """Read the encoder of a YAML file, a registered one or a user's own; see `read_all`."""
    return read_all(path)[0]


def read_all(path: Path) -> tuple[Encoder, ...]:
    """Read the encoders of a YAML file.

    A path in it (`./vectors.csv`) is relative to the file. A model file of the published package
    (with `encoder:` and perhaps `descriptor:`) is read too; it may need several encoders, of
    which the first is the one it stands for.

    Raises:
        RegistryError: The file is not there, is no YAML mapping, or says something wrong; all
            mistakes at once.
    """
    from genebench.encoders.published import convert, is_published

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
