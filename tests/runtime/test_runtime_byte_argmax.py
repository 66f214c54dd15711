"""The class of uint8 logits by wide registers, against numpy's argmax."""

import numpy as np
import pytest

from kerbseg.runtime.byte_argmax import byte_argmax
from kerbseg.runtime.upsample_argmax import UpsampleArgmax


@pytest.mark.parametrize("levels", [2, 256])
@pytest.mark.parametrize("classes", [1, 2, 11, 15, 16, 17, 19, 31, 32, 33, 150])
def test_ids_are_those_of_argmax_and_the_first_of_equal_levels_wins(classes, levels):
    logits = np.random.default_rng(classes).integers(0, levels, (2, 13, 17, classes)).astype(np.uint8)
    stage = UpsampleArgmax((13, 17), (13, 17), False, (11, 15), threads=2)
    assert (stage(logits) == logits.argmax(3)[:, :11, :15]).all()
    turned = np.ascontiguousarray(logits.transpose(0, 3, 1, 2)).transpose(0, 2, 3, 1)
    assert (stage(turned) == stage(logits)).all()


def test_what_lies_behind_a_pixel_does_not_win():
    levels = np.array([3, 5, 4, 255, 255, 255] * 8, np.uint8)
    ids = np.zeros((1, 1, 16), np.uint8)
    byte_argmax(levels, np.array([1, 16, 3]), ids, 0, 1)
    assert (ids[0, 0] == [1, 0] * 8).all()
