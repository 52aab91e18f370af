"""Controls: random, shuffled and oracle; validation of `Vectors`."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genebench.encoders.declaration import Encoder
from genebench.encoders.loader import LoaderInput, Vectors, load_encoder
from genebench.errors import EncoderError

IDS = st.lists(st.integers(1, 10**6).map("hgnc:{}".format), unique=True, min_size=2, max_size=40)


def declare(loader: str, **changes: object) -> Encoder:
    values = {"id": "c", "title": "C", "modality": "control", "loader": loader}
    return Encoder.model_validate(values | changes)


def silent(count: int) -> None:
    assert count >= 0


def noise(ids: list[str], seed: int = 0, entity_type: str = "gene") -> np.ndarray:
    encoder = declare("random", dimension=64, **{"with": {"seed": seed}})
    return load_encoder(encoder).encode(LoaderInput(entity_type, ids), silent).matrix


@given(IDS)
def test_noise_depends_on_the_entity_alone(ids: list[str]) -> None:
    whole = noise(ids)
    assert np.array_equal(whole[::-1], noise(ids[::-1]))
    assert np.array_equal(whole[:1], noise(ids[:1]))


def test_noise_is_standard_normal_and_uncorrelated() -> None:
    matrix = noise([f"hgnc:{i}" for i in range(4000)])
    assert abs(matrix.mean()) < 0.01
    assert abs(matrix.std() - 1) < 0.01
    assert abs(np.corrcoef(matrix[:2000].ravel(), matrix[2000:].ravel())[0, 1]) < 0.02


def test_seed_and_entity_type_change_the_noise() -> None:
    ids = ["hgnc:1", "hgnc:2"]
    assert not np.array_equal(noise(ids), noise(ids, seed=1))
    assert not np.array_equal(noise(ids), noise(ids, entity_type="disease"))


def shuffle(ids: list[str], seed: int = 0) -> Vectors:
    base = Vectors(ids, np.arange(len(ids), dtype=np.float32)[:, None])
    encoder = declare("shuffled", base="base", **{"with": {"seed": seed}})
    return load_encoder(encoder).encode(LoaderInput("gene", ids, vectors=lambda _: base), silent)


@given(IDS, st.integers(0, 5))
def test_a_shuffle_deals_every_vector_and_leaves_none_in_place(ids: list[str], seed: int) -> None:
    assigned = shuffle(ids, seed).matrix.ravel()
    assert sorted(assigned) == list(range(len(ids)))
    assert not (assigned == np.arange(len(ids))).any()


@given(IDS)
def test_a_shuffle_does_not_depend_on_the_order_of_rows(ids: list[str]) -> None:
    def deal(order: list[str]) -> dict[str, str]:
        return {i: order[int(v)] for i, v in zip(order, shuffle(order).matrix.ravel(), strict=True)}

    assert deal(ids) == deal(sorted(ids, reverse=True))


def test_a_shuffle_needs_a_base_with_vectors() -> None:
    encoder = declare("shuffled", base="base")
    with pytest.raises(
        EncoderError, match=r"needs the vectors of 'base'; pass LoaderInput\(vectors=\.\.\.\)"
    ):
        load_encoder(encoder).encode(LoaderInput("gene", ["hgnc:1"]), silent)
    empty = Vectors([], np.zeros((0, 3), np.float32))
    with pytest.raises(EncoderError, match="run `genebench embed base` first"):
        load_encoder(encoder).encode(LoaderInput("gene", [], vectors=lambda _: empty), silent)
    with pytest.raises(EncoderError, match="one vector cannot be shuffled"):
        shuffle(["hgnc:1"])


LABELS = pl.DataFrame(
    {
        "entity_id": ["hgnc:1", "hgnc:2", "hgnc:1", "hgnc:2", "hgnc:3", "hgnc:9"],
        "column": ["is_tf", "is_tf", "length", "length", "length", "is_tf"],
        "value": [1.0, 0.0, 10.0, 20.0, 30.0, 1.0],
    }
)


def test_the_oracle_lays_labels_side_by_side_and_standardises_numbers() -> None:
    inputs = LoaderInput("gene", ["hgnc:3", "hgnc:1", "hgnc:2"], labels=LABELS)
    matrix = load_encoder(declare("oracle")).encode(inputs, silent).matrix
    scale = np.std([10, 20, 30])
    rank = np.sqrt(1.5)
    expected = [[0, 10 / scale, rank], [1, -10 / scale, -rank], [0, 0, 0]]
    assert np.allclose(matrix, expected, atol=1e-6)


def test_the_oracle_does_not_depend_on_the_order_of_labels() -> None:
    ids = ["hgnc:1", "hgnc:2", "hgnc:3"]
    straight = load_encoder(declare("oracle")).encode(
        LoaderInput("gene", ids, labels=LABELS), silent
    )
    turned = load_encoder(declare("oracle")).encode(
        LoaderInput("gene", ids, labels=LABELS.reverse()), silent
    )
    assert np.array_equal(straight.matrix, turned.matrix)


def test_the_oracle_needs_labels() -> None:
    with pytest.raises(EncoderError, match="run `genebench curate` first"):
        load_encoder(declare("oracle")).encode(LoaderInput("gene", ["hgnc:1"]), silent)


@pytest.mark.parametrize(
    ("ids", "matrix", "said"),
    [
        (["a", "b"], np.zeros((1, 2)), "for 2 entities"),
        (["a", "a"], np.zeros((2, 2)), "more than one vector"),
        (["a", "b"], np.array([[0, 1], [np.nan, 1]]), "not finite, first that of 'b'"),
        (["a"], np.array([[np.inf]]), "not finite"),
    ],
)
def test_vectors_refuse_what_is_no_table_of_numbers(
    ids: list[str], matrix: np.ndarray, said: str
) -> None:
    with pytest.raises(EncoderError, match=said):
        Vectors(ids, matrix)


def test_vectors_are_float32_in_c_order_with_one_part_each() -> None:
    vectors = Vectors(["a", "b"], np.asfortranarray(np.ones((2, 3))))
    assert vectors.matrix.dtype == np.float32
    assert vectors.matrix.flags.c_contiguous
    assert vectors.n_parts.tolist() == [1, 1]
