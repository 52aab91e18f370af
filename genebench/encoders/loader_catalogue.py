"""What is known of each loader without importing it."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Reads = Literal["text", "dna", "protein", "identifiers", "nothing", "vectors", "labels"]


@dataclass(frozen=True)
class LoaderEntry:
    """One loader.

    Args:
        module: Where its class is; importing it loads no model library.
        name: Its class.
        reads: What of an entity decides its vector.
        is_fitted: Whether a vector depends on the other entities too.
        needs: Fields of a declaration that it cannot do without.
        files: Roles of the weight files it reads.
        revision: Raised when its code gives other vectors from the same declaration.
    """

    module: str
    name: str
    reads: Reads
    is_fitted: bool = False
    needs: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    revision: int = 1


_HERE = "genebench.encoders.loaders"

LOADERS: Mapping[str, LoaderEntry] = {
    "sentence_transformer": LoaderEntry(
        f"{_HERE}.text", "SentenceTransformerLoader", "text",
        needs=("model", "template"),
    ),
    "bag_of_words": LoaderEntry(
        f"{_HERE}.words", "BagOfWords", "text", is_fitted=True, needs=("template",)
    ),
    "tfidf": LoaderEntry(f"{_HERE}.words", "Tfidf", "text", is_fitted=True, needs=("template",)),
    "random": LoaderEntry(f"{_HERE}.controls", "Random", "nothing", needs=("dimension",)),
    "shuffled": LoaderEntry(
        f"{_HERE}.controls", "Shuffled", "vectors", is_fitted=True, needs=("base",)
    ),
    "oracle": LoaderEntry(f"{_HERE}.controls", "Oracle", "labels", is_fitted=True, revision=2),
    "token_table": LoaderEntry(
        f"{_HERE}.expression", "TokenTable", "identifiers",
        needs=("dimension", "files", "arguments"), files=("checkpoint", "vocabulary"),
    ),
    "precomputed": LoaderEntry(
        f"{_HERE}.precomputed", "Precomputed", "identifiers", files=("vectors",)
    ),
    "esm": LoaderEntry(
        f"{_HERE}.protein", "ProteinTransformer", "protein", files=("checkpoint",),
    ),
    "dna_transformer": LoaderEntry(
        f"{_HERE}.dna", "DnaTransformer", "dna", needs=("model",)
    ),
    "composite": LoaderEntry(f"{_HERE}.derived", "Composite", "vectors", needs=("base",)),
    "concat": LoaderEntry(f"{_HERE}.derived", "Concat", "vectors", needs=("base",)),
    "pca": LoaderEntry(
        f"{_HERE}.derived", "Pca", "vectors", is_fitted=True, needs=("base", "arguments")
    ),
    "row_count": LoaderEntry(
        f"{_HERE}.study_bias", "RowCount", "identifiers", needs=("files", "arguments"),
        files=("table",),
    ),
    "text_length": LoaderEntry(
        f"{_HERE}.study_bias", "TextLength", "text", needs=("template",)
    ),
}  # fmt: skip


def suggest_loader(name: str) -> str:
    """A hint for an unknown loader: the nearest name, else all of them."""
    near = difflib.get_close_matches(name, LOADERS, n=1)
    return f", did you mean {near[0]!r}?" if near else f"; there are {', '.join(sorted(LOADERS))}"
