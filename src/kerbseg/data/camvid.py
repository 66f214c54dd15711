"""CamVid (Brostow, Fauqueur, Cipolla) with the 11 classes of SegNet's split: 367 / 101 / 233 pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from kerbseg.core.labels import label_set
from kerbseg.core.types import Sample
from kerbseg.data.pictures import by_stem, check_sizes, pairs, read_ids, read_rgb, train_ids


class CamVid:
    """Layout `{split}/ {split}annot/`; any picture format, paired by stem; ids 0..10, 11 is void."""

    name = "camvid"
    splits = ("train", "val", "test")

    def __init__(self, root: Path, split: str) -> None:
        self.split = split
        self.labels = label_set("camvid")
        self._pairs = pairs(by_stem(root / split), by_stem(root / f"{split}annot"), root / split)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: int) -> Sample:
        stem, image_path, mask_path = self._pairs[index]
        image = read_rgb(image_path)
        ids = read_ids(mask_path)
        check_sizes(image, ids, image_path, mask_path)
        mask = train_ids(ids, self.labels, mask_path)
        return Sample(np.ascontiguousarray(image.transpose(2, 0, 1)), mask, stem)
