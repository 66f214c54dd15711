"""Small streets, a task on them, and a network that needs no time."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.bundle_card import BundleCard
from kerbseg.cluster import ModelFiles, PredictTask
from kerbseg.core.labels import label_set
from kerbseg.core.types import Preprocessing


class Bright:
    """A runtime whose classes are four steps of brightness."""

    name, device, precision, threads, size = "bright", "cpu", "float32", 1, None

    def __init__(self):
        labels = label_set("camvid")
        self.card = BundleCard("mininet_v2_cpu", labels, Preprocessing(), (32, 48), len(labels))

    def __call__(self, pictures):
        return pictures[..., 1] // 64

    def with_confidence(self, pictures, **how):
        return self(pictures), (pictures[..., 0] / 255).astype(np.float32)


class BrightFiles(ModelFiles):
    """The same as files that travel."""

    def open(self, options):
        return Bright()


@pytest.fixture
def bright() -> Bright:
    """The runtime."""
    return Bright()


@pytest.fixture
def streets(tmp_path: Path) -> Path:
    """A folder with eight pictures of 32x48, one of them in a subfolder."""
    generator = np.random.default_rng(0)
    folder = tmp_path / "streets"
    for i in range(8):
        path = folder / ("inner" if i == 7 else "") / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        pixels = generator.integers(0, 256, (8, 12, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        Image.fromarray(pixels).save(path)
    return folder


@pytest.fixture
def task(tmp_path: Path) -> PredictTask:
    """The ids of pictures, as PNG."""
    return PredictTask(BrightFiles("bright", {"bright": b""}), str(tmp_path / "out"), words=("ids",))
