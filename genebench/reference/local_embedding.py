"""Embeds the genes of the reference release with an encoder that runs on this machine."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from genebench.encoders.declaration import COMMIT, Encoder, is_hub_id, suggest_nearest
from genebench.encoders.loader import LoaderContext, LoaderInput, Vectors, load_encoder
from genebench.entities.entity_catalogue import GENE
from genebench.entities.inputs import catalogue_inputs, render_contents
from genebench.errors import EncoderError
from genebench.reference.packaged_tasks import UniverseTasks
from genebench.registry.registry import Registry
from genebench.settings import get_settings

HUB_PREFIX = "hf:"
MODEL_FILES = ("modules.json", "config.json")
TEMPLATE = "Gene symbol {symbol} full name {name}"

_READABLE = ("text", "identifiers", "nothing", "vectors")


class LocalEmbedder:
    """Computes vectors of the genes of the reference release; keeps those of each encoder.

    The texts are symbol and full name, the fields that the included data have.
    """

    def __init__(self, registry: Registry, packaged: UniverseTasks) -> None:
        self.registry = registry
        self.packaged = packaged
        self._vectors: dict[str, Vectors] = {}

    def embed(self, encoder: Encoder, progress: Callable[[str], None]) -> Vectors:
        """Compute the vectors of all genes that an encoder can embed.

        Raises:
            EncoderError: The encoder reads inputs that the included data lack, or its weights or
                files are missing.
        """
        if encoder.id in self._vectors:
            return self._vectors[encoder.id]
        if encoder.reads not in _READABLE:
            raise EncoderError(
                f"{encoder.id} reads {encoder.reads}, which the included data lack; run `genebench "
                f"benchmark --profile paper --encoder {encoder.id}`"
            )
        settings = get_settings()
        context = LoaderContext(settings.weights, None, settings.device)
        n_done, n_genes = 0, len(self.packaged.entity_ids)

        def advance(n: int) -> None:
            nonlocal n_done
            before, n_done = n_done, n_done + n
            if n_done * 10 // n_genes > before * 10 // n_genes:
                progress(f"{encoder.id}: {n_done:,} of {n_genes:,} genes embedded")

        vectors = load_encoder(encoder, context).encode(self._input(encoder, progress), advance)
        self._vectors[encoder.id] = vectors
        return vectors

    def _input(self, encoder: Encoder, progress: Callable[[str], None]) -> LoaderInput:
        inputs = self.packaged.inputs
        ids, contents = list(inputs.entity_ids), list[tuple[str, ...]]()
        if encoder.reads == "text":
            texts = catalogue_inputs(self.packaged.entities)
            rendered = render_contents(texts, encoder, GENE, ids)
            ids = rendered["entity_id"].to_list()
            contents = [tuple(parts) for parts in rendered["contents"].to_list()]
        return LoaderInput(
            GENE,
            ids,
            contents,
            inputs.xrefs,
            lambda base: self.embed(self.registry.encoders[base], progress),
            known_ids=inputs.known_ids,
        )


def find_model_encoder(model: str, registry: Registry) -> Encoder | None:
    """Return the encoder that a word names; None if the word names a file of vectors.

    Args:
        model: `hf:org/name`, also with `@` and a commit; a folder of a sentence transformer; or the
            id of a declared encoder, unless a file has this name.
        registry: The declared encoders.

    Raises:
        EncoderError: The model id is malformed, or its commit is unknown.
    """
    path = Path(model)
    if model.startswith(HUB_PREFIX):
        name, _, commit = model.removeprefix(HUB_PREFIX).partition("@")
        if not is_hub_id(name):
            raise EncoderError(f"{model}: a model of Hugging Face is named hf:org/name")
        if commit and not COMMIT.match(commit):
            raise EncoderError(f"{model}: after @ are the 40 digits of a commit")
        return _sentence_encoder(name, name.rpartition("/")[2], commit or _newest_commit(name))
    if path.is_dir() and any((path / name).is_file() for name in MODEL_FILES):
        return _sentence_encoder(str(path.resolve()), path.resolve().name, None)
    if path.exists():
        return None
    if model in registry.encoders:
        return registry.encoders[model]
    if not path.suffix and "/" not in model:
        known = sorted(registry.encoders)
        raise EncoderError(
            f"{model}: no such file, and no encoder has this id"
            f"{suggest_nearest(model, known) or '; `genebench ls encoders` lists them'}"
        )
    return None


def embed_genes(
    encoder: Encoder, registry: Registry, packaged: UniverseTasks, progress: Callable[[str], None]
) -> tuple[list[str], npt.NDArray[np.float32]]:
    """Embed the genes of the reference release: (genes,) Entrez ids and (genes, d) float32."""
    progress(f"{encoder.title}: embedding {len(packaged.entity_ids):,} genes")
    vectors = LocalEmbedder(registry, packaged).embed(encoder, progress)
    ids = pl.Series(vectors.entity_ids, dtype=pl.String).str.strip_prefix("ncbigene:")
    return ids.to_list(), vectors.matrix


def _sentence_encoder(model: str, name: str, revision: str | None) -> Encoder:
    return Encoder(
        id=re.sub(r"\W+", "_", name).strip("_").lower() or "model",
        title=name,
        modality="text",
        loader="sentence_transformer",
        model=model,
        revision=revision,
        template=TEMPLATE,
        missing="skip",
    )


def _newest_commit(name: str) -> str:
    """The commit of the main branch: of the copy on this machine, else of the hub."""
    from huggingface_hub import HfApi, constants

    folder = Path(constants.HF_HUB_CACHE) / f"models--{name.replace('/', '--')}"
    stored = folder / "refs" / "main"
    if stored.is_file() and COMMIT.match(commit := stored.read_text().strip()):
        return commit
    try:
        return str(HfApi().model_info(name).sha)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise EncoderError(
            f"hf:{name}: its commit cannot be looked up ({reason}); name it: hf:{name}@<40 digits>"
        ) from error
