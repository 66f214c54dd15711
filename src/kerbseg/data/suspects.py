"""What looks wrong with a pair and may be right: for people to look at, where `faults` are certain.

The bounds were set on CamVid and drawn scenes, as they are and with masks moved or exchanged (docs/own-data.md).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from kerbseg.data.report import SplitReport, Suspicion

WORKING_PX = 512  # longest side at which borders are compared with edges
FEWEST = 100  # pixels of borders that tell something
MOVES = tuple((m * y, m * x) for m in (2, 4, 8, 16, 32) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0))
BETTER, CLEAR = 1.08, 1.3  # times the contrast of the mask unmoved, and of the whole picture
VAGUE, USUAL = 1.25, 1.5  # contrast at borders as a multiple of the picture's: of a suspect, and of the others at least
FAR = 0.5  # share of pixels that are of other classes than usual, at least
SPREAD = 5.0  # times the others' median deviation
ALIKE = 0.98  # correlation of tiny gray pictures: neighboring frames have more, other streets less
TINY = 16  # pixels a side


@dataclass(frozen=True)
class Traits:
    """What is kept of one pair to compare it with the others."""

    tiny: UInt8[np.ndarray, "16 16"] | None = None  # none without a readable picture
    contrast: float | None = None  # at the mask's borders, as a multiple of the picture's; none without enough borders
    gain: float = 1.0  # what the contrast is multiplied by at best where the mask is moved
    move: tuple[int, int] = (0, 0)  # down and right, in pixels


def traits(image: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"] | None) -> Traits:
    """Traits of a picture and its mask, if it has one that fits."""
    gray = Image.fromarray(image).convert("L").resize((TINY, TINY), Image.Resampling.BOX)
    tiny = np.asarray(gray).copy()
    if ids is None:
        return Traits(tiny)
    step = max(1, -(-max(ids.shape) // WORKING_PX))
    if min(ids.shape) <= step:  # one row or column has no edges across
        return Traits(tiny)
    edges = _Edges(image[::step, ::step], ids[::step, ::step])
    if edges.pixels < FEWEST:
        return Traits(tiny)
    unmoved, everywhere = edges.at(0, 0), edges.everywhere
    if unmoved <= 0 or everywhere <= 0:
        return Traits(tiny)
    best, (down, right) = max((edges.at(*move), move) for move in MOVES)
    return Traits(tiny, unmoved / everywhere, best / unmoved, (down * step, right * step))


class _Edges:
    """Contrast of a picture along the borders of its mask."""

    def __init__(self, image: np.ndarray, ids: np.ndarray) -> None:
        gray = image.mean(2, dtype=np.float32)
        across, down = _widened(np.abs(np.diff(gray, axis=1)), 1), _widened(np.abs(np.diff(gray, axis=0)), 0)
        borders = np.nonzero(ids[:, 1:] != ids[:, :-1]), np.nonzero(ids[1:] != ids[:-1])
        self._parts = tuple(zip((across, down), borders, strict=True))
        self.pixels = sum(len(rows) for rows, _ in borders)

    def at(self, down: int, right: int) -> float:
        """Mean contrast along the borders moved so far; 0 where fewer than half remain in the picture."""
        total, count = 0.0, 0
        for contrast, (rows, columns) in self._parts:
            y, x = rows + down, columns + right
            inside = (y >= 0) & (y < contrast.shape[0]) & (x >= 0) & (x < contrast.shape[1])
            total += float(contrast[y[inside], x[inside]].sum())
            count += int(inside.sum())
        return total / count if 2 * count >= self.pixels else 0.0

    @property
    def everywhere(self) -> float:
        """Mean contrast of the picture, weighted as its borders are."""
        return sum(float(contrast.mean()) * len(rows) for contrast, (rows, _) in self._parts) / self.pixels


def _widened(contrast: np.ndarray, axis: int) -> np.ndarray:
    """The greatest of three neighbors along an axis: borders are drawn a pixel beside edges."""
    padded = np.moveaxis(np.pad(contrast, [(1, 1) if each == axis else (0, 0) for each in (0, 1)]), axis, 0)
    return np.moveaxis(np.maximum(np.maximum(padded[:-2], padded[1:-1]), padded[2:]), 0, axis)


def of_split(
    split: str, seen: Mapping[str, Traits], counts: Mapping[str, np.ndarray], classes: Sequence[str]
) -> Iterator[Suspicion]:
    """Masks that do not follow their pictures, and pictures whose classes are unlike the others'."""
    known = [each.contrast for each in seen.values() if each.contrast is not None]
    usual = float(np.median(known)) if known else 0.0
    for name, each in seen.items():
        if each.contrast is None:
            continue
        if each.gain > BETTER and each.contrast * each.gain > CLEAR:
            better = _moved(*each.move)
            text = f"its mask fits the picture's edges better {better}: it is shifted, or of another picture"
            yield Suspicion("shifted", split, ((split, name),), text)
        elif each.contrast < VAGUE and usual > USUAL:
            text = (
                f"the borders of its mask do not follow the picture's edges: contrast {each.contrast:.1f} times the"
                f" picture's mean, where {usual:.1f} is usual; it is drawn roughly, or of another picture"
            )
            yield Suspicion("edges", split, ((split, name),), text)
    yield from _unlike(split, counts, classes)


