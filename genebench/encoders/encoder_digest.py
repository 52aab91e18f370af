"""Computes the digest of everything that decides the vectors of an encoder."""

from collections.abc import Mapping
from typing import Any

from genebench.digest import digest_json
from genebench.encoders.declaration import Encoder, WeightFile, parse_arguments
from genebench.encoders.loader import LoaderContext
from genebench.errors import EncoderError


def digest_encoder(
    encoder: Encoder,
    context: LoaderContext | None = None,
    encoders: Mapping[str, Encoder] | None = None,
) -> str:
    """Compute the digest of everything that decides the vectors of an encoder.

    The digest covers the loader and its revision, model and commit, template and missing rule, the
    loader's arguments with their defaults, the width, the SHA-256 of local files, and the digests
    of the base encoders. It does not cover id, title, modality, licence, paths, device and batch
    size.

    Weights need not be present: a weight file with a declared SHA-256 enters by that hash, and a
    Hugging Face model by its commit unless its files are in the weights folder.

    Args:
        encoder: The declaration.
        context: Folders of local files; a file that is not found enters by its declared name.
        encoders: All declared encoders by id; needed if the encoder has a base.

    Raises:
        EncoderError: A base is not declared, or depends on this encoder.
    """
    return _digest(encoder, context or LoaderContext(), encoders or {}, ())


def encoders_of_same_model(
    encoder: Encoder, context: LoaderContext, encoders: Mapping[str, Encoder]
) -> dict[str, str]:
    """Find the other encoders that give equal contents the vectors that this encoder gives them.

    Their declarations differ in the texts, missing rules and kinds of sequence that they read only.

    Args:
        encoder: The declaration.
        context: Folders of local files.
        encoders: All declared encoders by id.

    Returns:
        Encoder id to its `digest_encoder`; empty for encoders that do not read texts or sequences,
        and for fitted ones, whose vectors depend on all contents.
    """
    if encoder.is_fitted or encoder.reads not in ("text", "dna", "protein"):
        return {}

    def model_digest(one: Encoder) -> str:
        what_is_read = {"template": None, "missing": "skip", "field": None}
        return digest_encoder(one.model_copy(update=what_is_read), context, encoders)

    model = (encoder.loader, encoder.model)
    return {
        one.id: digest_encoder(one, context, encoders)
        for one in encoders.values()
        if one.id != encoder.id
        and (one.loader, one.model) == model
        and model_digest(one) == model_digest(encoder)
    }


def _digest(
    encoder: Encoder,
    context: LoaderContext,
    encoders: Mapping[str, Encoder],
    ancestors: tuple[str, ...],
) -> str:
    if encoder.id in ancestors:
        raise EncoderError(
            f"{encoder.id}: is made from itself ({' -> '.join(ancestors)}); correct `base`"
        )
    bases = {}
    for base_id in encoder.bases():
        if base_id not in encoders:
            raise EncoderError(
                f"{encoder.id}: base {base_id!r} is not a declared encoder; correct `base`"
            )
        bases[base_id] = _digest(encoders[base_id], context, encoders, (*ancestors, encoder.id))
    base = encoder.base
    roles = [[kind, bases[b]] for kind, b in base.items()] if isinstance(base, dict) else None
    return digest_json(
        {
            "loader": encoder.loader,
            "loader_revision": encoder.entry.revision,
            "model": _model_identity(encoder, context),
            "revision": encoder.revision,
            "texts": {
                kind: [list(encoder.templates(kind)), encoder.missing_rule(kind)]
                for kind in encoder.entities
                if encoder.template is not None
            },
            "field": encoder.field,
            "arguments": parse_arguments(encoder).model_dump(mode="json"),
            "dimension": encoder.dimension,
            "files": _file_identities(encoder, context),
            "base": roles or [bases[b] for b in encoder.bases()],
        }
    )


def _model_identity(encoder: Encoder, context: LoaderContext) -> Any:
    from genebench.encoders.weights.file_digests import folder_digest, sha256_of
    from genebench.encoders.weights.locations import expected_path, local_model_folder
    from genebench.encoders.weights.mpnet_parts import is_unmodified

    model = encoder.model
    if model is None or model.startswith("package:"):
        return model
    if encoder.loader == "precomputed":
        path = expected_path(encoder, context, WeightFile(name=model))
    else:
        folder = local_model_folder(encoder, context)
        if folder is None or (encoder.is_hub_model and is_unmodified(folder)):
            return model
        path = folder
    if path.is_dir():
        return folder_digest(path)
    return sha256_of(path) if path.is_file() else path.name


def _file_identities(encoder: Encoder, context: LoaderContext) -> dict[str, str]:
    from genebench.encoders.weights.file_digests import sha256_of
    from genebench.encoders.weights.locations import expected_path

    found = {}
    for role, declared in encoder.files.items():
        path = expected_path(encoder, context, declared)
        if declared.sha256:
            found[role] = declared.sha256
        else:
            found[role] = sha256_of(path) if path.is_file() else f"{encoder.id}/{path.name}"
    return found
