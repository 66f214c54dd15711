"""Augmentation: geometry moves picture and mask alike and never invents a class; color leaves masks alone."""

import colorsys

import pytest
import torch

from kerbseg.core.distributed import Rank
from kerbseg.core.types import VOID
from kerbseg.data.augment import Color, Geometry


def ramp(n: int, height: int, width: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Pictures whose color tells the class: class c is drawn as gray (c + 1) / 10."""
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
    geometry, color = Geometry(0.5, (0.5, 2), 10, (0.1, 0.1)), Color(1, 0.4, 0.4, 0.4, 0.1, 0.5)
    results = []
    for _ in range(2):
        torch.manual_seed(3)
        moved, ids = geometry(image, mask, (32, 48))
        results.append((color(moved), ids))
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
    color = Color(hue_factor=0.6)
    same = color(red[None, :, None, None].expand(4, 3, 8, 8))
    assert torch.allclose(same, red[None, :, None, None].expand(4, 3, 8, 8), atol=1e-4)
    turned = color(blue[None, :, None, None].expand(4, 3, 8, 8))
    assert ((turned - blue[None, :, None, None]).abs().amax(1) > 0.05).flatten(1).all(1).sum() >= 3
    assert torch.allclose(turned.amax(1), torch.ones(4, 8, 8), atol=1e-4)  # brightness stays


def flat(*color: float, n: int = 200) -> torch.Tensor:
    return torch.tensor(color)[None, :, None, None].expand(n, 3, 4, 4).contiguous()


def test_gamma_takes_all_values_to_one_power_dark_as_often_as_bright():
    torch.manual_seed(0)
    changed = Color(gamma=0.4)(flat(0.5, 0.2, 0.8, n=1000))
    exponent = changed.log() / flat(0.5, 0.2, 0.8, n=1).log()
    assert torch.allclose(exponent, exponent[:, :1, :1, :1].expand_as(exponent), atol=1e-4)
    drawn = exponent[:, 0, 0, 0].log()
    assert (drawn.min().item(), drawn.max().item()) == pytest.approx((-0.4, 0.4), abs=0.01)
    assert drawn.mean().item() == pytest.approx(0, abs=0.03)


def test_each_channel_has_a_gain_of_its_own_and_white_stays_in_range():
    torch.manual_seed(0)
    gains = Color(channel_balance=0.12)(flat(0.5, 0.5, 0.5, n=1000))[..., 0, 0] / 0.5
    assert (gains.min().item(), gains.max().item()) == pytest.approx((0.88, 1.12), abs=0.005)
    assert torch.corrcoef(gains.T).triu(1).abs().max() < 0.1
    assert Color(channel_balance=0.5)(flat(1.0, 1.0, 1.0)).max() == 1


def test_gray_goes_its_way_towards_the_brightness_and_leaves_it():
    image = torch.rand(3, 3, 8, 8)
    luma = 0.299 * image[:, :1] + 0.587 * image[:, 1:2] + 0.114 * image[:, 2:]  # ITU-R BT.601
    assert torch.allclose(Color(gray=1.0)(image), luma.expand_as(image), atol=1e-6)
    assert torch.allclose(Color(gray=0.25)(image), 0.75 * image + 0.25 * luma, atol=1e-6)


def test_blur_spreads_a_point_by_up_to_its_strength_and_loses_no_light():
    torch.manual_seed(0)
    image = torch.zeros(300, 3, 31, 31)
    image[:, :, 15, 15] = 1
    blurred = Color(blur=2.0)(image)
    assert torch.allclose(blurred.sum((2, 3)), torch.ones(300, 3), atol=1e-4)
    away = (torch.arange(31) - 15.0) ** 2
    along_x, along_y = ((blurred[:, 0].sum(axis) * away).sum(1).sqrt() for axis in (1, 2))
    assert torch.allclose(along_x, along_y, atol=1e-3)
    assert along_x.min() < 0.1
    assert 1.85 < along_x.max() < 2.0  # the kernel ends at three deviations
    whole = torch.full((4, 3, 9, 9), 0.7)
    assert torch.allclose(Color(blur=3.0)(whole), whole, atol=1e-5), "the border darkens"


def test_noise_has_up_to_its_deviation_and_no_color():
    torch.manual_seed(0)
    image = torch.full((200, 3, 24, 24), 0.5)
    noise = Color(noise=0.1)(image) - image
    deviation = noise.flatten(1).std(1)
    assert (deviation.min().item(), deviation.max().item()) == pytest.approx((0, 0.1), abs=0.004)
    assert deviation.mean().item() == pytest.approx(0.05, abs=0.005)
    assert abs(noise.mean().item()) < 1e-3
    normed = (noise[deviation > 0.02] / deviation[deviation > 0.02, None, None, None]).transpose(0, 1)
    assert torch.corrcoef(normed.flatten(1)).triu(1).abs().max() < 0.02, "channels share their noise"
    assert (normed.abs() < 1).float().mean().item() == pytest.approx(0.683, abs=0.01)  # a Gaussian's
    clipped = Color(noise=0.5)(image.round())
    assert (clipped.min(), clipped.max()) == (0, 1)


PHOTOMETRIC = {"gamma": 0.5, "channel_balance": 0.5, "gray": 0.5, "blur": 20.0, "noise": 0.5}


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_a_probability_is_the_share_of_pictures_that_change(name):
    torch.manual_seed(0)
    image = torch.rand(400, 3, 8, 8)

    def share(**settings: float) -> float:
        changed = Color(**{name: PHOTOMETRIC[name], **settings})(image)
        return ((changed - image).abs().amax((1, 2, 3)) > 1e-5).float().mean().item()

    assert share() > 0.98
    assert share(**{f"{name}_p": 0.3}) == pytest.approx(0.3, abs=0.07)
    assert share(**{f"{name}_p": 0.5, "color_p": 0.5}) == pytest.approx(0.25, abs=0.07)
    assert share(**{f"{name}_p": 0.0}) == 0


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_a_seed_decides_and_ranks_share_what_one_draws(name):
    image = torch.rand(6, 3, 8, 8)

    def changed(rows: slice, rank: Rank) -> torch.Tensor:
        torch.manual_seed(3)
        return Color(**{name: PHOTOMETRIC[name], f"{name}_p": 0.7}, rank=rank)(image[rows])

    whole = changed(slice(None), Rank())
    assert torch.equal(whole, changed(slice(None), Rank()))
    halves = [changed(slice(3 * i, 3 * i + 3), Rank(i, 2)) for i in range(2)]
    assert torch.equal(torch.cat(halves), whole)
    assert len((whole - image).flatten(1).abs().sum(1).unique()) > 2, "all pictures change alike"


@pytest.mark.parametrize("name", PHOTOMETRIC)
def test_a_network_in_bfloat16_sees_the_same_pictures(name):
    image, changed = torch.rand(4, 3, 8, 8), []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            changed.append(Color(**{name: PHOTOMETRIC[name]})(image))
    assert torch.equal(*changed)


def test_scales_by_steps_are_the_lowest_the_highest_and_those_between():
    geometry = Geometry(scale=(0.5, 2.1), scale_step=0.1)
    torch.manual_seed(0)
    drawn = geometry._scales(4000, (10, 10), (10, 10))[:, 0]
    values, counts = drawn.unique(return_counts=True)
    assert torch.allclose(values, torch.arange(5, 22) / 10)
    assert counts.min() > 150  # of 235


@pytest.mark.parametrize("resample", [None, "bilinear"])
@pytest.mark.parametrize("flip", [0.0, 1.0])
def test_a_smaller_picture_lies_in_the_corner_and_a_larger_one_anywhere(resample, flip):
    """Padded at the right and below, then mirrored."""
    image, mask = torch.ones(20, 3, 8, 16), torch.zeros(20, 8, 16, dtype=torch.uint8)
    geometry = Geometry(flip=flip, cornered=True, resample=resample)
    _, placed = geometry(image, mask, (12, 20))
    columns = slice(4, 20) if flip else slice(0, 16)
    assert (placed[:, :8, columns] == 0).all()
    assert (placed != VOID).sum() == 20 * 8 * 16
    ramp = torch.arange(16.0).expand(20, 3, 8, 16) / 255
    torch.manual_seed(0)
    cropped, _ = geometry(ramp, mask, (12, 6))  # lower than the canvas, and wider
    starts = (cropped[:, 0, 2, 5 if flip else 0] * 255).round()
    assert len(starts.unique()) > 3


@pytest.mark.parametrize("resample", [None, "bilinear"])
def test_gray_is_what_a_picture_has_outside_where_it_is_told_so(resample):
    image, mask = torch.rand(3, 3, 8, 16), torch.zeros(3, 8, 16, dtype=torch.uint8)
    placed, ids = Geometry(cornered=True, border="gray", resample=resample)(image, mask, (12, 20))
    assert torch.allclose(placed[:, :, :8, :16], image, atol=1e-6)
    assert (placed[(ids == VOID)[:, None].expand_as(placed)] == 0.5).all()


def test_changes_of_color_have_probabilities_where_they_are_told():
    image = torch.rand(400, 3, 2, 2) * 0.4 + 0.3
    for key in ("brightness", "contrast", "saturation", "hue"):
        torch.manual_seed(0)
        changed = Color(**{key: 0.3, f"{key}_p": 0.5})(image)
        share = ((changed - image).abs().amax((1, 2, 3)) > 1e-5).float().mean()
        assert share == pytest.approx(0.5, abs=0.08), key


def test_shuffled_changes_come_in_every_order():
    """Of one gray value: contrast about the mean leaves it, so brightness alone shows; of two, the order shows."""
    image = torch.tensor([0.2, 0.4]).expand(300, 3, 1, 2).clone()
    torch.manual_seed(0)
    settings = {"brightness": 0.5, "contrast": 0.5, "saturation": 0.5, "hue": 0.07, "shuffle": True}
    changed = Color(**settings)(image)
    assert (changed != image).flatten(1).any(1).float().mean() > 0.95
    torch.manual_seed(0)
    halves = {f"{key}_p": 0.5 for key in ("brightness", "contrast", "saturation", "hue")}
    some = Color(**settings, **halves)(image)
    still = ((some - image).abs() < 1e-6).flatten(1).all(1).float().mean()
    assert still == pytest.approx(0.25, abs=0.08)  # gray: saturation and hue show nothing
    torch.manual_seed(0)
    only = Color(brightness=0.5, shuffle=True)(image)
    torch.manual_seed(0)
    assert torch.allclose(only, Color(brightness=0.5)(image))  # one alone has no order

    class HighestInSomeOrder(Highest):
        def uniform(self, n, low=0.0, high=1.0, *more):
            return Rank().uniform(n, low, high, *more) if more else super().uniform(n, low, high)

    bright = torch.tensor([0.5, 0.9]).expand(40, 3, 1, 2).clone()  # cut off at 1, or both orders were alike
    changed = Color(brightness=0.5, contrast=0.5, shuffle=True, rank=HighestInSomeOrder())(bright)
    first, second = Color(brightness=0.5, rank=Highest()), Color(contrast=0.5, rank=Highest())
    expected = [second(first(bright))[0], first(second(bright))[0]]
    taken = {next(i for i, each in enumerate(expected) if torch.allclose(each, one, atol=1e-4)) for one in changed}
    assert taken == {0, 1}
