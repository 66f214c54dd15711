"""Addresses of models on a hub: `hf://owner/name`, with `@revision` for another state than the newest of `main`."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kerbseg.core.errors import BundleError

SCHEME = "hf://"
_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]{0,94}[A-Za-z0-9_])?")  # 96 characters, as the hub allows
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+/-]{0,250}")


@dataclass(frozen=True)
class Address:
    """A repository of models on a hub, and a branch, a tag or a commit of it."""

    repository: str  # owner/name
    revision: str | None = None  # None: main

    def __str__(self) -> str:
        return f"{SCHEME}{self.repository}" + ("" if self.revision is None else f"@{self.revision}")

    @property
    def name(self) -> str:
        """The repository's name without its owner."""
        return self.repository.partition("/")[2]

    @classmethod
    def parse(cls, text: str) -> Address:
        """The address that a text such as `hf://owner/name@v1` or `owner/name` is. Raises BundleError for another."""
        repository, sign, revision = (text[len(SCHEME) :] if is_address(text) else text).partition("@")
        names = repository.split("/")
        if len(names) != 2 or not all(_is_name(name) for name in names):
            raise BundleError(
                f"{text!r} names no repository of a hub; write {SCHEME}OWNER/NAME, each of letters, digits, '.', '_'"
                " and '-'"
            )
        if sign and (not _REVISION.fullmatch(revision) or ".." in revision):
            raise BundleError(
                f"{text!r}: {revision!r} is no revision; write {SCHEME}{repository}@BRANCH, a tag or a commit"
            )
        return cls(repository, revision or None)


def is_address(model: object) -> bool:
    """Whether a model is named by where it is on a hub."""
    return isinstance(model, str) and model[: len(SCHEME)].lower() == SCHEME


def _is_name(text: str) -> bool:
    """Whether the hub takes it as an owner's or a repository's name."""
    return bool(_NAME.fullmatch(text)) and "--" not in text and ".." not in text and not text.endswith(".git")