def _moved(down: int, right: int) -> str:
    parts = [f"{abs(down)} px {'lower' if down > 0 else 'higher'}"] if down else []
    parts += [f"{abs(right)} px to the {'right' if right > 0 else 'left'}"] if right else []
    return " and ".join(parts)


def _unlike(split: str, counts: Mapping[str, np.ndarray], classes: Sequence[str]) -> Iterator[Suspicion]:
    k = len(classes)
    labelled = {name: each[:k] / each[:k].sum() for name, each in counts.items() if each[:k].any()}
    if len(labelled) < 8:  # too few for anything to be usual
        return
    shares = np.stack(list(labelled.values()))
    usual = np.median(shares, axis=0)
    distance = np.abs(shares - usual).sum(1) / 2
    middle = np.median(distance)
    bound = max(FAR, middle + SPREAD * float(np.median(np.abs(distance - middle))))
    for name, own, far in zip(labelled, shares, distance, strict=True):
        if far > bound:
            i = int(np.abs(own - usual).argmax())
            text = f"its classes are unlike the others': {own[i]:.0%} is {classes[i]!r}, usual is {usual[i]:.0%}"
            yield Suspicion("shares", split, ((split, name),), text)


def near_copies(reports: Sequence[SplitReport]) -> list[Suspicion]:
    """Pictures of different splits that look alike without being equal: frames of one drive, or saved once more."""
    alike: list[Suspicion] = []
    for i, one in enumerate(reports):
        for other in reports[i + 1 :]:
            if one.split.partition("_")[0] != other.split.partition("_")[0]:
                alike += _alike(one, other)
    return alike


def _alike(one: SplitReport, other: SplitReport) -> Iterator[Suspicion]:
    """Of each picture of the second split the likest of the first, where it is alike."""
    names, rows = _normalized(one.tiny)
    theirs, columns = _normalized(other.tiny)
    for start in range(0, len(theirs), 1024):  # lest the table of all pairs fill the memory
        likeness = columns[start : start + 1024] @ rows.T if len(names) else np.zeros((0, 0))
        for name, each in zip(theirs[start:], likeness, strict=False):
            best = int(each.argmax())
            if each[best] >= ALIKE and one.fingerprints.get(names[best]) != other.fingerprints.get(name):
                places = ((one.split, names[best]), (other.split, name))
                text = (
                    "they look alike, and one is in each split: frames of one drive, or the same picture saved twice;"
                    " scores are too high then"
                )
                yield Suspicion("alike", f"{one.split} and {other.split}", places, text)


def _normalized(tiny: Mapping[str, np.ndarray]) -> tuple[list[str], Float[np.ndarray, "n p"]]:
    """Names and gray values with mean 0 and length 1; a picture of one tone has nothing to compare."""
    if not tiny:
        return [], np.zeros((0, TINY**2), np.float32)
    values = np.stack([each.ravel() for each in tiny.values()]).astype(np.float32)
    values -= values.mean(1, keepdims=True)
    length = np.linalg.norm(values, axis=1)
    kept = length > TINY  # a deviation of one gray value
    return [name for name, keep in zip(tiny, kept, strict=True) if keep], values[kept] / length[kept, None]
