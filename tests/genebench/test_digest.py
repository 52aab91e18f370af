"""Digests depend on the content of frames and values, not on order or chunking."""

import math

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genebench.digest import digest_bytes, digest_frame, digest_json, digest_strings, digest_vectors
from genebench.errors import GenebenchError

rows = st.lists(
    st.tuples(
        st.one_of(st.none(), st.text(max_size=5)),
        st.one_of(st.none(), st.integers(-(2**62), 2**62)),
        st.one_of(st.none(), st.floats(allow_nan=False)),
        st.one_of(st.none(), st.booleans()),
    ),
    max_size=8,
)
SCHEMA = {"s": pl.String, "i": pl.Int64, "f": pl.Float64, "b": pl.Boolean}


def frame_of(values):
    return pl.DataFrame(values, schema=SCHEMA, orient="row")


@given(rows, st.randoms())
def test_row_order_column_order_and_chunks_do_not_count(values, random):
    frame = frame_of(values)
    shuffled = list(values)
    random.shuffle(shuffled)
    other = frame_of(shuffled).select("b", "f", "s", "i")
    if len(values) > 1:
        other = pl.concat([other[:1], other[1:]], rechunk=False)
    assert digest_frame(other) == digest_frame(frame)


@given(rows, rows)
def test_equal_digests_mean_equal_rows(left, right):
    def canonical(values):
        return sorted(
            map(repr, ((s, i, None if f is None else f + 0.0, b) for s, i, f, b in values))
        )

    same = canonical(left) == canonical(right)
    assert (digest_frame(frame_of(left)) == digest_frame(frame_of(right))) == same


def test_a_null_is_neither_an_empty_text_nor_a_zero():
    for name, dtype, value in (("s", pl.String, ""), ("i", pl.Int64, 0), ("f", pl.Float64, 0.0)):
        null = pl.DataFrame({name: [None]}, schema={name: dtype})
        empty = pl.DataFrame({name: [value]}, schema={name: dtype})
        assert digest_frame(null) != digest_frame(empty)


def test_the_name_of_a_column_counts():
    assert digest_frame(pl.DataFrame({"a": [1]})) != digest_frame(pl.DataFrame({"b": [1]}))


def test_where_texts_end_counts():
    left, right = pl.DataFrame({"s": ["ab", "c"]}), pl.DataFrame({"s": ["a", "bc"]})
    assert digest_frame(left) != digest_frame(right)
    assert digest_bytes(b"ab", b"c") != digest_bytes(b"a", b"bc")


def test_a_list_column_is_refused_by_name():
    with pytest.raises(GenebenchError, match="column 'v'"):
        digest_frame(pl.DataFrame({"v": [[1.0]]}))


@given(st.lists(st.text(max_size=4), max_size=6), st.randoms())
def test_a_collection_of_strings_has_no_order_but_counts_repeats(values, random):
    shuffled = list(values)
    random.shuffle(shuffled)
    assert digest_strings(shuffled) == digest_strings(values)
    assert digest_strings([*values, "x"]) != digest_strings([*values, "x", "x"])


def test_json_digests_ignore_the_order_of_keys_and_refuse_nan():
    assert digest_json({"a": 1, "b": [2]}) == digest_json({"b": [2], "a": 1})
    with pytest.raises(ValueError, match="Out of range"):
        digest_json(math.nan)


def test_vectors_are_digested_row_by_row_whatever_their_memory_layout():
    matrix = np.arange(12, dtype=np.float32).reshape(3, 4)
    digests = digest_vectors(matrix)
    assert len(set(digests)) == 3
    assert digest_vectors(np.asfortranarray(matrix)) == digests
    assert digest_vectors(matrix.astype(np.float64)) == digests
    matrix[1, 2] = np.nextafter(matrix[1, 2], np.float32(99))
    assert [a == b for a, b in zip(digest_vectors(matrix), digests, strict=True)] == [
        True,
        False,
        True,
    ]
