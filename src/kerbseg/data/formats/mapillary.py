"""Mapillary Vistas: `training` and `validation` of `images` and `labels`, with what ids mean in `config*.json`.

Release 2 keeps labels in `v2.0/labels` and `v1.2/labels`; the newer ones are taken. What is not evaluated is void. The
split `testing` has no labels.
"""

from __future__ import annotations

from pathlib import Path

from kerbseg.core.errors import DataError
from kerbseg.data.formats.mask_files import Values, entries_of, source_of
from kerbseg.data.formats.source import Document, Entry, Folder, Source, read_document

LABELS = (("v2.0/labels", "config_v2.0.json"), ("v1.2/labels", "config_v1.2.json"), ("labels", "config.json"))


class _Label(Document):
    name: str
    color: tuple[int, int, int]
    evaluate: bool = True


class _Config(Document):
    labels: list[_Label]


def looks_like(root: Path) -> bool:
    """Whether a config and a split with labels lie there."""
    return any((root / config).is_file() and (root / "training" / labels).is_dir() for labels, config in LABELS)


def read(root: Path) -> Source:
    """All masks of the newest labels. Raises DataError naming the file."""
    folder = Folder(root)
    present = [each for each in LABELS if (folder.root / each[1]).is_file()]
    if not present:
        raise DataError(
            f"{root} holds no Mapillary Vistas: there is no config_v2.0.json, config_v1.2.json or config.json"
        )
    labels, config = present[0]
    entries: list[Entry] = []
    known = read_document(folder.root / config, _Config).labels
    names = [label.name if label.evaluate else None for label in known]
    values = Values(config, dict(enumerate(names)), {label.color: label.name for label in known if label.evaluate})
    for name, split in (("training", "train"), ("validation", "val")):
        place = folder.root / name
        entries += entries_of(folder, place / labels, place / "images", values, split)
    nothing = f"{folder.root / 'training' / labels} holds no masks; unpack the labels there"
    return source_of(entries, values, nothing, (f"labels are those of {labels}",))
