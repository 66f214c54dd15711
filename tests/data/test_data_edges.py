"""Lines where classes meet: drawn in the whole mask, and carried wherever it goes."""

import numpy as np
import pytest
import torch

from kerbseg.core.types import VOID, Sample
from kerbseg.data.edges import EdgeLines
from kerbseg.data.loading import InMemory, OnDisk
from kerbseg.train.builders import augmentation
from kerbseg.train.recipe import Augment


def two_classes() -> np.ndarray:
    """Ids 3 | 4 with a rectangle of void."""
    mask = np.full((40, 60), 3, np.uint8)
    mask[:, 30:] = 4
    mask[10:20, 5:15] = VOID
    return mask


def test_a_line_is_as_wide_as_told_and_lies_where_classes_or_void_meet():
    mask = two_classes()
    lines = EdgeLines()(mask)
    assert lines.dtype == np.uint8
    assert set(np.unique(lines)) == {0, 1}
    [columns] = np.nonzero(lines[30])
    assert len(columns) == 4
    assert columns[0] <= 29 < 30 <= columns[-1]  # on both sides of the step
    assert lines[15, 3:8].any()
    assert lines[15, 12:17].any(), "void has a border as classes have"
    assert not lines[35:, :20].any()
    thin = EdgeLines(width=1)(mask)
    spread = np.zeros_like(lines)
    for y, x in np.argwhere(thin):  # a 4x4 square whose anchor is at (2, 2): from one before a pixel to two behind it
        spread[max(0, y - 1) : y + 3, max(0, x - 1) : x + 3] = 1
    assert np.array_equal(lines, spread)


def test_neighboring_ids_make_an_edge_as_far_ones_do():
    mask = np.zeros((20, 60), np.uint8)
    mask[:, 20:40] = 1
    mask[:, 40:] = 254
    lines = EdgeLines()(mask)
    assert lines[10, 18:22].any()
    assert lines[10, 38:42].any()


def test_no_line_begins_at_the_border_where_it_is_cleared():
    mask = two_classes()
    cleared, whole = EdgeLines(border=6)(mask), EdgeLines()(mask)
    assert whole[0].any()
    assert not cleared[:5].any()  # one row more than the border is reached by the width of the lines beside it
    assert np.array_equal(cleared[8:-8, 8:-8], whole[8:-8, 8:-8])
    assert not EdgeLines(border=30)(mask).any()


class Two:
    """Two samples of one size."""

    names = ("a", "b")

    def __len__(self) -> int:
        return 2

    def __getitem__(self, index: int) -> Sample:
        if index > 1:
            raise IndexError
        return Sample(np.zeros((40, 60, 3), np.uint8), np.roll(two_classes(), index, 1), self.names[index])


@pytest.mark.parametrize("kind", [InMemory, OnDisk])
def test_batches_have_lines_where_they_are_asked_for(kind):
    assert "edge" not in kind(Two()).__getitems__([0, 1])
    batch = kind(Two(), edges=EdgeLines(border=6)).__getitems__([1, 0])
    expected = np.stack([EdgeLines(border=6)(Two()[index].mask) for index in (1, 0)])
    assert torch.equal(batch["edge"], torch.from_numpy(expected))


@pytest.mark.parametrize(
    "settings",
    [
        {"scale": (0.5, 2.0), "rotate": 20.0, "translate": (0.3, 0.1), "turn": 5.0},
        {"scale": (0.5, 2.0), "resample": "bilinear"},
        {"shift": (3, 3), "flip": 1.0},
        {"flip": 0.5},
        {},
    ],
)
def test_lines_go_where_the_mask_goes_and_none_come_in_from_outside(settings):
    draw = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 3, (6, 24, 40), generator=draw).to(torch.uint8)
    image = torch.randint(0, 256, (6, 3, 24, 40), generator=draw, dtype=torch.uint8)
    batch = {"image": image, "mask": mask, "name": [""] * 6, "edge": (mask == 1).to(torch.uint8)}
    augment = augmentation(Augment(**settings), 1)
    torch.manual_seed(2)
    changed = augment(batch, 0)
    assert changed.edge.dtype == torch.uint8
    assert torch.equal(changed.edge, (changed.mask == 1).to(torch.uint8))
    assert changed.edge.any()
    torch.manual_seed(2)
    plain = augment({key: value for key, value in batch.items() if key != "edge"}, 0)
    assert plain.edge is None
    assert torch.equal(plain.mask, changed.mask)
    assert torch.equal(plain.image, changed.image)
