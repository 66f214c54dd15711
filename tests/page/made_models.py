"""Networks that need no time."""

import numpy as np

from kerbseg.bundle import BundleCard
from kerbseg.core.labels import label_set
from kerbseg.core.types import Preprocessing


class Made:
    """A runtime whose ids are made by a function of the picture."""

    name, device, precision, threads, size = "made", "cpu", "float32", 1, None

    def __init__(self, ids, labels=None, input_size=(32, 48)):
        labels = labels or label_set("camvid")
        self.card = BundleCard("mininet_v2_cpu", labels, Preprocessing(), input_size, len(labels))
        self._ids = ids

    def __call__(self, pictures):
        return np.stack([self._ids(picture) for picture in pictures])

    def logits(self, pictures):
        return np.eye(len(self.card.labels), dtype=np.float32)[self(pictures)].transpose(0, 3, 1, 2)
