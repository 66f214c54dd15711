"""CamVid (Brostow, Fauqueur, Cipolla) with the 11 classes of SegNet's split: 367 / 101 / 233 pictures.

Two layouts are read, told apart by their folders:
SegNet's copies of 480x360, `{split}/ {split}annot/`, ids 0..10, 11 is void;
the original release of 960x720, `701_StillsRaw_full/` (or `images/`) and `LabeledApproved_full/` (or `labels/`)
with color labels `*_L.png`. It comes without a split: SegNet's is applied by file name.
"""

from __future__ import annotations

import json
from functools import cache, partial
from importlib.resources import files
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.core.labels import Color, label_set
from kerbseg.core.types import VOID
from kerbseg.data.masks import color_mask, id_mask
from kerbseg.data.pairs import Listing, PairedFiles, by_stem, check_split, pair_up

SPLITS = ("train", "val", "test")

_RELEASE = (  # class of the release, its color, SegNet's class
    ("Sky", (128, 128, 128), "sky"),
    ("Building", (128, 0, 0), "building"),
    ("Archway", (192, 0, 128), "building"),
    ("Bridge", (0, 128, 64), "building"),
    ("Tunnel", (64, 0, 64), "building"),
    ("Wall", (64, 192, 0), "building"),
    ("Column_Pole", (192, 192, 128), "pole"),
    ("TrafficCone", (0, 0, 64), "pole"),
    ("Road", (128, 64, 128), "road"),
    ("LaneMkgsDriv", (128, 0, 192), "road"),
    ("LaneMkgsNonDriv", (192, 0, 64), "road"),
    ("Sidewalk", (0, 0, 192), "pavement"),
    ("ParkingBlock", (64, 192, 128), "pavement"),
    ("RoadShoulder", (128, 128, 192), "pavement"),
    ("Tree", (128, 128, 0), "tree"),
    ("VegetationMisc", (192, 192, 0), "tree"),
    ("SignSymbol", (192, 128, 128), "sign_symbol"),
    ("Misc_Text", (128, 128, 64), "sign_symbol"),
    ("TrafficLight", (0, 64, 64), "sign_symbol"),
    ("Fence", (64, 64, 128), "fence"),
    ("Car", (64, 0, 128), "car"),
    ("SUVPickupTruck", (64, 128, 192), "car"),
    ("Truck_Bus", (192, 128, 192), "car"),
    ("Train", (192, 64, 128), "car"),
    ("OtherMoving", (128, 64, 64), "car"),
    ("Pedestrian", (64, 64, 0), "pedestrian"),
    ("Child", (192, 128, 64), "pedestrian"),
    ("CartLuggagePram", (64, 0, 192), "pedestrian"),
    ("Animal", (64, 128, 64), "pedestrian"),
    ("Bicyclist", (0, 128, 192), "bicyclist"),
    ("MotorcycleScooter", (192, 0, 192), "bicyclist"),
    ("Void", (0, 0, 0), "void"),
)


def open_split(root: Path, split: str) -> PairedFiles:
    """One split of either layout; where both lie under `root`, SegNet's."""
    check_split("camvid", split, SPLITS)
    labels = label_set("camvid")
    if not _segnet_splits(root):
        listing = _release_listing(*_release_folders(root), split)
        return PairedFiles("camvid", split, labels, listing, partial(color_mask, train_ids=release_colors()))
    folder = root / split
    listing = pair_up(folder, by_stem(folder), by_stem(root / f"{split}annot"))
    return PairedFiles("camvid", split, labels, listing, partial(id_mask, labels=labels))


def splits(root: Path) -> tuple[str, ...]:
    """The splits that lie under `root`; the release has all. Raises DataError where there is no CamVid."""
    present = _segnet_splits(root)
    if not present:
        _release_folders(root)
    return present or SPLITS


@cache
def split_stems() -> dict[str, tuple[str, ...]]:
    """SegNet's split: 367, 101 and 233 file stems."""
    text = (files("kerbseg.data") / "camvid_split.json").read_text()
    return {split: tuple(stems) for split, stems in json.loads(text).items()}


def release_colors() -> dict[Color, int]:
    """Train id, or VOID, of the release's 32 colors."""
    classes = label_set("camvid").classes
    return {color: VOID if name == "void" else classes.index(name) for _, color, name in _RELEASE}


def _segnet_splits(root: Path) -> tuple[str, ...]:
    return tuple(split for split in SPLITS if (root / split).is_dir())


def _release_folders(root: Path) -> tuple[Path, Path]:
    for images, masks in (("701_StillsRaw_full", "LabeledApproved_full"), ("images", "labels")):
        if (root / images).is_dir():
            return root / images, root / masks
    raise DataError(
        f"{root} holds no CamVid: neither train/ with trainannot/ nor 701_StillsRaw_full/ with"
        " LabeledApproved_full/; check --data-root"
    )


def _release_listing(images: Path, masks: Path, split: str) -> Listing:
    """The split's part of the release. Raises DataError where one of its pictures is missing."""
    wanted = split_stems()[split]
    pictures, labels = by_stem(images), by_stem(masks, "_L")
    missing = [stem for stem in wanted if stem not in pictures]
    if missing:
        raise DataError(
            f"{images} lacks {len(missing)} of the {len(wanted)} pictures of split {split!r},"
            f" the first is {missing[0]!r}; unpack the whole release"
        )
    chosen = set(wanted)
    return pair_up(
        images,
        {stem: path for stem, path in pictures.items() if stem in chosen},
        {stem: path for stem, path in labels.items() if stem in chosen},
    )
