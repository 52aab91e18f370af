"""Loaders of the text baselines bag of words and TF-IDF, both fitted on all texts."""

from collections.abc import Callable
from typing import Annotated, Any, ClassVar

import numpy as np
import numpy.typing as npt
from pydantic import Field

from genebench.encoders.declaration import Arguments, Encoder
from genebench.encoders.loader import DeclaredLoader, LoaderInput, Vectors, check_dimension
from genebench.errors import EncoderError


class BagOfWordsArguments(Arguments):
    """Arguments of `bag_of_words`.

    Args:
        words: Size of the vocabulary, which holds the most frequent words of all texts.
    """

    words: Annotated[int, Field(gt=0)] = 1024


class TfidfArguments(BagOfWordsArguments):
    """Arguments of `tfidf`.

    Args:
        words: Size of the vocabulary before the decomposition; None uses all words.
        components: Number of components of the truncated SVD (latent semantic analysis); None
            keeps the words as columns.
        is_sublinear: Replace each count by 1 + log(count).
        seed: Seed of the randomised SVD.
    """

    words: Annotated[int, Field(gt=0)] | None = 1024  # type: ignore[assignment]
    components: Annotated[int, Field(gt=0)] | None = None
    is_sublinear: bool = False
    seed: int = 0


class BagOfWords(DeclaredLoader[BagOfWordsArguments]):
    """Counts of the most frequent words, as in the paper (Methods, bag of words).

    Equals `CountVectorizer(max_features=words)` of scikit-learn: lower case, tokens of at least two
    word characters, no stop words. Among words of equal frequency the alphabetically first ones
    are kept, so that the vocabulary does not depend on the order of the entities. If the texts
    have fewer words than columns, the last columns are zero.
    """

    Arguments: ClassVar[type[Arguments]] = BagOfWordsArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Count words: (n, words) integers."""
        from sklearn.feature_extraction.text import CountVectorizer

        texts = joined_texts(self.encoder, inputs)
        counts = _fit(CountVectorizer(), texts, self.encoder.id).tocsc()
        kept = most_frequent(np.asarray(counts.sum(axis=0)).ravel(), self.arguments.words)
        matrix = np.zeros((len(texts), self.arguments.words), np.float32)
        matrix[:, : len(kept)] = counts[:, kept].toarray()
        progress(len(texts))
        vectors = Vectors(list(inputs.entity_ids), matrix)
        return check_dimension(self.encoder, vectors)


class Tfidf(DeclaredLoader[TfidfArguments]):
    """TF-IDF weights with rows of unit length, optionally reduced by truncated SVD."""

    Arguments: ClassVar[type[Arguments]] = TfidfArguments

    def encode(self, inputs: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Compute TF-IDF weights: (n, words), or (n, components) after the SVD.

        Raises:
            EncoderError: There are too few texts or words for the components.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        texts = joined_texts(self.encoder, inputs)
        counts = _fit(CountVectorizer(), texts, self.encoder.id).tocsc()
        width = self.arguments.words or counts.shape[1]
        kept = most_frequent(np.asarray(counts.sum(axis=0)).ravel(), width)
        weights = TfidfTransformer(sublinear_tf=self.arguments.is_sublinear).fit_transform(
            counts[:, kept].astype(np.float64)
        )
        components = self.arguments.components
        if components is None:
            matrix = np.zeros((len(texts), width), np.float32)
            matrix[:, : len(kept)] = weights.toarray()
        elif components >= min(weights.shape):
            raise EncoderError(
                f"{self.encoder.id}: {weights.shape[0]} texts with {weights.shape[1]} words have "
                f"fewer than {components} components; lower `with.components`"
            )
        else:
            svd = TruncatedSVD(components, random_state=self.arguments.seed)
            matrix = svd.fit_transform(weights)
        progress(len(texts))
        vectors = Vectors(list(inputs.entity_ids), matrix)
        return check_dimension(self.encoder, vectors)


def joined_texts(encoder: Encoder, inputs: LoaderInput) -> list[str]:
    """Return one text per entity: its contents joined by spaces.

    Raises:
        EncoderError: The numbers of contents and ids differ.
    """
    if len(inputs.contents) != len(inputs.entity_ids):
        raise EncoderError(
            f"{encoder.id}: LoaderInput has {len(inputs.contents)} texts for "
            f"{len(inputs.entity_ids)} entities; pass one per entity"
        )
    return [" ".join(parts) for parts in inputs.contents]


def most_frequent(totals: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Return the columns of the n largest totals, sorted; ties go to the earlier column."""
    ranked = np.argsort(-totals, kind="stable")[:n]
    return np.sort(ranked)


def _fit(vectorizer: Any, texts: list[str], encoder_id: str) -> Any:
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        raise EncoderError(
            f"{encoder_id}: no words in {len(texts)} texts ({error}); run `genebench curate`, or "
            "correct the fields in `template`"
        ) from error
