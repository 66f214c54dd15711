"""A font that has the characters of class names, where the system has one; else ids in their place."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from PIL import ImageFont

from kerbseg.core.labels import LabelSet
from kerbseg.core.text import printable

WIDE_FONTS = (
    # Linux: many scripts, then those of China, Japan and Korea
    "DejaVuSans.ttf",
    "NotoSans-Regular.ttf",
    "NotoSansCJK-Regular.ttc",
    "NotoSansCJKsc-Regular.otf",
    "NotoSansCJKjp-Regular.otf",
    "SourceHanSansCN-Regular.otf",
    "wqy-zenhei.ttc",
    "wqy-microhei.ttc",
    "DroidSansFallbackFull.ttf",
    "DroidSansFallback.ttf",
    "TakaoPGothic.ttf",
    "ipag.ttf",
    "NanumGothic.ttf",
    "unifont.ttf",
    # macOS
    "PingFang.ttc",
    "Hiragino Sans GB.ttc",
    "AppleSDGothicNeo.ttc",
    "Arial Unicode.ttf",
    # Windows
    "segoeui.ttf",
    "msyh.ttc",
    "YuGothM.ttc",
    "msgothic.ttc",
    "malgun.ttf",
)
"""Names of files that Pillow looks for where the system has its fonts; the first with all characters is taken."""

NOTE = "numbers are class ids: no font here has the characters of their names"

NOT_A_CHARACTER = "\U0010ffff"
"""Every font draws the sign for what it has not in its place."""


def font_for(text: str, size: int) -> ImageFont.FreeTypeFont:
    """Pillow's own font, or one of the system that has all characters of the text; Pillow's where none has."""
    own = ImageFont.load_default(size)
    assert isinstance(own, ImageFont.FreeTypeFont)
    characters = frozenset(printable(text))
    if has_all(own, characters):
        return own
    name = _wide_font(characters, WIDE_FONTS)
    return own if name is None else ImageFont.truetype(name, size)


def shown_names(names: Iterable[str], labels: LabelSet, font: ImageFont.FreeTypeFont) -> dict[str, str]:
    """Each class's name as it can be drawn: its id where the font lacks one of its characters."""
    shown = {name: printable(name) for name in names}
    return {
        name: text if has_all(font, frozenset(text)) else f"class {labels.classes.index(name)}"
        for name, text in shown.items()
    }


def has_all(font: ImageFont.FreeTypeFont, characters: frozenset[str]) -> bool:
    """Whether the font has a sign of its own for each of the characters."""
    missing = bytes(font.getmask(NOT_A_CHARACTER))
    return all(each.isascii() or bytes(font.getmask(each)) != missing for each in characters)


@lru_cache(maxsize=64)
def _wide_font(characters: frozenset[str], candidates: tuple[str, ...]) -> str | None:
    """The first of the fonts that is there and has all characters. What is missing takes a walk through all folders."""
    for name in candidates:
        try:
            font = ImageFont.truetype(name, 16)
        except OSError:  # not on this system
            continue
        if has_all(font, characters):
            return name
    return None
