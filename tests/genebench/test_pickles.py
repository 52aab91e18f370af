"""Pickles that ask for more memory than they have data for are refused before they are read."""

import pickle
import pickletools
import struct

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from genebench.encoders.weights.checkpoints import read_pickle
from genebench.errors import EncoderError
from genebench.pickles import has_sparse_memo
from genebench.sources.readers.containers import FileError
from genebench.sources.readers.gene_sets import parse_pickle

LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
CONTAINERS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.tuples(inner, inner),
    max_leaves=30,
)


@given(value=CONTAINERS, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL), data=st.data())
def test_a_pickle_of_any_protocol_is_let_through_until_a_number_is_out_of_reach(
    value, protocol, data
):
    content = pickle.dumps(value, protocol)
    assert not has_sparse_memo(content)
    # Before each opcode but the first, which may state the protocol.
    places = [place for _, _, place in pickletools.genops(content)][1:]
    if places:
        place = data.draw(st.sampled_from(places))
        number = data.draw(st.sampled_from([b"r" + struct.pack("<I", 2**31), b"p2147483648\n"]))
        assert has_sparse_memo(content[:place] + number + content[place:])


def test_the_same_bytes_within_a_text_or_a_number_are_let_through():
    for value in ["r\xff\xff\xff\xff", b"r\xff\xff\xff\xff", "p99999999\n", 0.1]:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            assert not has_sparse_memo(pickle.dumps([value] * 3, protocol))


@given(
    st.binary(max_size=60) | st.binary(max_size=20).map(lambda rest: b"\x8e" + b"\xff" * 8 + rest)
)
def test_any_bytes_are_scanned_without_an_exception(content):
    has_sparse_memo(content)


@pytest.mark.parametrize("number", [b"r\xff\xff\xff\xff", b"p 4294967295\n", b"p+4_294_967_295\n"])
def test_both_readers_of_pickles_refuse_a_number_out_of_reach(tmp_path, number):
    content = b"\x80\x02}" + number + b"."
    path = tmp_path / "vectors.pickle"
    path.write_bytes(content)
    with pytest.raises(EncoderError, match="asks for more memory than it has data for"):
        read_pickle(path)
    with pytest.raises(FileError, match="asks for more memory than it has data for"):
        parse_pickle(content)


def test_vectors_in_a_pickle_are_read_as_before(tmp_path):
    vectors = {f"g{number}": [float(number), 0.5] for number in range(2000)}
    vectors["array"] = [np.float32(1.5)]
    for protocol in range(3, pickle.HIGHEST_PROTOCOL + 1):
        path = tmp_path / "vectors.pickle"
        path.write_bytes(pickle.dumps(vectors, protocol))
        assert read_pickle(path) == vectors
