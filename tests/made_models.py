"""Networks that need no time, and fixtures of them."""

import numpy as np
import pytest

from kerbseg.bundle import BundleCard
from kerbseg.core.labels import label_set
from kerbseg.core.types import Preprocessing


class Made:
    """A runtime whose ids are made by a function of the picture."""

    name, device, precision, threads, size = "made", "cpu", "float32", 1, None

    def __init__(self, ids, input_size=(32, 48)):
        labels = label_set("camvid")
        self.card = BundleCard("mininet_v2_cpu", labels, Preprocessing(), input_size, len(labels))
        self._ids = ids

    def __call__(self, pictures):
        return np.stack([self._ids(picture) for picture in pictures])

    def logits(self, pictures):
        return np.eye(len(self.card.labels), dtype=np.float32)[self(pictures)].transpose(0, 3, 1, 2)


@pytest.fixture
def made():
    """What makes a runtime of a function."""
    return Made


@pytest.fixture
def bright():
    """A runtime that sees class 1 where it is bright, else class 0."""
    return Made(lambda picture: (picture[..., 1] > 127).astype(np.uint8))
