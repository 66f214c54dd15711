"""Objects in masks against a flood fill, one pixel after the other."""

import numpy as np
import pytest

from kerbseg.data.objects import centers


def flooded(mask: np.ndarray, train_id: int, smallest: int) -> list[tuple[float, float]]:
    """The same by definition: what can be reached from a pixel over sides and corners is its object."""
    left = {(int(y), int(x)) for y, x in zip(*np.nonzero(mask == train_id), strict=True)}
    found = []
    while left:
        todo, reached = [left.pop()], []
        while todo:
            y, x = todo.pop()
            reached.append((y, x))
            near = {(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)} & left
            left -= near
            todo += near
        if len(reached) >= smallest:
            rows, columns = zip(*reached, strict=True)
            found.append((float(np.mean(columns)), float(np.mean(rows))))
    return sorted(found)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.35, 0.5, 0.8, 1.0])
@pytest.mark.parametrize("smallest", [1, 4])
def test_centres_are_those_of_a_flood_fill(share, smallest):
    for seed in range(8):
        random = np.random.default_rng(seed)
        mask = np.where(random.random((17, 23)) < share, 3, 1).astype(np.uint8)
        found = sorted(centers(mask, 3, smallest))
        expected = flooded(mask, 3, smallest)
        assert len(found) == len(expected)
        assert np.allclose(found, expected)


def test_a_class_that_is_not_there_has_no_objects():
    assert centers(np.zeros((4, 5), np.uint8), 2) == []


def test_a_ring_is_one_object_and_what_is_in_it_another():
    mask = np.zeros((9, 9), np.uint8)
    mask[1:8, 1:8] = 1
    mask[2:7, 2:7] = 0
    mask[4, 4] = 1
    assert sorted(centers(mask, 1)) == [(4.0, 4.0), (4.0, 4.0)]
