"""Augmentation: geometry moves picture and mask alike and never invents a class; colour leaves masks alone."""

import colorsys

import pytest
import torch

from kerbseg.core.distributed import Rank
from kerbseg.core.types import VOID
from kerbseg.data.augment import Color, Geometry


def ramp(n: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures whose colour tells the class: class c is drawn as grey (c + 1) / 10."""
    mask = (torch.arange(height)[:, None] // 8 + torch.arange(width) // 8) % 5
    mask = mask.to(torch.uint8).expand(n, -1, -1).contiguous()
    image = ((mask.float() + 1) / 10)[:, None].expand(-1, 3, -1, -1).contiguous()
    return image, mask


class Highest(Rank):
    """Draws the highest number of every range, so that a random change is a known one."""

    def uniform(self, n, low=0.0, high=1.0, *more):
        below = torch.nextafter(torch.tensor(float(high)), torch.tensor(float(low)))  # ranges are half-open
        return below.expand(n, *more)


class Lowest(Rank):
    """Draws the lowest number of every range."""

    def uniform(self, n, low=0.0, high=1.0, *more):
        return torch.full((n, *more), float(low))


def test_doing_nothing_changes_nothing():
    image, mask = ramp(2, 32, 48)
    same_image, same_mask = Geometry()(image, mask, (32, 48))
    assert torch.equal(image, same_image)
    assert torch.equal(mask, same_mask)


def test_a_flip_is_a_flip():
    image, mask = ramp(3, 32, 48)
    flipped_image, flipped_mask = Geometry(flip=1.0)(image, mask, (32, 48))
    assert torch.equal(flipped_mask, mask.flip(2))
    assert torch.allclose(flipped_image, image.flip(3), atol=1e-5)


@pytest.mark.parametrize(("drawn", "quarters"), [(Highest(), -1), (Lowest(), 1)])
def test_a_rotation_turns_and_does_nothing_else(drawn, quarters):
    generator = torch.Generator().manual_seed(0)
    mask = torch.randint(0, 5, (1, 33, 33), generator=generator).to(torch.uint8)
    image = ((mask.float() + 1) / 10)[:, None].expand(-1, 3, -1, -1).contiguous()
    turned_image, turned_mask = Geometry(rotate=90, rank=drawn)(image, mask, (33, 33))
    # y points down, so that a positive angle turns clockwise as one sees it; torch counts the other way
    assert torch.equal(turned_mask, mask.rot90(quarters, (1, 2)))
    assert torch.allclose(turned_image, image.rot90(quarters, (2, 3)), atol=1e-4)


@pytest.mark.parametrize("rotate", [10, 45, 170])
def test_a_rotation_keeps_lengths_and_handedness(rotate):
    torch.manual_seed(0)
    linear = Geometry(rotate=rotate).draw(200, (40, 60), (40, 60), 1.0)[:, :, :2]
    assert torch.allclose(linear @ linear.mT, torch.eye(2).expand(200, 2, 2), atol=1e-5)
    assert torch.allclose(linear.det(), torch.ones(200), atol=1e-5)
    angles = torch.atan2(linear[:, 1, 0], linear[:, 0, 0]).rad2deg()
    assert -rotate <= angles.min() < -0.9 * rotate
    assert 0.9 * rotate < angles.max() <= rotate


@pytest.mark.parametrize(
    ("translate", "drawn", "right", "down"),
    [((0.25, 0.0), Highest(), 12, 0), ((0.25, 0.0), Lowest(), -12, 0), ((0.0, 0.25), Highest(), 0, 8)],
)
def test_the_first_of_a_shift_is_of_the_width_the_second_of_the_height(translate, drawn, right, down):
    _, mask = ramp(1, 32, 48)
    _, moved = Geometry(translate=translate, rank=drawn)(torch.rand(1, 3, 32, 48), mask, (32, 48))
    expected = torch.nn.functional.pad(mask, (right, -right, down, -down), value=VOID)
    assert torch.equal(moved, expected)


@pytest.mark.parametrize("seed", range(5))
def test_picture_and_mask_move_alike_and_outside_is_void(seed):
    torch.manual_seed(seed)
    image, mask = ramp(4, 64, 96)
    geometry = Geometry(flip=0.5, scale=(0.4, 2.0), rotate=20, translate=(0.3, 0.2))
    moved, ids = geometry(image, mask, (48, 80), zoom=0.9)
    assert moved.shape == (4, 3, 48, 80)
    assert ids.dtype == torch.uint8
    assert set(ids.unique().tolist()) <= {0, 1, 2, 3, 4, VOID}
    inside = ids != VOID
    drawn = (moved[:, 0] * 10 - 1).round()
    # along class borders the picture is interpolated and the mask is not; elsewhere they say the same
    share = (drawn == ids.float())[inside].float().mean()
    assert share > 0.75
    assert (moved[:, 0][~inside] < 0.5).all()


def test_what_lies_outside_is_void_not_class_0():
    image, mask = ramp(1, 32, 32)
    _, ids = Geometry(scale=(0.5, 0.5))(image, torch.zeros_like(mask), (32, 32))
    assert (ids == VOID).float().mean() == pytest.approx(0.75, abs=0.05)


def test_void_stays_void():
    image, mask = ramp(1, 32, 32)
    _, ids = Geometry(scale=(1.5, 1.5))(image, torch.full_like(mask, VOID), (32, 32))
    assert (ids == VOID).all()


def test_one_seed_one_augmentation():
    image, mask = ramp(4, 32, 48)
    geometry, colour = Geometry(0.5, (0.5, 2), 10, (0.1, 0.1)), Color(1, 0.4, 0.4, 0.4, 0.1, 0.5)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        moved, ids = geometry(image, mask, (32, 48))
        results.append((colour(moved), ids))
    assert torch.equal(results[0][0], results[1][0])
    assert torch.equal(results[0][1], results[1][1])


def test_colour_changes_each_picture_its_own_way_and_stays_in_range():
    torch.manual_seed(0)
    image = torch.rand(4, 3, 32, 48)
    changed = Color(1, 0.5, 0.5, 0.5, 0.2, 1.0, (20, 60))(image)
    assert changed.min() >= 0
    assert changed.max() <= 1
    difference = (changed - image).abs().mean(dim=(1, 2, 3))
    assert (difference > 0.01).all()
    assert len(difference.unique()) == 4


@pytest.mark.parametrize(("drawn", "direction"), [(Highest(), 1), (Lowest(), -1)])
@pytest.mark.parametrize("turns", [1 / 12, 1 / 3])
def test_a_hue_is_in_turns_of_the_color_circle(turns, drawn, direction):
    hue, saturation, value = 0.1, 0.6, 0.9
    image = torch.tensor(colorsys.hsv_to_rgb(hue, saturation, value)).view(1, 3, 1, 1).expand(2, 3, 4, 4)
    expected = colorsys.hsv_to_rgb((hue + direction * turns) % 1, saturation, value)
    changed = Color(hue=turns, rank=drawn)(image.contiguous())
    assert changed[1, :, 2, 3].tolist() == pytest.approx(expected, abs=1e-4)


def test_a_closed_gate_changes_no_picture():
    image = torch.rand(4, 3, 16, 16)
    assert torch.allclose(Color(0.0, 0.5, 0.5, 0.5, 0.0, 1.0)(image), image, atol=1e-5)


def points(matrix: torch.Tensor, focus: torch.Tensor) -> torch.Tensor:
    return (matrix[:, :, :2] @ focus[..., None])[..., 0] + matrix[:, :, 2]


def test_a_point_of_interest_lies_on_the_canvas_wherever_it_was():
    torch.manual_seed(0)
    focus = torch.rand(200, 2) * torch.tensor([1023.0, 511.0])
    geometry = Geometry(flip=0.5, scale=(0.75, 2.0), rotate=20, stretch=1.0)
    seen = points(geometry.draw(200, (512, 1024), (384, 768), 1.0, focus), focus)
    assert (seen > -1e-2).all()
    assert (seen < torch.tensor([767.01, 383.01])).all()
    assert seen.std(0).min() > 50, "always at one place"
    # of a picture without one nothing is asked
    torch.manual_seed(1)
    free = geometry.draw(4, (512, 1024), (384, 768), 1.0)
    torch.manual_seed(1)
    assert torch.equal(geometry.draw(4, (512, 1024), (384, 768), 1.0, torch.full((4, 2), torch.nan)), free)


def test_the_object_that_is_asked_for_is_in_the_crop():
    torch.manual_seed(0)
    image, mask = torch.zeros(16, 3, 64, 128), torch.zeros(16, 64, 128, dtype=torch.uint8)
    mask[:, 40:44, 100:104] = 3
    focus = torch.tensor([[101.5, 41.5]]).expand(16, 2)
    _, with_it = Geometry(0.5, (1.0, 2.0))(image, mask, (16, 16), 1.0, focus)
    _, without = Geometry(0.5, (1.0, 2.0))(image, mask, (16, 16))
    assert (with_it == 3).flatten(1).any(1).all()
    assert not (without == 3).flatten(1).any(1).all()


def test_axes_are_stretched_apart():
    torch.manual_seed(0)
    matrix = Geometry(scale=(0.75, 2.0), stretch=1.0).draw(500, (64, 64), (64, 64), 1.0)
    x, y = matrix[:, 0, 0], matrix[:, 1, 1]
    assert (y.min() > 0.75, y.max() < 2.0) == (True, True)
    assert x.min() == 0.75  # clipped below only
    assert 2.5 < x.max() < 3.0
    assert ((x - y).abs() <= 1.0 + 1e-6).all()


def test_a_picture_that_became_too_small_fills_the_canvas():
    torch.manual_seed(0)
    image, mask = ramp(8, 40, 80)
    geometry = Geometry(scale=(0.2, 0.8), fill=True)
    _, ids = geometry(image, mask, (24, 32))
    assert (ids != VOID).all()
    _, ids = Geometry(scale=(0.2, 0.8))(image, mask, (24, 32))
    assert (ids == VOID).any()


def test_a_factor_of_the_hue_turns_colours_and_leaves_red():
    torch.manual_seed(0)
    red, blue = torch.tensor([1.0, 0.2, 0.2]), torch.tensor([0.2, 0.2, 1.0])
    colour = Color(hue_factor=0.6)
    same = colour(red[None, :, None, None].expand(4, 3, 8, 8))
    assert torch.allclose(same, red[None, :, None, None].expand(4, 3, 8, 8), atol=1e-4)
    turned = colour(blue[None, :, None, None].expand(4, 3, 8, 8))
    assert ((turned - blue[None, :, None, None]).abs().amax(1) > 0.05).flatten(1).all(1).sum() >= 3
    assert torch.allclose(turned.amax(1), torch.ones(4, 8, 8), atol=1e-4)  # brightness stays
