"""Catalogue of the loaders: class, inputs and requirements of each, without importing it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Reads = Literal["text", "dna", "protein", "identifiers", "nothing", "vectors", "labels"]


@dataclass(frozen=True)
class LoaderEntry:
    """Catalogue entry of a loader.

    Args:
        module: Module of the loader's class; importing it imports no model library.
        name: Name of the loader's class.
        reads: What the loader reads of an entity to compute its vector.
        is_fitted: Whether a vector also depends on the other entities.
        needs: Fields that a declaration with this loader must have.
        files: Roles of the weight files that the loader reads.
        revision: Number in the encoder's digest; increase it when a change of the loader's code
            changes the vectors of an unchanged declaration.
    """

    module: str
    name: str
    reads: Reads
    is_fitted: bool = False
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    revision: int = 1


_PACKAGE = "genebench.encoders.loaders"

LOADERS: Mapping[str, LoaderEntry] = {
    "sentence_transformer": LoaderEntry(
        f"{_PACKAGE}.text", "SentenceTransformerLoader", "text",
        needs=("model", "template"),
    ),
    "bag_of_words": LoaderEntry(
        f"{_PACKAGE}.bag_of_words", "BagOfWords", "text", is_fitted=True, needs=("template",)
    ),
    "tfidf": LoaderEntry(
        f"{_PACKAGE}.bag_of_words", "Tfidf", "text", is_fitted=True, needs=("template",)
    ),
    "random": LoaderEntry(f"{_PACKAGE}.controls", "Random", "nothing", needs=("dimension",)),
    "shuffled": LoaderEntry(
        f"{_PACKAGE}.controls", "Shuffled", "vectors", is_fitted=True, needs=("base",)
    ),
    "oracle": LoaderEntry(f"{_PACKAGE}.controls", "Oracle", "labels", is_fitted=True, revision=2),
    "token_table": LoaderEntry(
        f"{_PACKAGE}.expression", "TokenTable", "identifiers",
        needs=("dimension", "files", "arguments"), files=("checkpoint", "vocabulary"),
    ),
    "precomputed": LoaderEntry(
        f"{_PACKAGE}.precomputed", "Precomputed", "identifiers", files=("vectors",)
    ),
    "esm": LoaderEntry(
        f"{_PACKAGE}.protein", "ProteinTransformer", "protein", files=("checkpoint",),
    ),
    "dna_transformer": LoaderEntry(
        f"{_PACKAGE}.dna", "DnaTransformer", "dna", needs=("model",)
    ),
    "composite": LoaderEntry(f"{_PACKAGE}.derived", "Composite", "vectors", needs=("base",)),
    "concat": LoaderEntry(f"{_PACKAGE}.derived", "Concat", "vectors", needs=("base",)),
    "pca": LoaderEntry(
        f"{_PACKAGE}.derived", "Pca", "vectors", is_fitted=True, needs=("base", "arguments")
    ),
    "row_count": LoaderEntry(
        f"{_PACKAGE}.study_bias", "RowCount", "identifiers", needs=("files", "arguments"),
        files=("table", "before"),
    ),
    "text_length": LoaderEntry(
        f"{_PACKAGE}.study_bias", "TextLength", "text", needs=("template",)
    ),
}  # fmt: skip


def suggest_loader(name: str) -> str:
    """Return a suggestion for an unknown loader: the most similar name, or the list of all."""
    near = difflib.get_close_matches(name, LOADERS, n=1)
    return (
        f", did you mean {near[0]!r}?"
        if near
        else f"; the loaders are {', '.join(sorted(LOADERS))}"
    )
