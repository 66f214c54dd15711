"""Ids as runs: what comes back is what went in, whatever the picture."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from kerbseg.cluster import decode_runs, encode_runs
from kerbseg.core.errors import DataError


@given(arrays(np.uint8, st.tuples(st.integers(1, 12), st.integers(1, 12)), elements=st.sampled_from([0, 1, 18, 255])))
def test_runs_give_the_ids_back(ids):
    values, lengths = encode_runs(ids)
    assert (values.dtype, lengths.dtype) == (np.uint8, np.uint32)
    assert np.array_equal(decode_runs(values, lengths, ids.shape), ids)
    assert np.array_equal(np.repeat(values, lengths).reshape(ids.shape), ids), "without kerbseg, as the page says"
    assert (values[1:] != values[:-1]).all(), "two runs of one value would be one"


def test_a_picture_of_one_class_is_one_run():
    values, lengths = encode_runs(np.full((360, 480), 3, np.uint8))
    assert (values.tolist(), lengths.tolist()) == ([3], [172800])


def test_runs_go_over_the_ends_of_rows():
    values, lengths = encode_runs(np.array([[1, 2], [2, 1]], np.uint8))
    assert (values.tolist(), lengths.tolist()) == ([1, 2, 1], [1, 2, 1])


def test_runs_of_another_size_are_refused():
    values, lengths = encode_runs(np.zeros((4, 6), np.uint8))
    with pytest.raises(DataError, match="24 pixels, and 4x5 are 20"):
        decode_runs(values, lengths, (4, 5))
