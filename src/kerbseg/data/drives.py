"""Drives: what the names of pictures say of frames that follow each other, and splits that do not part them."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from kerbseg.core.errors import DataError


def drive_of(name: str) -> str:
    """The drive that a picture is of: its name up to the first `_` or `/`; empty where there is neither.

    That is CamVid's drive, Cityscapes' city, and the subfolder of a folder's pictures.
    """
    drive, mark, _ = name.replace("/", "_").partition("_")
    return drive if mark else ""


def sequence_of(name: str) -> str:
    """A name up to its last `_` or `/`, for names that all begin alike: `2026_05_01_a` of `2026_05_01_a_0042`."""
    return name.replace("/", "_").rpartition("_")[0]


def drives_of(names: Sequence[str]) -> list[str]:
    """The drive of each picture: `drive_of`, or `sequence_of` where all begin alike and that tells them apart."""
    drives = [drive_of(name) for name in names]
    sequences = [sequence_of(name) for name in names]
    return sequences if len(set(drives)) == 1 < len(set(sequences)) < len(names) else drives


def draw_split(names: Sequence[str], share: float, seed: int = 0) -> list[bool]:
    """Whether each picture is for training: about `share` of them, and as far as names show it whole drives.

    Frames that follow each other look alike, and a validation on the neighbors of training pictures flatters. Where the
    names show drives (`drive_of`, or else `sequence_of`) of which some make up about the wanted part, these validate;
    elsewhere one stretch of the names in order does. The same names, share and seed give the same split.

    Raises DataError for a share outside 0..1, and where one of the two would be empty.
    """
    if not 0 < share <= 1:
        raise DataError(f"split {share:g} is no share of pictures for training; choose one above 0, such as 0.8")
    if share == 1:
        return [True] * len(names)
    if len(names) < 2:
        raise DataError(f"{len(names)} picture(s) cannot be split into train and val; add some, or take split 1")
    wanted = min(max(round(len(names) * (1 - share)), 1), len(names) - 1)
    chance = random.Random(seed)
    for group_of in (drive_of, sequence_of):
        held_out = _whole_groups(names, group_of, wanted, chance)
        if held_out:
            return [group_of(name) not in held_out for name in names]
    order = sorted(range(len(names)), key=lambda index: names[index])
    first = chance.randrange(len(names) - wanted + 1)
    stretch = set(order[first : first + wanted])
    return [index not in stretch for index in range(len(names))]


def _whole_groups(names: Sequence[str], group_of: Callable[[str], str], wanted: int, chance: random.Random) -> set[str]:
    """Groups that together hold about so many pictures, half to twice as many; none where no draw does."""
    sizes: dict[str, int] = {}
    for name in sorted(names):
        sizes[group_of(name)] = sizes.get(group_of(name), 0) + 1
    order = list(sizes)
    chance.shuffle(order)
    chosen: set[str] = set()
    count = 0
    for group in order:
        if abs(count + sizes[group] - wanted) < abs(count - wanted):
            chosen.add(group)
            count += sizes[group]
    return chosen if wanted / 2 <= count <= min(2 * wanted, len(names) - 1) else set()
