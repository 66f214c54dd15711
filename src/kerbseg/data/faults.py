"""What is wrong with a split, each fault told once: what the doctor makes of its looks at pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.labels import Color
from kerbseg.core.types import VOID, Dataset
from kerbseg.data.coco_text import CocoText
from kerbseg.data.pairs import Pair, PairedFiles
from kerbseg.data.pictures import as_turned
from kerbseg.data.report import Kind, Problem, UnknownInFile
from kerbseg.data.suspects import Traits

CLEARLY = 1.1  # times as much contrast along a mask's borders as along those of the same mask turned


@dataclass(frozen=True)
class Fault:
    """What is wrong with the files of one pair."""

    kind: Kind
    text: str
    files: tuple[str, ...]  # those that the text names, the faulty one first


@dataclass(frozen=True)
class Look:
    """What one pair shows."""

    name: str
    size: tuple[int, int] | None = None  # none where the picture cannot be read
    fingerprint: str = ""
    counts: np.ndarray | None = None  # pixels of each train id; none without a readable mask
    labelled: bool = True
    unknown: tuple[UnknownInFile, ...] = ()
    faults: tuple[Fault, ...] = ()
    palette: Mapping[int, Color] = field(default_factory=dict)
    turned: tuple[float, float] | None = None  # `turned_fit`
    pair: Pair | None = None
    traits: Traits | None = None


def of_splits(data: str, splits: Sequence[str]) -> Iterator[Problem]:
    """The split that training needs, where it is missing; a benchmark without it may be there to evaluate on."""
    if "train" not in splits and data == "folder":
        yield Problem("layout", f"there is no split 'train', only {', '.join(splits)}; training needs train and val")


def of_split(dataset: Dataset, looks: Sequence[Look]) -> Iterator[Problem]:
    """All that is wrong with a split but unknown values."""
    given: Mapping[int, Color] = {}
    if isinstance(dataset, PairedFiles):
        given = dataset.given
        for text, files in dataset.listing.problems():
            yield Problem("partner" if files else "layout", text, tuple(map(str, files)))
    if isinstance(dataset, CocoText):
        for text, files in dataset.problems():
            yield Problem("partner" if files else "layout", text, tuple(map(str, files)))
    yield from _grouped([fault for look in looks for fault in look.faults])
    counts = sum((look.counts for look in looks if look.counts is not None), np.zeros(256, np.int64))
    if not isinstance(dataset, CocoText):  # its pictures have many sizes, and its recipes bring them to one
        yield from _sizes(dataset.split, looks)
    yield from _absent(dataset, counts, [value for look in looks for value in look.unknown])
    yield from _palettes(dataset.split, looks, given)
    yield from _turned(dataset.split, looks)


def turned_fit(
    image: UInt8[np.ndarray, "h w 3"], ids: UInt8[np.ndarray, "h w"], orientation: int
) -> tuple[float, float] | None:
    """Contrast of a picture along its mask's borders, and along those of the mask turned as EXIF turns the picture.

    None where the mask cannot have been drawn on the picture as it is stored, or would be the same.
    """
    turned = as_turned(ids, orientation)
    if orientation == 1 or turned.shape != ids.shape or np.array_equal(turned, ids):
        return None
    gray = image.mean(2, dtype=np.float32)
    return _contrast(gray, ids), _contrast(gray, turned)


def _contrast(gray: np.ndarray, ids: np.ndarray) -> float:
    across, down = ids[:, 1:] != ids[:, :-1], ids[1:] != ids[:-1]
    steps = np.concatenate([np.abs(np.diff(gray, axis=1))[across], np.abs(np.diff(gray, axis=0))[down]])
    return float(steps.mean())


def _grouped(faults: Sequence[Fault]) -> Iterator[Problem]:
    """One problem of faults whose texts differ only in files and figures."""
    groups: dict[tuple[Kind, str], list[Fault]] = {}
    for fault in faults:
        text = fault.text
        for file in fault.files:
            text = text.replace(file, "")
        groups.setdefault((fault.kind, re.sub(r"\d+", "", text)), []).append(fault)
    for (kind, _), alike in groups.items():
        more = f" (and {len(alike) - 1} more like it)" if len(alike) > 1 else ""
        yield Problem(kind, f"{alike[0].text}{more}", tuple(fault.files[0] for fault in alike))


def _sizes(split: str, looks: Sequence[Look]) -> Iterator[Problem]:
    counts = Counter(look.size for look in looks if look.size is not None)
    if len(counts) > 1 and split != "test":  # evaluation takes any size
        ((usual, n), *_) = counts.most_common()
        others = [look for look in looks if look.size not in (None, usual)]
        height, width = others[0].size or usual
        yield Problem(
            "size",
            f"{split}: {n} picture(s) are {usual[0]}x{usual[1]} (HxW), but {len(others)} are not, the first is"
            f" {others[0].name} of {height}x{width}; training takes one size: resize them, or set"
            f" data.size=[{usual[0]},{usual[1]}] in the recipe",
            tuple(str(look.pair.image) if look.pair else look.name for look in others),
        )


def _absent(dataset: Dataset, counts: np.ndarray, unknown: Sequence[UnknownInFile]) -> Iterator[Problem]:
    """Classes of a training split without a pixel; of any split that it shows no class at all."""
    split, labels = dataset.split, dataset.labels
    present = [bool(n) for n in counts[: len(labels)]]
    missing = [name for name, is_there in zip(labels.classes, present, strict=True) if not is_there]
    if not missing or (not counts.any() and not unknown):
        return
    shown = ", ".join(map(repr, missing[:5])) + (f" and {len(missing) - 5} more" if len(missing) > 5 else "")
    void = counts[VOID] / max(counts.sum(), 1)
    ignored = [*labels.ignored_file_ids]
    remedy = "add pictures of it, correct its ids, or leave the class out"
    if dataset.name == "folder" and len(missing) >= len(labels) - 1 and len(ignored) == 1 and void:  # 0/255 masks
        remedy = (
            f"{void:.0%} of the pixels are {ignored[0]}, which is ignored: if that is"
            f" {missing[0]!r}, give the class this id in dataset.yaml, such as {{name: {missing[0]},"
            f" ids: [{ignored[0]}]}}, and take it out of ignore"
        )
    elif unknown:
        remedy = f"value {unknown[0].value}, which no class has, may be it: correct the ids of the classes"
    if not any(present):
        yield Problem("unlabelled", f"{split}: no pixel belongs to a class; {remedy}")
    elif split.partition("_")[0] == "train":
        yield Problem(
            "absent",
            f"{split}: no pixel is of {shown}, so that no network can learn this ({len(missing)} of"
            f" {len(labels)} classes); {remedy}",
        )


def _palettes(split: str, looks: Sequence[Look], given: Mapping[int, Color]) -> Iterator[Problem]:
    """Ids whose palette colors differ between masks, or from the colors that the user gave."""
    files: dict[int, dict[Color, list[str]]] = {}
    for look in looks:
        for file_id, color in look.palette.items():
            if look.pair is not None and set(color) != {file_id}:  # a gray ramp says nothing of colors
                files.setdefault(file_id, {}).setdefault(color, []).append(str(look.pair.mask))
    differing = {file_id: colors for file_id, colors in files.items() if len(colors) > 1}
    if differing:
        file_id, colors = next(iter(differing.items()))
        (color, usual), *others = sorted(colors.items(), key=lambda each: -len(each[1]))
        other, odd = others[0]
        yield Problem(
            "palette",
            f"{split}: id {file_id} is {color} in the palettes of {len(usual)} mask(s), and {other} in {len(odd)}, the"
            f" first is {odd[0]}: ids were renumbered, or have more than one meaning; export the masks again with one"
            " palette, or as 8-bit gray PNG",
            tuple(odd),
        )
    unlike = {i: colors for i, colors in files.items() if i in given and i not in differing and given[i] not in colors}
    if unlike:
        file_id, colors = next(iter(unlike.items()))
        color, masks = next(iter(colors.items()))
        yield Problem(
            "palette",
            f"{split}: id {file_id} is {color} in the palettes of {len(masks)} mask(s), such as {masks[0]}, but"
            f" {given[file_id]} in dataset.yaml; give the class the palette's color there, or no color, or correct"
            " its ids",
            tuple(masks),
        )


def _turned(split: str, looks: Sequence[Look]) -> Iterator[Problem]:
    """Pictures that EXIF turns, where masks do not show by their size whether they were drawn before or after."""
    unsure = [look for look in looks if look.turned is not None and look.pair is not None]
    as_drawn = sum(look.turned[0] for look in unsure if look.turned is not None)
    if_turned = sum(look.turned[1] for look in unsure if look.turned is not None)
    if not unsure or as_drawn > CLEARLY * if_turned:
        return
    before = if_turned > CLEARLY * as_drawn
    pictures = tuple(str(look.pair.image) for look in unsure if look.pair is not None)
    yield Problem(
        "orientation",
        f"{split}: the camera's note in the EXIF of {len(pictures)} picture(s) turns them, such as {pictures[0]}, and"
        + (
            " the masks fit them only unturned; turn the masks as the pictures are shown, or, where a network is to see"
            " pictures unturned, remove the note (exiftool -Orientation= FILE)"
            if before
            else " nothing shows whether the masks were drawn before or after; where it was"
            " before, turn them as the pictures are shown, then save the pictures turned, without the note"
        ),
        pictures,
    )
