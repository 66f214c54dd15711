"""A user's own data set: `images/{split}`, `masks/{split}` and `dataset.yaml`.

Pictures and masks are paired by their path within the split, without suffix; subfolders are welcome.

    name: park                  # the folder's name without it
    classes:                    # the position is the train id
      - {name: path, color: [128, 64, 128], ids: [1, 4]}   # ids that masks hold; the position without them
      - {name: grass}                                      # a color is chosen where none is given
      - fence                                              # as {name: fence}
      - {name: rest, background: true}                     # stays unpainted in overlays, as a class called background
    ignore: [0, 255]            # ids that are no class; [255] without it

With `masks: color`, masks hold colors instead of ids: the `color` of a class, or one of its `colors`; colors in
`ignore` are no class, and any other is an error. With `split: 0.8`, pictures lie in `images` and masks in `masks`
without folders for splits: a split into train and val is drawn, the same each time, that leaves drives whole.

    masks: color
    split: 0.8
    classes:
      - {name: road, color: [128, 64, 128]}
      - {name: vehicle, colors: [[0, 0, 142], '#000046']}
    ignore: [[0, 0, 0]]

With `paths`, pictures and masks lie elsewhere; `{name}` pairs them and may hold folders, `*` stands for anything within
a name. Without `{split}` in both, `split` draws one.

    paths:
      images: camera/{split}/{name}.jpg
      masks: labels/{split}/{name}_label.png

Two classes or more: what is none of them is a class too, such as background. Where masks have a palette, the colors
given here must be the palette's, since optimizers renumber palettes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import replace
from functools import partial
from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.dataset_yaml import DatasetFile, labels_of, mask_colors, read_dataset_file
from kerbseg.data.drives import draw_split
from kerbseg.data.masks import color_mask, id_mask
from kerbseg.data.pairs import Listing, PairedFiles, by_relative_stem, check_split, is_picture, pair_up

USUAL = ("train", "val", "test")


def open_split(root: Path, split: str) -> PairedFiles:
    """One split; its name is that of a folder under `images`."""
    path = root / "dataset.yaml"
    document = read_dataset_file(path)
    labels = labels_of(document, path)
    check_split(labels.name, split, splits(root))
    listing = _listing(root, document, split)
    if document.masks == "color":
        return PairedFiles("folder", split, labels, listing, partial(color_mask, train_ids=mask_colors(document, path)))
    given = {
        file_id: labels.colors[train_id]
        for file_id, train_id in labels.file_ids.items()
        if document.classes[train_id].color is not None
    }
    return PairedFiles("folder", split, labels, listing, partial(id_mask, labels=labels, given=given), given)


def _listing(root: Path, document: DatasetFile, split: str) -> Listing:
    """The pairs of a split, or of all where one is drawn, by folders or by the paths that are given."""
    inside = split if document.split is None else ""
    if document.paths is not None:
        of_images, of_masks = document.paths.templates
        images = of_images.files(root, inside or None, of_masks)
        masks, where = of_masks.files(root, inside or None, of_images), root
    else:
        where = root / "images" / inside
        images, masks = by_relative_stem(where), by_relative_stem(root / "masks" / inside)
    listing = pair_up(where, images, masks)
    return listing if document.split is None else _drawn(listing, split, document.split)


def splits(root: Path) -> tuple[str, ...]:
    """The folders under `images`, those of training first, or those that are drawn or that `paths` tell.

    Raises DataError where there is none.
    """
    images, path = root / "images", root / "dataset.yaml"
    if path.exists() and (given := _splits_of_paths(root, path)):
        return given
    if not (images.is_dir() and path.exists()):
        from kerbseg.data.formats import advice  # which needs much of this room

        if other := advice(root):
            raise DataError(f"{root} is not in the folder form, with images, masks and dataset.yaml; {other}")
    if not images.is_dir():
        raise DataError(f"{root} has no folder images; put pictures into images/train, masks into masks/train")
    present = [path.name for path in images.iterdir() if path.is_dir() and not path.name.startswith(".")]
    try:
        share = read_dataset_file(path).split if path.exists() else None
    except DataError:
        if not present:
            raise
        share = None  # folders are the splits, and opening one tells what is wrong
    if share is not None:
        if folders := [name for name in USUAL if name in present]:
            raise DataError(f"{path} draws a split, but {images / folders[0]} is one; remove split: from dataset.yaml")
        return _names_drawn(share)
    if not present:
        raise DataError(
            f"{images} has no folder for a split; move the pictures into images/train, masks likewise, or write"
            " split: 0.8 into dataset.yaml to have one drawn"
        )
    return _in_order(present)


def _splits_of_paths(root: Path, path: Path) -> tuple[str, ...]:
    """The splits of a data set whose paths are given; none where they are not, or where its file is broken."""
    try:
        document = read_dataset_file(path)
    except DataError:
        return ()  # folders are the splits, and opening one tells what is wrong
    if document.paths is None:
        return ()
    if document.split is not None:
        return _names_drawn(document.split)
    images, _ = document.paths.templates
    if not (present := images.splits(root)):
        raise DataError(f"{path}: no picture lies as paths.images says, {images.text}; correct it")
    return _in_order(present)


def _names_drawn(share: float) -> tuple[str, ...]:
    return ("train", "val") if share < 1 else ("train",)


def _in_order(splits: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(splits, key=lambda name: (USUAL.index(name) if name in USUAL else len(USUAL), name)))


def _drawn(listing: Listing, split: str, share: float) -> Listing:
    """The part of all pairs that is drawn for a split; what has no partner is told with the training."""
    training = draw_split([pair.name for pair in listing.pairs], share) if listing.pairs else []
    pairs = (pair for pair, trains in zip(listing.pairs, training, strict=True) if trains == (split == "train"))
    return replace(listing, pairs=tuple(pairs)) if split == "train" else Listing(listing.where, tuple(pairs))


def strays(root: Path) -> Iterator[str]:
    """What lies in the data set's folders and belongs to no split, in words."""
    with suppress(DataError):  # without a dataset.yaml that can be read, folders are the splits
        document = read_dataset_file(root / "dataset.yaml")
        if document.split is not None or document.paths is not None:  # all belongs to what is drawn, or lies elsewhere
            return
    for kind in ("images", "masks"):
        if loose := sorted(path for path in (root / kind).glob("*") if is_picture(path) and path.is_file()):
            yield (
                f"{len(loose)} file(s) lie right in {root / kind}, such as {loose[0].name}, and belong to no split;"
                f" move them into {kind}/train"
            )
    for path in sorted((root / "masks").glob("[!.]*")):
        if path.is_dir() and not (root / "images" / path.name).is_dir():
            yield f"{path} has no {root / 'images' / path.name} beside it; add the pictures, or remove the masks"
