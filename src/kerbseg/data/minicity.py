"""Minicity, the 200 / 100 / 200 pictures of Cityscapes that the VIPriors challenge trains, validates and tests on.

As the challenge's own script arranges it: `leftImg8bit/{split}/{city}/*_leftImg8bit.png` with
`gtFine/{split}/{city}/*_gtFine_labelIds.png` in a folder of its own, often called `minicity`. The pictures of `test`
are Cityscapes' val, whose labels the challenge does not hand out: they are read where they lie there, VOID elsewhere.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.data.masks import id_mask
from kerbseg.data.pairs import PairedFiles, by_relative_stem, check_split, pair_up

SPLITS = {"train": 200, "val": 100, "test": 200}  # pictures
PICTURE, LABEL = "_leftImg8bit", "_gtFine_labelIds"


def open_split(root: Path, split: str) -> PairedFiles:
    """One split; its names are those of Cityscapes, such as `ulm_000001_000019`."""
    check_split("minicity", split, SPLITS)
    root, labels = _arranged(root), label_set("cityscapes")
    where, folder = root / "leftImg8bit" / split, root / "gtFine" / split
    pictures = _by_name(where, PICTURE)
    public = split != "test"
    masks = _by_name(folder, LABEL) if folder.is_dir() or public else {}
    if pictures and not masks and public:
        raise DataError(f"{folder} holds no masks *{LABEL}.png; run the challenge's arranging script again")
    if len(pictures) > SPLITS[split]:
        raise DataError(
            f"{where} holds {len(pictures)} pictures, Minicity's {split} has {SPLITS[split]}; this looks like the whole"
            " of Cityscapes: use the data set cityscapes, or arrange Minicity first"
        )
    listing = pair_up(where, pictures, masks, need_masks=public)
    return PairedFiles("minicity", split, labels, listing, partial(id_mask, labels=labels))


def splits(root: Path) -> tuple[str, ...]:
    """The splits whose folders lie under `root`. Raises DataError where there is none."""
    root = _arranged(root)
    present = tuple(split for split in SPLITS if (root / "leftImg8bit" / split).is_dir())
    if not present:
        raise DataError(f"{root} holds no Minicity: there is no leftImg8bit/train; check --data-root")
    return present


def _arranged(root: Path) -> Path:
    """The folder itself, or the one in it that the challenge's script makes beside Cityscapes."""
    made = root / "minicity"
    return made if (made / "leftImg8bit").is_dir() else root


def _by_name(folder: Path, ending: str) -> dict[str, Path]:
    """Files of a split by the part of their names before `ending`; with city folders or without."""
    by_path = by_relative_stem(folder)
    return {Path(stem).name.removesuffix(ending): path for stem, path in by_path.items() if stem.endswith(ending)}
