"""What the ids in a folder of results mean: `classes.json` beside them."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kerbseg.core.display import display_palette
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.files import atomic_write
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID

CLASSES = "classes.json"
FORMAT = "kerbseg classes 1"  # by which our own file is known
LARGEST = 2**20  # bytes of such a file that are looked into


def classes_document(labels: LabelSet, made: Mapping[str, Any]) -> dict[str, Any]:
    """Every class by its id: its name, its color in files, and the one that overlays show; `made` says by what."""
    display = display_palette(labels).tolist()
    return {
        "format": FORMAT,
        "labels": labels.name,
        "void": VOID,
        "classes": [
            {
                "id": i,
                "name": name,
                "color": list(labels.colors[i]),
                "display_color": display[i],
                "background": name in labels.background,
            }
            for i, name in enumerate(labels.classes)
        ],
        **made,
    }


def write_classes(folder: str | Path, labels: LabelSet, made: Mapping[str, Any] | None = None) -> Path | None:
    """Writes `classes.json` into a folder of results. None, with a warning, where a file of that name is not ours.

    Raises KerbsegError where results of other classes lie there, whose ids would be misread.
    """
    path = Path(folder) / CLASSES
    if not check_classes(folder, labels):
        warnings.warn(KerbsegWarning(f"{path} is not of kerbseg and stays as it is"), stacklevel=2)
        return None
    with atomic_write(path) as temporary:
        temporary.write_text(f"{json.dumps(classes_document(labels, made or {}), indent=1)}\n", encoding="utf-8")
    return path


def check_classes(folder: str | Path, labels: LabelSet) -> bool:
    """Whether the folder's `classes.json` may be written: none is there, or ours of the same classes.

    Raises KerbsegError where it is ours, of other classes.
    """
    path = Path(folder) / CLASSES
    names = _names(path)
    if names is not None and has_other_classes(folder, labels):
        raise KerbsegError(
            f"results of other classes lie in {folder} ({', '.join(names[:3])} ...; {path.name} says so), and their ids"
            f" would be taken for those of {labels.name}; name another folder: -o OUT"
        )
    return names is not None or not path.exists()


def has_other_classes(folder: str | Path, labels: LabelSet) -> bool:
    """Whether results of other classes lie in the folder, as its `classes.json` says."""
    names = _names(Path(folder) / CLASSES)
    return names is not None and names != list(labels.classes)


def _names(path: Path) -> list[str] | None:
    """The classes in a file of ours, by id; None where there is none."""
    try:
        with path.open("rb") as file:
            document = json.loads(file.read(LARGEST))
    except (OSError, ValueError):  # nothing there, or nothing that we wrote
        return None
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        return None
    return [str(each.get("name")) for each in document.get("classes", []) if isinstance(each, dict)]
