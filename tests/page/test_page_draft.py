"""The brush: pixels under it, strokes that are taken back, and what a browser sends that is none."""

import math

import numpy as np
import pytest

from kerbseg.core.errors import InputError
from kerbseg.core.types import VOID
from kerbseg.page.draft import STEPS, Draft, Stroke


def test_strokes_can_be_taken_back_and_pixels_put_back():
    predicted = np.zeros((4, 6), np.uint8)
    left = np.zeros((4, 6), bool)
    left[:, :3] = True
    draft = Draft.of(predicted).painted(left, 5)
    assert draft.ids.tolist() == [[5, 5, 5, 0, 0, 0]] * 4
    assert draft.changed == 12
    half = left.copy()
    half[2:] = False
    assert draft.painted(half, None).changed == 6
    assert draft.painted(half, VOID).ids[0, 0] == VOID
    assert draft.painted(left, 5) is draft
    assert draft.undone().changed == 0
    assert draft.undone().undone().ids is predicted
    assert predicted.sum() == 0


def test_steps_are_bounded_and_what_is_older_stays_painted():
    draft = Draft.of(np.zeros((1, 2 * STEPS), np.uint8))
    for n in range(2 * STEPS):
        draft = draft.painted(np.arange(2 * STEPS)[None] == n, 1)
    assert len(draft.steps) == STEPS
    for _ in range(2 * STEPS):
        draft = draft.undone()
    assert draft.ids[0].tolist() == [1] * STEPS + [0] * STEPS


def test_a_stroke_covers_what_is_within_its_radius_of_its_way():
    rows, columns = np.mgrid[:60, :80]
    where = Stroke(((10.0, 20.0), (60.0, 20.0)), 8.0).covers((60, 80))
    distance = np.hypot(columns - columns.clip(10, 60), rows - 20)
    assert where[distance <= 7].all()
    assert not where[distance >= 9.5].any()


def test_a_touch_is_a_disk_and_what_leaves_the_picture_is_cut_off():
    where = Stroke(((0.0, 0.0),), 3.0).covers((10, 12))
    assert where[0, 3]
    assert where[2, 2]
    assert not where[3, 3]
    assert where.sum() < 20
    assert not Stroke(((-50.0, -50.0),), 3.0).covers((10, 12)).any()


@pytest.mark.parametrize(
    ("points", "radius"),
    [
        ([], 3),
        ([[1, 2]], 0),
        ([[1, 2]], 5000),
        ([[1, math.nan]], 3),
        ([[1]], 3),
        ("here", 3),
        (None, 3),
        ([[1, 2]], None),
        ([[1e9, 2]], 3),
    ],
)
def test_what_is_no_stroke_is_one_line(points, radius):
    with pytest.raises(InputError, match="stroke"):
        Stroke.parse(points, radius)


def test_what_a_browser_sends():
    assert Stroke.parse([[1, 2.5], [3, 4]], 6) == Stroke(((1.0, 2.5), (3.0, 4.0)), 6.0)
