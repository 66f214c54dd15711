"""Pascal VOC: `JPEGImages`, `SegmentationClass` of palette PNGs, and the splits in `ImageSets/Segmentation`.

What the values mean stands in `labelmap.txt` (colors, as CVAT and Datumaro write it) or `class_names.txt` (ids, as
Labelme's `labelme2voc` writes it); without them they are VOC's own 21 classes. The white border, 255, is void.
"""

from __future__ import annotations

from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.core.labels import Color
from kerbseg.core.types import VOID
from kerbseg.data.formats.mask_files import Values, entries_of, source_of
from kerbseg.data.formats.source import Entry, Folder, Source, read_text

CLASSES = (
    "background", "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable",
    "dog", "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
BORDER: Color = (224, 224, 192)
MASKS = ("SegmentationClass", "SegmentationClassPNG")


def looks_like(root: Path) -> bool:
    """Whether a folder of masks in VOC's name lies there, or below."""
    return _masks(root) is not None


def read(root: Path) -> Source:
    """All masks of a VOC folder, or of the one below. Raises DataError naming the file."""
    folder = Folder(root)
    masks = _masks(folder.root)
    if masks is None:
        raise DataError(f"{root} holds no VOC: there is no SegmentationClass/; check the path")
    values = _values(masks.parent)
    entries = list(entries_of(folder, masks, masks.parent / "JPEGImages", values, None))
    splits = _splits(masks.parent)
    if splits:
        of = {masks / f"{stem}.png": split for stem, split in splits.items()}
        missing = [mask for mask in of if not mask.is_file()]
        if missing:
            raise DataError(f"mask {missing[0]} does not exist, but ImageSets/Segmentation names it; add it")
        entries = [_with_split(entry, of[Path(entry.where)]) for entry in entries if Path(entry.where) in of]
    return source_of(entries, values, f"{masks} holds no masks; check the path")


def _masks(root: Path) -> Path | None:
    return next((path for name in MASKS for path in sorted(root.rglob(name)) if path.is_dir()), None)


def _with_split(entry: Entry, split: str) -> Entry:
    return Entry(entry.name, entry.picture, entry.marks, entry.where, entry.size, split)


def _splits(root: Path) -> dict[str, str]:
    """The split of each stem that one of the lists names; the lists of CVAT's exports are one, `default`."""
    splits: dict[str, str] = {}
    for split in ("train", "val", "test"):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        if path.is_file():
            splits |= dict.fromkeys(read_text(path).split(), split)
    return splits


def _values(root: Path) -> Values:
    labelmap, class_names = root / "labelmap.txt", root / "class_names.txt"
    if labelmap.is_file():
        return Values("labelmap.txt", {}, dict(_labelmap(labelmap)))
    names = list(CLASSES)
    if class_names.is_file():
        lines = (line.strip() for line in read_text(class_names).splitlines())
        names = [line for line in lines if line and line != "__ignore__"]
        names = ["background" if name == "_background_" else name for name in names]
    ids = {**dict(enumerate(names[:VOID])), VOID: None}
    return Values("voc", ids, {**{voc_color(each): name for each, name in enumerate(names)}, BORDER: None})


def _labelmap(path: Path) -> list[tuple[Color, str | None]]:
    """The lines `name:r,g,b:parts:actions`."""
    rows: list[tuple[Color, str | None]] = []
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip() or line.startswith("#"):
            continue
        name, _, rest = line.partition(":")
        try:
            r, g, b = (int(part) for part in rest.partition(":")[0].split(","))
        except ValueError as error:
            raise DataError(f"{path}:{number}: {line[:40]!r} is not name:r,g,b::; correct it") from error
        rows.append(((r, g, b), None if name in ("ignored", "void") else name))
    colors = [color for color, _ in rows]
    if twice := [color for color in colors if colors.count(color) > 1]:
        raise DataError(f"{path}: color {twice[0]} stands twice; give every class its own")
    return rows


def voc_color(index: int) -> Color:
    """The color that VOC's palette gives an id: its bits, dealt to red, green and blue in turn, highest first."""
    color = [0, 0, 0]
    for bit in range(8):
        for channel in range(3):
            color[channel] |= (index >> (3 * bit + channel) & 1) << (7 - bit)
    r, g, b = color
    return r, g, b
