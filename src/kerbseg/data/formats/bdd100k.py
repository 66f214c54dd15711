"""BDD100K's semantic segmentation: masks of Cityscapes' 19 train ids, 255 void.

`images/10k/{split}` with `labels/sem_seg/masks/{split}`, or of the older release `images/{split}` with `labels/{split}`
and `*_train_id.png`. The split `test` has no labels.
"""

from __future__ import annotations

from pathlib import Path

from kerbseg.core.labels import label_set
from kerbseg.data.formats.mask_files import entries_of, source_of, values_of
from kerbseg.data.formats.source import Entry, Folder, Source

LAYOUTS = (("labels/sem_seg/masks", "images/10k", ""), ("labels", "images", "_train_id"))


def looks_like(root: Path) -> bool:
    """Whether masks lie where BDD100K keeps them."""
    masks, _, _ = LAYOUTS[0]
    return (root / masks).is_dir() or next((root / "labels").glob("*/*_train_id.png"), None) is not None


def read(root: Path) -> Source:
    """All masks. Raises DataError naming the file."""
    folder = Folder(root)
    values = values_of(label_set("cityscapes"), file_ids=False)
    masks, pictures, ending = next((each for each in LAYOUTS if (folder.root / each[0]).is_dir()), LAYOUTS[0])
    entries: list[Entry] = []
    for split in ("train", "val"):
        where = folder.root / masks / split, folder.root / pictures / split
        entries += entries_of(folder, *where, values, split, ending)
    return source_of(entries, values, f"{root} holds no masks in labels/sem_seg/masks/train; check the path")
