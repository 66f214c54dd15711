"""The parts of a page that a script writes anew, between marks; nothing else of the page is touched."""

from __future__ import annotations

import re


def between(text: str, mark: str, inside: str) -> str:
    """The text with what stands between the marks `<!-- mark -->` and `<!-- end of mark -->` made anew."""
    start, end = f"<!-- {mark} -->", f"<!-- end of {mark} -->"
    pattern = re.compile(re.escape(start) + r".*?" + re.escape(end), re.DOTALL)
    if not pattern.search(text):
        raise SystemExit(f"there is no {start} ... {end} to write to")
    return pattern.sub(lambda _: f"{start}\n\n{inside}\n\n{end}", text)
