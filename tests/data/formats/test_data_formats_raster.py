"""An outline covers the pixels whose centers it encloses, as counted by hand, by rays and by pycocotools."""

import numpy as np
import pytest
from outlines import DOOR, HOUSE, PARTLY_OUT, SIZE, inside

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data.formats.raster import fill_ring
from kerbseg.data.formats.regions import Mark, Polygons, Runs, ellipse, paint, polygon, rectangle


def filled(points, size=SIZE):
    patch = fill_ring(np.array(points, float), size)
    whole = np.zeros(size, bool)
    whole[patch.top : patch.top + patch.mask.shape[0], patch.left : patch.left + patch.mask.shape[1]] = patch.mask
    return whole


def drawn(text):
    return np.array([[each == "#" for each in line] for line in text.split()])


def test_a_triangle_counted_by_hand():
    expected = drawn("""
        ........
        .####...
        .###....
        .##.....
        .#......
        ........
    """)
    assert (filled([(1, 1), (6, 1), (1, 6)], (6, 8)) == expected).all()  # the slope passes through centers


def test_half_a_pixel_counts_by_its_center():
    assert (filled([(0.5, 0.5), (2.5, 0.5), (2.5, 2.5), (0.5, 2.5)], (4, 4)) == drawn("##.. ##.. .... ....")).all()
    assert not filled([(0.6, 0.6), (1.4, 0.6), (1.4, 1.4), (0.6, 1.4)], (4, 4)).any()  # between the centers
    assert filled([(0.4, 0.4), (1.4, 0.4), (1.4, 1.4), (0.4, 1.4)], (4, 4)).sum() == 1


def test_a_hole_by_a_seam_stays_a_hole():
    outer, hole = [(1, 1), (7, 1), (7, 7), (1, 7)], [(3, 3), (3, 5), (5, 5), (5, 3)]
    mask = filled([*outer, outer[0], *hole, hole[0]], (8, 8))
    assert mask.sum() == 36 - 4
    assert not mask[3:5, 3:5].any()


@pytest.mark.parametrize("points", [HOUSE, DOOR, PARTLY_OUT, HOUSE[::-1], [(-9, -9), (60, -9), (60, 60), (-9, 60)]])
def test_rays_agree(points):
    assert (filled(points) == inside(points)).all()


def test_rays_agree_on_outlines_that_cross_themselves():
    generator = np.random.default_rng(3)
    for _ in range(20):
        points = generator.uniform(-10, 50, (7, 2)).tolist()
        assert (filled(points) == inside(points)).all()


def test_rings_that_share_edges_share_no_pixel_and_leave_none_out():
    middle = (17.5, 12.5)  # a pixel's center
    corners = [(0, 0), (22.5, 0), (40, 0), (40, 30), (11.5, 30), (0, 30)]
    parts = [filled([middle, one, other]) for one, other in zip(corners, corners[1:] + corners[:1], strict=True)]
    assert (np.sum(parts, axis=0) == 1).all()


@pytest.mark.parametrize("points", [[(50, 1), (60, 1), (55, 9)], [(1, -9), (9, -1), (3, -1)], [(3, 3), (9, 9), (6, 6)]])
def test_what_lies_outside_or_has_no_area_covers_nothing(points):
    assert not filled(points).any()


def test_pycocotools_agrees():
    coco = pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    generator = np.random.default_rng(0)
    size, different = (480, 640), 0
    for _ in range(60):
        angles = np.sort(generator.uniform(0, 2 * np.pi, generator.integers(3, 40)))
        radii = generator.uniform(20, 220) * generator.uniform(0.7, 1, len(angles))
        center = generator.uniform(0, size[::-1])  # some leave the picture
        points = center + np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)
        theirs = coco.decode(coco.frPyObjects([points.ravel().tolist()], *size))[..., 0].astype(bool)
        count = int((theirs != filled(points, size)).sum())
        assert count <= 0.001 * theirs.size
        different += count
    assert different <= 0.0002 * 60 * size[0] * size[1]


def test_an_ellipse_has_its_area_and_turns_clockwise():
    ring = ellipse(100, 100, 60, 20, "x", 30)
    mask = filled(ring, (200, 200))
    assert mask.sum() == pytest.approx(np.pi * 60 * 20, rel=0.002)
    rows, columns = np.nonzero(mask)
    assert (rows - rows.mean()) @ (columns - columns.mean()) > 0  # to the right it goes down
    assert (
        filled(rectangle(20, 10, 40, 12, "x", 90), (50, 50)) == filled(rectangle(29, 1, 31, 21, "x"), (50, 50))
    ).all()


@pytest.mark.parametrize(
    ("points", "says"),
    [
        ([(1, 1), (2, 2)], r"here: a polygon of 2 point\(s\)"),
        ([], r"a polygon of 0 point"),
        ([(1, 1), (2, 2), (float("nan"), 3)], "no place in a picture"),
        ([(1, 1), (2, 2), (float("inf"), 3)], "no place in a picture"),
        ([(1, 1), (2, 2), (1e300, 3)], "no place in a picture"),
    ],
)
def test_what_is_no_outline_is_refused(points, says):
    with pytest.raises(DataError, match=says):
        polygon(points, "here")


def test_the_smallest_lies_on_top_whoever_was_first():
    house, door = (Mark(name, Polygons((np.array(points),))) for name, points in (("house", HOUSE), ("door", DOOR)))
    ids = {"house": 1, "door": 2}
    for marks in ((house, door), (door, house)):
        mask = paint(marks, "smallest on top", SIZE, ids, 0)
        assert (mask == np.where(inside(DOOR), 2, inside(HOUSE))).all()
    assert not (paint((door, house), "as listed", SIZE, ids, VOID) == 2).any()
    crowd = Mark("door", Polygons((np.array(DOOR),)), beneath=True)
    assert not (paint((house, crowd), "smallest on top", SIZE, ids, 0) == 2).any()


def test_of_two_equal_ones_the_later_lies_on_top():
    marks = [Mark(name, Polygons((np.array(DOOR),))) for name in "ab"]
    assert set(np.unique(paint(marks, "smallest on top", SIZE, {"a": 1, "b": 2}, 0))) == {0, 2}


def test_parts_of_one_object_may_lie_anywhere():
    mask = paint([Mark("a", Polygons((np.array(DOOR), np.array(PARTLY_OUT))))], "as listed", SIZE, {"a": 1}, 0)
    assert (mask == (inside(DOOR) | inside(PARTLY_OUT))).all()


@pytest.mark.parametrize("corner", [(-1, -2), (28, 37), (30, 40), (-9, 3), (2, 3)])
def test_a_part_of_a_picture_is_cut_at_its_edges(corner):
    part = np.array([[1, 0, 1], [1, 1, 1]], bool)
    runs = Runs(np.array([0, 1, 1, 4]), (2, 3), corner)
    expected = np.zeros((60, 80), bool)
    expected[corner[0] + 10 : corner[0] + 12, corner[1] + 10 : corner[1] + 13] = part
    mask = paint([Mark("a", runs)], "as listed", SIZE, {"a": 1}, 0)
    assert (mask == expected[10:40, 10:50]).all()
