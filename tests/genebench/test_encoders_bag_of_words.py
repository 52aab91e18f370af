"""Bag of words and TF-IDF, compared with scikit-learn."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.feature_extraction.text import CountVectorizer, TfidfVectorizer

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderInput, Vectors, load_encoder
from genebench.encoders.loaders.bag_of_words import most_frequent
from genebench.errors import EncoderError

TEXTS = [
    "This gene encodes a protein of the zinc finger family",
    "This gene encodes a kinase; the kinase is a protein",
    "A transcription factor, a zinc finger",
    "Kinase kinase KINASE",
]


def declare(loader: str, dimension: int | None = None, **arguments: object) -> Encoder:
    return Encoder.model_validate(
        {
            "id": "words",
            "title": "Words",
            "modality": "classical",
            "loader": loader,
            "template": "{symbol}",
            "dimension": dimension,
            "with": arguments,
        }
    )


def encode(encoder: Encoder, texts: list[str]) -> Vectors:
    ids = [f"hgnc:{i}" for i in range(len(texts))]
    done: list[int] = []
    vectors = load_encoder(encoder).encode(
        LoaderInput("gene", ids, [(t,) for t in texts]), done.append
    )
    assert sum(done) == len(texts)
    return vectors


def test_counts_equal_those_of_the_papers_vectorizer() -> None:
    expected = CountVectorizer(max_features=1024).fit_transform(TEXTS).toarray()
    matrix = encode(declare("bag_of_words", words=1024), TEXTS).matrix
    assert np.array_equal(matrix[:, : expected.shape[1]], expected)
    assert matrix.shape == (4, 1024)
    assert not matrix[:, expected.shape[1] :].any()


def test_the_most_frequent_words_are_kept_and_ties_go_to_the_alphabet() -> None:
    totals = np.array([3, 1, 3, 1, 3, 1])
    assert most_frequent(totals, 4).tolist() == [0, 1, 2, 4]


@given(st.permutations(range(len(TEXTS))), st.integers(1, 8))
@settings(max_examples=20)
def test_the_order_of_entities_never_decides_the_vocabulary(order: list[int], words: int) -> None:
    straight = encode(declare("bag_of_words", words=words), TEXTS).matrix
    shuffled = encode(declare("bag_of_words", words=words), [TEXTS[i] for i in order]).matrix
    assert np.array_equal(shuffled, straight[order])


def test_weights_equal_those_of_the_tfidf_vectorizer() -> None:
    expected = TfidfVectorizer().fit_transform(TEXTS).toarray()
    matrix = encode(declare("tfidf", words=None), TEXTS).matrix
    assert np.allclose(matrix, expected, atol=1e-6)


def test_the_decomposition_keeps_the_products_of_the_leading_part() -> None:
    weights = TfidfVectorizer().fit_transform(TEXTS).toarray()
    left, sizes, _ = np.linalg.svd(weights, full_matrices=False)
    expected = (left[:, :2] * sizes[:2]) @ (left[:, :2] * sizes[:2]).T
    matrix = encode(declare("tfidf", 2, words=None, components=2), TEXTS).matrix
    assert np.allclose(matrix @ matrix.T, expected, atol=1e-4)


def test_too_many_components_are_refused() -> None:
    with pytest.raises(EncoderError, match=r"lower `with\.components`"):
        encode(declare("tfidf", words=None, components=50), TEXTS)


def test_texts_without_words_are_refused() -> None:
    with pytest.raises(EncoderError, match="no words"):
        encode(declare("bag_of_words"), ["!", "?"])


def test_texts_that_are_not_aligned_are_refused() -> None:
    with pytest.raises(EncoderError, match="1 texts for 2 entities"):
        load_encoder(declare("bag_of_words")).encode(
            LoaderInput("gene", ["a", "b"], [("x",)]), print
        )
