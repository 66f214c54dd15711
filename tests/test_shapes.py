"""Shapes that annotations name are checked while the tests run."""

import numpy as np
import pytest
import torch

from kerbseg.core.resize import resize_picture
from kerbseg.losses import cross_entropy


def test_a_wrong_type_is_told():
    with pytest.raises(TypeError, match=r"(?s)losses\.cross_entropy.*'mask'.*f32\[1,4,6\]"):
        cross_entropy(torch.zeros(1, 3, 4, 6), torch.zeros(1, 4, 6))


def test_dimensions_of_one_name_are_equal():
    with pytest.raises(TypeError, match=r"'mask'"):
        cross_entropy(torch.zeros(1, 3, 4, 6), torch.zeros(1, 4, 5, dtype=torch.uint8))


def test_numbers_of_channels_are_meant():
    with pytest.raises(TypeError, match=r"'picture'"):
        resize_picture(np.zeros((4, 6, 4), np.uint8), (4, 6))
