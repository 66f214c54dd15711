"""Text that others wrote (names of files and classes, addresses), made fit to be shown."""

from __future__ import annotations

import re
import unicodedata

ADDRESS = re.compile(r"[a-z][a-z0-9+.-]*://", re.IGNORECASE)  # how one begins
HIDDEN = "***"
UNSHOWN = {"Cc", "Cs", "Zl", "Zp"}  # Unicode's categories: controls such as ESC, lone surrogates, line separators
TURNING = set(
    "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)  # change the direction of what follows
_USER = re.compile(r"(?<=://)(?:[^\s/?#'\"]*|[^\s/?#'\"@:]*:(?!\d*[/?#])[^\s'\"]*)@")  # the second: a / in a password
_QUERY = re.compile(r"(\b[a-z][a-z0-9+.-]*://[^\s?#'\"]*[?#])[^\s'\"]+", re.IGNORECASE)
_SECRET = re.compile(r"\b((?:pass(?:word|wd)?|pwd|token|secret|api_?key)=)[^\s&/'\"]+", re.IGNORECASE)


def printable(text: str) -> str:
    r"""The text on one line, with whatever a terminal would obey or cannot show as an escape such as \x1b."""
    return "".join(_escaped(each) for each in text)


def printable_lines(text: str) -> str:
    """The same of a text of several lines, which stay lines."""
    return "\n".join(printable(line) for line in text.split("\n"))


def counted(number: int, word: str) -> str:
    """`1 epoch`, `2 epochs`."""
    return f"{number} {word}{'' if number == 1 else 's'}"


def redact(address: str) -> str:
    """The address, or a text with addresses in it, without what lets others in: user and password, query, tokens."""
    if "://" not in address:
        return address
    address = _USER.sub(f"{HIDDEN}@", address)
    return _SECRET.sub(rf"\1{HIDDEN}", _QUERY.sub(rf"\1{HIDDEN}", address))


def _escaped(character: str) -> str:
    if unicodedata.category(character) in UNSHOWN or character in TURNING:
        return character.encode("unicode_escape").decode("ascii")
    return character
