"""A small drive for tests."""

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest


def write_video(path: Path, frames: int) -> Path:
    """A video of 32x48 with 25 frames a second."""
    av = pytest.importorskip("av", reason="PyAV is not installed")
    generator = np.random.default_rng(0)
    with av.open(str(path), "w") as file:
        stream = file.add_stream("libx264", rate=Fraction(25))
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        for _ in range(frames):
            pixels = generator.integers(0, 256, (32, 48, 3), np.uint8)
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    return path
