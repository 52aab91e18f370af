"""Bag of words and TF-IDF: the text baselines, fitted on every text at once."""

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
        words: Size of the vocabulary: the most frequent words of all texts.
    """

    words: Annotated[int, Field(gt=0)] = 1024


class TfidfArguments(BagOfWordsArguments):
    """Arguments of `tfidf`.

    Args:
        words: Size of the vocabulary before the decomposition; None takes every word.
        components: Keep so many singular vectors (latent semantic analysis); None keeps words.
        is_sublinear: 1 + log(count) in place of the count.
        seed: Of the randomised decomposition.
    """

    words: Annotated[int, Field(gt=0)] | None = 1024  # type: ignore[assignment]
    components: Annotated[int, Field(gt=0)] | None = None
    is_sublinear: bool = False
    seed: int = 0


class BagOfWords(DeclaredLoader[BagOfWordsArguments]):
    """Raw counts of the most frequent words, as the paper (Methods, bag of words).

    scikit-learn's `CountVectorizer(max_features=words)`: lower case, tokens of two word
    characters or more, no stop-word list. Words of equal frequency at the edge of the vocabulary
    are taken in alphabetical order, so that the order of the entities never decides it. Where the
    texts have fewer words, the last columns stay zero and the declared width holds.
    """

    Arguments: ClassVar[type[Arguments]] = BagOfWordsArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Count words; the matrix is (n, words) with whole numbers."""
        from sklearn.feature_extraction.text import CountVectorizer

        texts = joined_texts(self.encoder, reading)
        counts = _fit(CountVectorizer(), texts, self.encoder.id).tocsc()
        kept = most_frequent(np.asarray(counts.sum(axis=0)).ravel(), self.arguments.words)
        matrix = np.zeros((len(texts), self.arguments.words), np.float32)
        matrix[:, : len(kept)] = counts[:, kept].toarray()
        progress(len(texts))
        vectors = Vectors(list(reading.entity_ids), matrix)
        return check_dimension(self.encoder, vectors)


class Tfidf(DeclaredLoader[TfidfArguments]):
    """Term frequency times inverse document frequency, unit rows, optionally decomposed."""

    Arguments: ClassVar[type[Arguments]] = TfidfArguments

    def encode(self, reading: LoaderInput, progress: Callable[[int], None]) -> Vectors:
        """Weigh words; (n, words) or (n, components).

        Raises:
            EncoderError: There are fewer texts or words than components.
        """
        from sklearn.decomposition import TruncatedSVD
        from sklearn.feature_extraction.text import CountVectorizer, TfidfTransformer

        texts = joined_texts(self.encoder, reading)
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
                f"{self.encoder.id}: {components} components need more than {min(weights.shape)} "
                "texts and words; lower `with.components`"
            )
        else:
            svd = TruncatedSVD(components, random_state=self.arguments.seed)
            matrix = svd.fit_transform(weights)
        progress(len(texts))
        vectors = Vectors(list(reading.entity_ids), matrix)
        return check_dimension(self.encoder, vectors)


def joined_texts(encoder: Encoder, reading: LoaderInput) -> list[str]:
    """One text for each entity: its parts with a space between.

    Raises:
        EncoderError: Contents and ids differ in number.
    """
    if len(reading.contents) != len(reading.entity_ids):
        raise EncoderError(
            f"{encoder.id}: {len(reading.contents)} texts for {len(reading.entity_ids)} entities"
        )
    return [" ".join(parts) for parts in reading.contents]


def most_frequent(totals: npt.NDArray[np.int64], n: int) -> npt.NDArray[np.int64]:
    """Columns of the n largest totals in column order; ties go to the earlier column."""
    ranked = np.argsort(-totals, kind="stable")[:n]
    return np.sort(ranked)


def _fit(vectorizer: Any, texts: list[str], encoder_id: str) -> Any:
    try:
        return vectorizer.fit_transform(texts)
    except ValueError as error:
        raise EncoderError(
            f"{encoder_id}: no words in {len(texts)} texts ({error}); run curate, "
            "or check the template's fields against the inputs"
        ) from error
