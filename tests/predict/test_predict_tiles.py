"""Tiles: where the overlap is as wide as a network looks, there is no seam; what cannot be tiled is refused."""

from types import SimpleNamespace

import numpy as np
import pytest

from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.predict.tiles import segment_tiles


def looking(far: int, size: tuple[int, int] | None = None) -> SimpleNamespace:
    """A runtime whose ids depend on pixels so far away, to all sides, and on the picture's edges."""

    class Looking(SimpleNamespace):
        def __call__(self, pictures: np.ndarray) -> np.ndarray:
            assert self.size in (None, pictures.shape[1:3])
            self.largest = max(getattr(self, "largest", 0), pictures.shape[1] * pictures.shape[2])
            gray = np.pad(pictures[..., 0], ((0, 0), (far, far), (far, far)), mode="edge")
            height, width = pictures.shape[1:3]
            corners = [gray[:, y : y + height, x : x + width] for y in (0, 2 * far) for x in (0, 2 * far)]
            return np.max(corners, axis=0) % 7

    return Looking(size=size)


def noise(*size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3), np.uint8)


@pytest.mark.parametrize("size", [(700, 1000), (320, 320), (100, 90), (129, 321), (640, 192)])
def test_there_is_no_seam_where_the_overlap_is_as_wide_as_the_network_looks(size):
    picture, runtime = noise(*size), looking(64)
    whole = runtime(picture[None])[0]
    runtime.largest = 0
    assert (segment_tiles(runtime, picture, (320, 192), 64) == whole).all()
    assert runtime.largest <= 320 * 192


@pytest.mark.parametrize("size", [(700, 1000), (320, 192), (321, 500)])
def test_tiles_of_a_file_of_one_size_are_all_of_it(size):
    picture = noise(*size)
    assert (segment_tiles(looking(64, (320, 192)), picture, overlap=64) == looking(64)(picture[None])[0]).all()


def test_a_narrower_overlap_shows():
    picture = noise(700, 1000)
    assert (segment_tiles(looking(65), picture, (320, 192), 64) != looking(65)(picture[None])[0]).any()


@pytest.mark.parametrize(
    ("tile", "overlap", "message"),
    [
        (None, 64, "any size"),
        ((100, 192), 64, "multiples of 64"),
        ((192, 192), 32, "multiples of 64"),
        ((128, 192), 64, "more than twice"),
        ((192, 192), -64, "multiples of 64"),
    ],
)
def test_tiles_that_cannot_be_are_refused(tile, overlap, message):
    with pytest.raises(KerbsegError, match=message):
        segment_tiles(looking(1), noise(300, 300), tile, overlap)


def test_files_of_one_size_refuse_other_tiles_and_smaller_pictures():
    with pytest.raises(KerbsegError, match="320x192 only"):
        segment_tiles(looking(1, (320, 192)), noise(700, 700), (192, 192), 64)
    with pytest.raises(InputError, match="smaller"):
        segment_tiles(looking(1, (320, 192)), noise(300, 700), overlap=64)
