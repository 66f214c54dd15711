"""Pictures resized as Pillow does it, and moved by whole pixels: Pillow itself, rolls and slices are the reference."""

import numpy as np
import pytest
import torch
from PIL import Image

from kerbseg.core.distributed import Rank
from kerbseg.core.types import VOID
from kerbseg.data.augment import Geometry, Turn
from kerbseg.data.whole_pixels import Axis, place

PILLOW = {
    "bilinear": Image.Resampling.BILINEAR,
    "lanczos": Image.Resampling.LANCZOS,
    "box": Image.Resampling.BOX,
}


def noise(n: int, height: int, width: int, classes: int = 5) -> tuple[torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(0)
    picture = torch.randint(0, 256, (n, 3, height, width), generator=draw) / 255
    return picture, torch.randint(0, classes, (n, height, width), generator=draw).to(torch.uint8)


def by_pillow(picture: torch.Tensor, *sizes: tuple[int, int], kind: str) -> torch.Tensor:
    image = Image.fromarray((picture * 255).round().to(torch.uint8).permute(1, 2, 0).numpy())
    for height, width in sizes:
        image = image.resize((width, height), PILLOW[kind])
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255


def whole(own: tuple[int, int], *sizes: tuple[int, int]) -> list[tuple[Axis, Axis]]:
    rows, columns = (
        Axis(side, tuple(size[axis] for size in sizes), 0, sizes[-1][axis]) for axis, side in enumerate(own)
    )
    return [(rows, columns)]


@pytest.mark.parametrize("kind", PILLOW)
@pytest.mark.parametrize("sizes", [[(32, 48)], [(19, 31)], [(90, 200)], [(13, 20), (40, 60)]])
def test_a_picture_is_resized_as_by_pillow(kind, sizes):
    picture, mask = noise(1, 64, 96)
    resized, _ = place(picture, mask, whole((64, 96), *sizes), kind)
    # Pillow rounds to bytes after each axis of each step
    assert (resized[0] - by_pillow(picture[0], *sizes, kind=kind)).abs().max() < (0.6 + 1.3 * len(sizes)) / 255


def test_a_mask_is_resized_by_the_pixel_under_the_middle():
    picture, mask = noise(1, 64, 96)
    _, ids = place(picture, mask, whole((64, 96), (32, 24)), "lanczos")
    assert torch.equal(ids, mask[:, 1::2, 2::4])
    _, ids = place(picture, mask, whole((64, 96), (16, 24), (32, 48)), "bilinear")
    coarse = mask[:, 2::4, 2::4]
    assert torch.equal(ids, coarse.repeat_interleave(2, 1).repeat_interleave(2, 2))


@pytest.mark.parametrize("border", ["black", "mirror"])
@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize("start", [-7, 0, 9])
def test_a_move_by_whole_pixels_loses_nothing(border, flipped, start):
    picture, mask = noise(1, 20, 30)
    axes = [(Axis(20, (20,), -3, 20), Axis(30, (30,), start, 30, flipped))]
    moved, ids = place(picture, mask, axes, "bilinear", border)
    picture, mask = (each.flip(-1) if flipped else each for each in (picture, mask))
    sides = (max(start, 0), max(-start, 0), 0, 3)
    padded = torch.nn.functional.pad(picture, sides, mode="reflect" if border == "mirror" else "constant")
    assert torch.equal(moved, padded[..., 3:, max(-start, 0) :][..., :20, :30])
    padded = torch.nn.functional.pad(mask, sides, value=VOID)
    assert torch.equal(ids, padded[..., 3:, max(-start, 0) :][..., :20, :30])


def test_a_shift_by_whole_pixels_keeps_every_value_and_each_is_as_likely():
    torch.manual_seed(0)
    picture, mask = noise(1, 24, 40)
    many = 300
    moved, ids = Geometry(flip=0.5, shift=(2, 1))(picture.expand(many, -1, -1, -1), mask.expand(many, -1, -1), (24, 40))
    seen = {}
    for one, labels in zip(moved, ids, strict=True):
        for flipped in (False, True):
            source = picture[0].flip(-1) if flipped else picture[0]
            for right in range(-2, 3):
                for down in range(-1, 2):
                    inside = torch.roll(source, (down, right), (1, 2))[:, 1:-1, 2:-2]
                    if torch.equal(one[:, 1:-1, 2:-2], inside):
                        seen[right, down, flipped] = seen.get((right, down, flipped), 0) + 1
                        assert (labels == VOID).sum() == 24 * 40 - (24 - abs(down)) * (40 - abs(right))
    assert sum(seen.values()) == many, "not moved by whole pixels"
    assert len(seen) == 5 * 3 * 2
    assert min(seen.values()) > 0.4 * many / len(seen)


def test_a_crop_is_a_part_of_the_picture():
    torch.manual_seed(0)
    picture, mask = noise(6, 24, 40)
    cropped, ids = Geometry(resample="bilinear")(picture, mask, (16, 20))
    for one, labels, source, truth in zip(cropped, ids, picture, mask, strict=True):
        places = [
            (top, left)
            for top in range(9)
            for left in range(21)
            if torch.equal(one, source[:, top : top + 16, left : left + 20])
        ]
        assert len(places) == 1
        [(top, left)] = places
        assert torch.equal(labels, truth[top : top + 16, left : left + 20])


def test_scales_are_of_the_size_that_a_recipe_names():
    geometry = Geometry(scale=(0.75, 2.0), stretch=1.0, unit=(512, 1024), resample="lanczos")
    torch.manual_seed(0)
    axes = geometry.draw_whole(300, (1024, 2048), (384, 768), 1.0)
    heights, widths = (torch.tensor([pair[axis].sizes[0] for pair in axes]) for axis in (0, 1))
    assert (heights.min() >= 384, heights.max() <= 1024) == (True, True)
    assert heights.max() > 1000
    assert widths.min() == 768  # clipped below only
    assert 2800 < widths.max() <= 3072
    assert all(384 - rows.sizes[0] <= rows.start <= 0 for rows, _ in axes)


def test_what_must_be_seen_lies_in_the_crop_of_whole_pixels():
    torch.manual_seed(0)
    picture, mask = torch.zeros(24, 3, 64, 128), torch.zeros(24, 64, 128, dtype=torch.uint8)
    mask[:, 40:44, 100:104] = 3
    focus = torch.tensor([[101.5, 41.5]]).expand(24, 2)
    geometry = Geometry(0.5, (0.5, 2.0), resample="bilinear")
    _, ids = geometry(picture, mask, (16, 16), 1.0, focus)
    assert (ids == 3).flatten(1).any(1).all()
    _, ids = geometry(picture, mask, (16, 16))
    assert not (ids == 3).flatten(1).any(1).all()


def test_a_picture_too_small_for_the_canvas_is_enlarged_after_it_has_shrunk():
    picture, mask = noise(1, 64, 128)
    geometry = Geometry(scale=(0.25, 0.25), fill=True, resample="bilinear")
    filled, ids = geometry(picture, mask, (32, 64))
    assert (filled[0] - by_pillow(picture[0], (16, 32), (32, 64), kind="bilinear")).abs().max() < 3.2 / 255
    assert (ids != VOID).all()


def test_in_the_middle_means_the_middle():
    picture, mask = noise(1, 24, 40)
    geometry = Geometry(resample="box", centered=True)
    assert torch.equal(geometry(picture, mask, (12, 20))[1], mask[:, 6:18, 10:30])
    _, ids = geometry(picture, mask, (30, 50))
    assert torch.equal(ids[:, 3:27, 5:45], mask)
    assert (ids == VOID).sum() == 30 * 50 - 24 * 40
    torch.manual_seed(0)  # of a warp too, where shifts go on from there
    offsets = Geometry(scale=(0.5, 2.0), centered=True, translate=(0.3, 0.1)).draw(500, (24, 40), (24, 40), 1.0)
    middles = offsets[:, :, :2] @ torch.tensor([19.5, 11.5]) + offsets[:, :, 2] - torch.tensor([19.5, 11.5])
    assert middles.abs().amax(0).tolist() == pytest.approx([0.3 * 40, 0.1 * 24], rel=0.02)


def test_outside_a_warped_picture_lies_its_mirror_image_and_void():
    picture, mask = noise(1, 24, 40)
    moved, ids = Geometry(translate=(0.25, 0.0), border="mirror", rank=Highest())(picture, mask, (24, 40))
    mirrored = torch.nn.functional.pad(picture, (10, 0, 0, 0), mode="reflect")[..., :40]
    assert torch.allclose(moved, mirrored, atol=1e-3)
    assert (ids[..., :10] == VOID).all()
    assert torch.equal(ids[..., 10:], mask[..., :30])


class Highest(Rank):
    """Draws the highest number of every range, so that a random change is a known one."""

    def uniform(self, n, low=0.0, high=1.0, *more):
        below = torch.nextafter(torch.tensor(float(high)), torch.tensor(float(low)))  # ranges are half-open
        return below.expand(n, *more)


def test_a_canvas_turns_about_its_middle_and_only_where_it_is_chosen():
    picture, mask = noise(2, 33, 33)
    chosen = torch.tensor([True, False])
    turned, ids = Turn(90.0, rank=Highest())(picture, mask, chosen)
    assert torch.allclose(turned[0], picture[0].rot90(-1, (1, 2)), atol=1e-3)
    assert torch.equal(ids[0], mask[0].rot90(-1, (0, 1)))
    assert torch.equal(turned[1], picture[1])
    assert torch.equal(ids[1], mask[1])
    _, ids = Turn(45.0, rank=Highest())(picture, mask, chosen)
    assert (ids[0, 0, 0], ids[0, -1, -1]) == (VOID, VOID), "corners are no class"


KINDS = {
    "lanczos": Geometry(0.5, (0.5, 2.0), stretch=0.5, resample="lanczos", translate=(0.2, 0.2), shift=(2, 2)),
    "box, mirrored": Geometry(0.5, (0.5, 2.0), resample="box", border="mirror", fill=True),
    "shift": Geometry(0.5, shift=(2, 2)),
    "warp": Geometry(0.5, (0.5, 2.0), rotate=10, translate=(0.3, 0.1), border="mirror", centered=True),
    "turn": Turn(20.0, "mirror"),
}


@pytest.mark.parametrize("name", KINDS)
def test_a_seed_decides_and_ranks_share_what_one_draws(name):
    picture, mask = noise(6, 24, 40)
    chosen = torch.tensor([True, False, True, True, False, True])

    def changed(rows: slice, rank: Rank) -> tuple[torch.Tensor, torch.Tensor]:
        torch.manual_seed(3)
        change = type(KINDS[name])(**{**vars(KINDS[name]), "rank": rank})
        last = chosen[rows] if name == "turn" else (20, 30)
        return change(picture[rows], mask[rows], last)

    image, ids = changed(slice(None), Rank())
    again = changed(slice(None), Rank())
    assert torch.equal(again[0], image)
    assert torch.equal(again[1], ids)
    halves = [changed(slice(3 * i, 3 * i + 3), Rank(i, 2)) for i in range(2)]
    # a matrix product of fewer pictures rounds otherwise
    assert torch.allclose(torch.cat([half[0] for half in halves]), image, atol=1e-6)
    assert torch.equal(torch.cat([half[1] for half in halves]), ids)
    assert len({each.numpy().tobytes() for each in ids}) == 6


def test_a_network_in_bfloat16_sees_the_same_pictures():
    picture, mask = noise(2, 24, 40)
    seen = []
    for enabled in (False, True):
        torch.manual_seed(0)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            seen.append(Geometry(scale=(0.5, 2.0), resample="lanczos")(picture, mask, (20, 30))[0])
    assert torch.equal(*seen)
