"""Regions and their IoU, against a flood fill and loops over pairs of regions."""

import numpy as np
import pytest

from kerbseg.core.types import VOID
from kerbseg.metrics.regions import RegionIou, label_regions


def flood(ids: np.ndarray) -> list[set[tuple[int, int]]]:
    """Regions by walking from pixel to pixel."""
    height, width = ids.shape
    left = {(y, x) for y in range(height) for x in range(width)}
    regions = []
    while left:
        region, border = set(), [left.pop()]
        while border:
            y, x = border.pop()
            region.add((y, x))
            around = {(y + v, x + u) for v in (-1, 0, 1) for u in (-1, 0, 1)} & left
            joined = {place for place in around if ids[place] == ids[y, x]}
            left -= joined
            border += joined
        regions.append(region)
    return regions


def noisy(generator, size, classes, share=0.5):
    """Blocks with holes: regions of many shapes."""
    ids = generator.integers(0, classes, (-(-size[0] // 3), -(-size[1] // 3)), np.uint8).repeat(3, 0).repeat(3, 1)
    ids = ids[: size[0], : size[1]].copy()
    holes = generator.random(size) < share / 4
    ids[holes] = generator.integers(0, classes, int(holes.sum()))
    return ids


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (20, 23)])
def test_regions_are_those_of_a_flood_fill(size):
    generator = np.random.default_rng(0)
    for classes in (1, 2, 4):
        ids = noisy(generator, size, classes)
        number, kind = label_regions(ids)
        assert (kind[number] == ids).all()
        regions = flood(ids)
        assert len(regions) == len(kind) == len(np.unique(number))
        assert all(len({number[place] for place in region}) == 1 for region in regions)


def test_a_spiral_is_one_region():
    ids = np.zeros((31, 31), np.uint8)
    y, x, steps, direction = 15, 15, 2, 0
    while 0 <= y < 31 and 0 <= x < 31:
        for _ in range(steps):
            if 0 <= y < 31 and 0 <= x < 31:
                ids[y, x] = 1
            y, x = y + (0, 1, 0, -1)[direction], x + (1, 0, -1, 0)[direction]
        direction = (direction + 1) % 4
        steps += 1
    _, kind = label_regions(ids)
    assert (kind == 1).sum() == 1
    assert len(kind) == len(flood(ids))


def test_region_iou_is_that_of_the_papers_formula():
    generator = np.random.default_rng(2)
    counter, figures = RegionIou(3), {}
    for _ in range(2):
        truth = noisy(generator, (40, 44), 3, 0.2)
        given = np.where(generator.random(truth.shape) < 0.2, noisy(generator, truth.shape, 3), truth).astype(np.uint8)
        truth[5:12, 5:30] = VOID
        counter.update(given, truth)
        masked = np.where(truth == VOID, VOID, given)
        predicted = flood(masked)
        for region in flood(truth):
            kind = int(truth[next(iter(region))])
            if kind == VOID or len(region) < 16:
                continue
            same = [each for each in predicted if masked[next(iter(each))] == kind]
            touching = set().union(*(each for each in same if each & region))
            others = {place for place in touching - region if truth[place] == kind}
            size = "small" if len(region) < 1024 else "medium"
            figures.setdefault((kind, size), []).append(
                (len(region), len(region & touching), len(region & touching) / len((region | touching) - others))
            )
    assert {size for _, size in figures} >= {"small"}
    for kind, sizes in enumerate(counter.by_class()):
        for size, found in sizes.items():
            expected = figures.get((kind, size), [])
            assert found.regions == len(expected)
            if expected:
                pixels, hits, ious = np.array(expected).sum(0)
                assert found.pixels == pixels
                assert found.recall == pytest.approx(hits / pixels)
                assert found.iou == pytest.approx(ious / len(expected))
    together = counter.by_size()["small"]
    assert together.regions == sum(len(each) for (_, size), each in figures.items() if size == "small")


def test_sizes_begin_at_their_bounds():
    counter = RegionIou(2)
    for area in (15, 16, 1023, 1024, 9215, 9216):
        truth = np.full((100, 100), VOID, np.uint8)
        truth.ravel()[:area] = 1
        counter.update(np.ones_like(truth), truth)
    assert [each.regions for each in counter.by_size().values()] == [2, 2, 1]
    assert all(each.iou == each.recall == 1 for each in counter.by_class()[1].values())
    assert counter.by_class()[0]["large"].iou is None


def test_regions_of_the_last_of_255_classes_are_its_own():
    counter = RegionIou(255)
    truth = np.full((40, 40), VOID, np.uint8)
    truth[:20, :20] = 254
    counter.update(truth, truth)
    regions = [[figures.regions for figures in each.values()] for each in counter.by_class()]
    assert regions == [[0, 0, 0]] * 254 + [[1, 0, 0]]
