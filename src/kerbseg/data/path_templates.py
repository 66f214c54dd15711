"""Where the pictures or masks of a data set lie, as one line: `camera/{split}/{name}.jpg`.

`{name}` is what pairs a picture with its mask, and may hold folders; `{split}` is one folder or part of a name;
`*` stands for anything within one folder's or file's name. A file that fits two templates, as `a_mask.png` does
`{name}.png` and `{name}_mask.png`, belongs to the one that says more of its name.
"""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path, PurePosixPath
from unicodedata import normalize

from kerbseg.core.errors import DataError
from kerbseg.data.pairs import Folder, files_below, is_picture
from kerbseg.data.pictures import SUFFIXES

NAME, SPLIT = "{name}", "{split}"
_PATTERNS = {NAME: "(?P<name>.+)", SPLIT: "(?P<split>[^/]+)", "*": "[^/]*"}
_PARTS = re.compile(r"(\{name\}|\{split\}|\*)")


class PathTemplate:
    """A line that says where files lie. Raises ValueError, with what is wrong, for one that cannot be followed."""

    def __init__(self, text: str) -> None:
        self.text = text
        path = PurePosixPath(text)
        if text.count(NAME) != 1 or text.count(SPLIT) > 1:
            raise ValueError(f"needs {NAME} once, and {SPLIT} at most once")
        if re.search(r"[{}]", text.replace(NAME, "").replace(SPLIT, "")):
            raise ValueError(f"holds braces other than {NAME} and {SPLIT}")
        if path.is_absolute() or ".." in path.parts or "\\" in text:
            raise ValueError("must be a path below the folder of dataset.yaml, with / and without ..")
        if path.suffix.lower() not in (*SUFFIXES, ".*"):
            raise ValueError(f"must end in .* or in the suffix of a picture ({', '.join(SUFFIXES)})")

    @property
    def tells_split(self) -> bool:
        """Whether files say of which split they are."""
        return SPLIT in self.text

    @property
    def detail(self) -> int:
        """Characters that names are given: what fits two templates belongs to the one that gives more."""
        return len(_PARTS.sub("", self.text))

    def files(self, root: Path, split: str | None = None, other: PathTemplate | None = None) -> Folder:
        """The pictures that lie so, by their `{name}`, of one split or of all; not those that belong to `other`.

        Raises DataError where the folder is missing, cannot be read, or holds two files of one name.
        """
        by_name = Folder()
        for path, match in self._matches(root):
            if other is not None and other.detail > self.detail and other.fits(path, root):
                continue
            if split is not None and self.tells_split and match["split"] != split:
                continue
            name = normalize("NFC", match["name"])  # some systems write é as one character, some as two
            if name in by_name:
                raise DataError(f"{path} and {by_name[name]} are both {name!r} of {self.text}; keep one of them")
            by_name[name] = path
        return by_name

    def splits(self, root: Path) -> set[str]:
        """The splits that files tell. Raises DataError as `files`."""
        return {match["split"] for _, match in self._matches(root)}

    def fits(self, path: Path, root: Path) -> re.Match[str] | None:
        """What the template reads in a path; None where it does not lie so."""
        return self._pattern.fullmatch(path.relative_to(root).as_posix())

    @cached_property
    def _pattern(self) -> re.Pattern[str]:
        return re.compile("".join(_PATTERNS.get(part, re.escape(part)) for part in _PARTS.split(self.text)))

    def _matches(self, root: Path) -> list[tuple[Path, re.Match[str]]]:
        fixed = _PARTS.split(self.text)[0]
        top = root / fixed.rpartition("/")[0]
        if not top.is_dir():
            raise DataError(f"folder {top} does not exist; paths in dataset.yaml name it: {self.text}")
        pictures = (path for path in files_below(top) if is_picture(path))
        matches = ((path, self.fits(path, root)) for path in pictures)
        return [(path, match) for path, match in matches if match is not None]
