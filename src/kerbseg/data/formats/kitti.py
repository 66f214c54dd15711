"""KITTI's semantic segmentation: `training/image_2` with `training/semantic` of Cityscapes' labelIds; 200 pictures.

The release has no split and its test pictures have no labels: a split is drawn.
"""

from __future__ import annotations

from pathlib import Path

from kerbseg.core.labels import label_set
from kerbseg.data.formats.mask_files import entries_of, source_of, values_of
from kerbseg.data.formats.source import Folder, Source


def looks_like(root: Path) -> bool:
    """Whether masks lie where KITTI keeps them."""
    return (root / "training" / "semantic").is_dir()


def read(root: Path) -> Source:
    """All masks. Raises DataError naming the file."""
    folder = Folder(root)
    values = values_of(label_set("cityscapes"), file_ids=True)
    training = folder.root / "training"
    entries = list(entries_of(folder, training / "semantic", training / "image_2", values, None))
    return source_of(entries, values, f"{training / 'semantic'} holds no masks; check the path")
