"""A drawn split has about the wanted size, is the same each time, and does not part the frames of a drive."""

import pytest

from kerbseg.core.errors import DataError
from kerbseg.data.drives import draw_split, drive_of, drives_of, sequence_of


def drives(count: int, frames: int, name: str = "drive{}_{:04}") -> list[str]:
    return [name.format(drive, frame) for drive in range(count) for frame in range(frames)]


@pytest.mark.parametrize(
    "name", ["drive{}_{:04}", "drive{}/{:04}", "2026_05_drive{}_{:04}", "all/drive{}/{:04}", "cam_front/{}/{:04}"]
)
@pytest.mark.parametrize("seed", range(5))
def test_drives_stay_whole(name: str, seed: int) -> None:
    names = drives(10, 12, name)
    training = draw_split(names, 0.8, seed)
    assert sum(training) == 96
    parts = {each.rpartition("/")[0] or each.rpartition("_")[0] for each in names}
    of_part = {part: {t for n, t in zip(names, training, strict=True) if n.startswith(part)} for part in parts}
    assert all(len(each) == 1 for each in of_part.values())


def test_seeds_differ_and_the_same_seed_does_not() -> None:
    names = drives(10, 12)
    splits = {seed: draw_split(names, 0.8, seed) for seed in range(6)}
    assert splits == {seed: draw_split(names, 0.8, seed) for seed in range(6)}
    assert len({tuple(each) for each in splits.values()}) > 1


def test_the_order_of_the_names_does_not_matter() -> None:
    for names in (drives(10, 12), [f"{i:04}" for i in range(40)]):
        split = dict(zip(names, draw_split(names, 0.8, 1), strict=True))
        assert dict(zip(names[::-1], draw_split(names[::-1], 0.8, 1), strict=True)) == split


@pytest.mark.parametrize("name", ["{:04}", "frame_{:04}", "a/b/frame_{:04}"])
@pytest.mark.parametrize("seed", range(5))
def test_one_drive_is_cut_into_stretches(name: str, seed: int) -> None:
    training = draw_split([name.format(i) for i in range(50)], 0.8, seed)
    assert training.count(False) == 10
    assert "F" * 10 in "".join("FT"[each] for each in training)


def test_two_drives_of_which_one_is_much_too_large_are_cut() -> None:
    assert draw_split(drives(2, 50), 0.9).count(False) == 10
    unequal = ["a_1", "a_2", *(f"b_{i}" for i in range(8))]
    assert draw_split(unequal, 0.8) == [False, False, *[True] * 8]
    for seed in range(8):
        assert draw_split(unequal, 0.5, seed).count(False) >= 5, "less than half of what is wanted is too few"


@pytest.mark.parametrize(("count", "share", "validating"), [(2, 0.8, 1), (2, 0.01, 1), (3, 0.99, 1), (40, 1.0, 0)])
def test_both_have_a_picture(count: int, share: float, validating: int) -> None:
    assert draw_split([str(i) for i in range(count)], share).count(False) == validating


@pytest.mark.parametrize("share", [0, -1, 1.2, float("nan")])
def test_a_share_that_is_none(share: float) -> None:
    with pytest.raises(DataError, match="is no share of pictures"):
        draw_split(["a", "b"], share)


@pytest.mark.parametrize("names", [[], ["a"]])
def test_too_few_pictures(names: list[str]) -> None:
    with pytest.raises(DataError, match=r"cannot be split into train and val; add some, or take split 1"):
        draw_split(names, 0.8)


def test_what_names_show() -> None:
    assert [drive_of(each) for each in ("0001TP_006690", "walk/001", "000123")] == ["0001TP", "walk", ""]
    assert [sequence_of(each) for each in ("2026_05_a_0042", "all/a/1", "000123")] == ["2026_05_a", "all_a", ""]


def test_names_that_all_begin_alike_are_told_apart_by_their_sequence() -> None:
    assert drives_of(["0001TP_1", "0006R0_2", "7"]) == ["0001TP", "0006R0", ""]
    assert drives_of(["2026_a_1", "2026_a_2", "2026_b_1"]) == ["2026_a", "2026_a", "2026_b"]
    assert drives_of(["ulm_1_19", "ulm_2_19"]) == ["ulm", "ulm"], "a picture is no drive of its own"
    assert drives_of([]) == []
