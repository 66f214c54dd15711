"""Videos to read, and networks that need no time."""

import signal
from fractions import Fraction

import numpy as np
import pytest

from made_models import bright, made  # noqa: F401  fixtures


@pytest.fixture(autouse=True)
def signals_as_before():
    """The command leaves signals unheard once it was told to end, as its process does then."""
    signums = signal.SIGINT, signal.SIGTERM, signal.SIGHUP
    before = [signal.getsignal(signum) for signum in signums]
    yield
    for signum, handler in zip(signums, before, strict=True):
        signal.signal(signum, handler)


@pytest.fixture
def video_file():
    """What writes a video, and returns its path."""
    return write_video


def write_video(
    path,
    frames=7,
    rate=25,
    size=(32, 48),
    codec="libx264",
    pts=None,
    time_base=None,
    muxing=None,
    encoding=None,
    still=False,
):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    height, width = size
    generator = np.random.default_rng(0)
    with av.open(str(path), "w", options=muxing or {}) as file:
        stream = file.add_stream(codec, rate=rate, options=encoding or {})
        stream.width, stream.height = width, height
        stream.pix_fmt = "bgr0" if codec == "ffv1" else "yuv420p"
        if time_base:
            stream.codec_context.time_base = time_base
        for i in range(frames):
            if still:
                generator = np.random.default_rng(0)
            pixels = generator.integers(0, 256, (height, width, 3), np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            if pts is not None:
                frame.pts, frame.time_base = pts[i], time_base or Fraction(1, rate)
            file.mux(stream.encode(frame))
        file.mux(stream.encode(None))
    return path


@pytest.fixture
def times():
    """What reads the exact times of a video's frames, and its average rate."""
    av = pytest.importorskip("av", reason="PyAV is not installed")

    def read(path):
        with av.open(str(path)) as file:
            stream = file.streams.video[0]
            return [frame.pts * frame.time_base for frame in file.decode(stream)], stream.average_rate

    return read
