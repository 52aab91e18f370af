"""The digest of what decides an encoder's vectors."""

from collections.abc import Mapping
from typing import Any

from genebench.digest import digest_json
from genebench.encoders.declaration import Encoder, WeightFile, parse_arguments
from genebench.encoders.loader import LoaderContext
from genebench.errors import EncoderError


def digest(
    encoder: Encoder,
    place: LoaderContext | None = None,
    encoders: Mapping[str, Encoder] | None = None,
) -> str:
    """Digest what decides the vectors of an encoder.

    In it: the loader and its revision, model and commit, template and missing rule, the loader's
    arguments with their defaults, the width, the sha256 of local files, and the digests of the
    encoders it is made from. Not in it: id, title, modality, licence, paths, device and batch
    size. A weight file with a declared sha256 counts by that, and a hub model by its commit unless
    its files lie in the weights folder, so a plan needs no weights.

    Args:
        encoder: The declaration.
        place: Where local files are; without it a file counts by its declared name.
        encoders: All declared encoders by id; needed where `base` names some.

    Raises:
        EncoderError: A base is not declared, or is made from this encoder itself.
    """
    return _digest(encoder, place or LoaderContext(), encoders or {}, ())


def _digest(
    encoder: Encoder,
    place: LoaderContext,
    encoders: Mapping[str, Encoder],
    above: tuple[str, ...],
) -> str:
    if encoder.id in above:
        raise EncoderError(f"{encoder.id}: is made from itself ({' -> '.join(above)})")
    bases = {}
    for base_id in encoder.bases():
        if base_id not in encoders:
            raise EncoderError(f"{encoder.id}: base {base_id!r} is no declared encoder")
        bases[base_id] = _digest(encoders[base_id], place, encoders, (*above, encoder.id))
    base = encoder.base
    roles = [[kind, bases[b]] for kind, b in base.items()] if isinstance(base, dict) else None
    return digest_json(
        {
            "loader": encoder.loader,
            "loader_revision": encoder.entry.revision,
            "model": _model_identity(encoder, place),
            "revision": encoder.revision,
            "texts": {
                kind: [list(encoder.templates(kind)), encoder.missing_rule(kind)]
                for kind in encoder.entities
                if encoder.template is not None
            },
            "field": encoder.field,
            "arguments": parse_arguments(encoder).model_dump(mode="json"),
            "dimension": encoder.dimension,
            "files": _file_identities(encoder, place),
            "base": roles or [bases[b] for b in encoder.bases()],
        }
    )


def _model_identity(encoder: Encoder, place: LoaderContext) -> Any:
    from genebench.encoders.weights.file_digests import folder_digest, sha256_of
    from genebench.encoders.weights.locations import expected_path, local_folder
    from genebench.encoders.weights.mpnet_parts import is_as_unpacked

    model = encoder.model
    if model is None or model.startswith("package:"):
        return model
    if encoder.loader == "precomputed":
        path = expected_path(encoder, place, WeightFile(name=model))
    else:
        folder = local_folder(encoder, place)
        if folder is None or (encoder.names_hub and is_as_unpacked(folder)):
            return model
        path = folder
    if path.is_dir():
        return folder_digest(path)
    return sha256_of(path) if path.is_file() else path.name


def _file_identities(encoder: Encoder, place: LoaderContext) -> dict[str, str]:
    from genebench.encoders.weights.file_digests import sha256_of
    from genebench.encoders.weights.locations import expected_path

    found = {}
    for role, declared in encoder.files.items():
        path = expected_path(encoder, place, declared)
        if declared.sha256:
            found[role] = declared.sha256
        else:
            found[role] = sha256_of(path) if path.is_file() else f"{encoder.id}/{path.name}"
    return found
