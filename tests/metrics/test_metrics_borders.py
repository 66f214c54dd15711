"""Figures at borders, against plain loops over all pixels and against grids counted by hand."""

import math

import numpy as np
import pytest

from kerbseg.core.types import VOID
from kerbseg.metrics.borders import DISTANCES_PX, BandConfusions, BoundaryIou, near_border


def grid(*rows: str) -> np.ndarray:
    return np.array([[VOID if each == "." else int(each) for each in row] for row in rows], np.uint8)


def near_by_loops(ids: np.ndarray, distance: int, frame: bool) -> np.ndarray:
    """For each pixel a look at each pixel around it; pixels outside are another class where the frame counts."""
    height, width = ids.shape
    near = np.zeros(ids.shape, bool)
    for y in range(height):
        for x in range(width):
            for v in range(y - distance, y + distance + 1):
                for u in range(x - distance, x + distance + 1):
                    inside = 0 <= v < height and 0 <= u < width
                    near[y, x] |= ids[v, u] != ids[y, x] if inside else frame
    return near


@pytest.mark.parametrize("frame", [False, True])
def test_near_borders_are_those_of_plain_loops(frame):
    generator = np.random.default_rng(0)
    for size in ((1, 1), (1, 7), (9, 2), (11, 13), (6, 6)):
        for share in (0.03, 0.3):
            ids = (generator.random(size) < share).astype(np.uint8) * 3
            for distance in (1, 2, 3, 8):
                assert (near_border(ids, distance, frame) == near_by_loops(ids, distance, frame)).all()


def test_a_strip_is_what_erosion_takes_away():
    """Cheng et al. erode a mask, bordered by nothing, `width` times by 3x3 pixels."""
    ids = np.zeros((12, 14), np.uint8)
    ids[2:9, 3:12] = 1
    for width in (1, 2, 3):
        mask = np.pad(ids == 1, 1)
        for _ in range(width):
            padded = np.pad(mask, 1)
            mask = np.min([padded[y : y + 14, x : x + 16] for y in range(3) for x in range(3)], axis=0)
        strip = (ids == 1) & ~mask[1:-1, 1:-1]
        assert (((ids == 1) & near_border(ids, width, frame=True)) == strip).all()


def test_boundary_iou_of_a_grid_counted_by_hand():
    # 2 % of a diagonal of 8.5 is less than a pixel, so strips are one pixel wide
    truth = grid("000000", "000000", "011110", "011110", "011110", "011110")
    given = grid("000000", "000000", "001111", "001111", "001111", "001111")
    counter = BoundaryIou(2)
    counter.update(given, truth)
    # class 1: the truth's strip is its 4x4 without the inner 2x2 (12); so is the prediction's, one pixel to the right.
    # Both have 6: of columns 2..4 the upper and the lower row.
    # Class 0: all its 20 pixels touch the frame or class 1, in both; they share rows 0, 1 and column 0.
    assert counter.compute() == pytest.approx([16 / (20 + 20 - 16), 6 / (12 + 12 - 6)])


def test_boundary_iou_is_that_of_each_class_by_itself_summed_over_pictures():
    generator = np.random.default_rng(1)
    counter, overlap, union = BoundaryIou(4), np.zeros(4), np.zeros(4)
    for _ in range(3):
        truth = generator.integers(0, 3, (10, 12), np.uint8).repeat(9, 0).repeat(9, 1)  # strips are 3 pixels wide
        given = np.where(generator.random(truth.shape) < 0.01, generator.integers(0, 3, truth.shape), truth)
        given = given.astype(np.uint8)
        truth[20:40, :30] = VOID
        width = round(0.02 * math.hypot(*truth.shape))
        assert width == 3
        counter.update(given, truth)
        for train_id in range(4):
            strips = []
            for ids in (given, truth):
                mask = (ids == train_id) & (truth != VOID)
                padded = np.pad(mask, width)
                windows = np.lib.stride_tricks.sliding_window_view(padded, (2 * width + 1,) * 2)
                strips.append(mask & ~windows.all((2, 3)))
            overlap[train_id] += (strips[0] & strips[1]).sum()
            union[train_id] += (strips[0] | strips[1]).sum()
    found = counter.compute()
    assert found[:3] == pytest.approx(overlap[:3] / union[:3])
    assert 0.2 < found[0] < 0.999
    assert math.isnan(found[3]), "absent"


def test_bands_hold_the_pixels_within_their_distance():
    truth = np.zeros((4, 30), np.uint8)
    truth[:, 15:] = 1
    truth[0, 0] = VOID
    given = truth.copy()
    given[:, 12:15] = 1  # wrong: 1, 2, 3 pixels from the border
    given[given == VOID] = 0
    counter = BandConfusions(2)
    counter.update(given, truth)
    bands, interior = counter.compute()
    assert [*bands] == [*DISTANCES_PX]
    # within 1 px: columns 14 and 15, and three pixels beside void; within 3 px: columns 12..17, and around void
    assert bands[1].tolist() == [[3, 4], [0, 4]]
    assert bands[3].tolist() == [[15, 12], [0, 12]]
    total = bands[10] + interior
    assert total.tolist() == [[15 * 4 - 12 - 1, 12], [0, 60]]
