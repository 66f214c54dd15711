"""Errors that a user can mend. The command line prints them as one line and exits with status 2."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from importlib.util import find_spec

from kerbseg.core.extras import EXTRAS, REQUIRED, how_to_install
from kerbseg.core.text import printable, redact


class KerbsegError(Exception):
    """Bad input: says what was wrong, what was found and the way out, in one line that a terminal can show."""

    def __init__(self, message: str) -> None:
        super().__init__(printable(redact(" ".join(message.split()))))


class DataError(KerbsegError):
    """A data set, picture or mask that cannot be used as it is."""


class RecipeError(KerbsegError):
    """A recipe key, type or choice that does not exist."""


class BundleError(KerbsegError):
    """A model file that is damaged, foreign, or does not fit."""


class InputError(KerbsegError, ValueError):
    """An input that a network cannot take (size, channels, values)."""


class KerbsegWarning(UserWarning):
    """What a user should know of a result; the command line prints it as one line."""


class MissingExtra(KerbsegError, ImportError):
    """A feature whose optional packages are not installed: those of an extra, or one that no extra brings."""

    def __init__(self, package: str, extra: str | None) -> None:
        how = f"run: pip install {package}" if extra is None else how_to_install(extra)
        super().__init__(f"{package} is not installed; {how}")
        self.package = package


@contextmanager
def needing_extras() -> Iterator[None]:
    """Within it an optional package that is not installed is a MissingExtra; other failed imports stay as they are.

    So is one that was left out for the sake of a small image.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in REQUIRED:
            raise MissingExtra(REQUIRED[package], None) from error
        if package not in EXTRAS:
            raise
        raise MissingExtra(package, EXTRAS[package]) from error


def check_installed(extra: str, packages: Iterable[str]) -> None:
    """Raises MissingExtra for the first of these that is not there, before any work that needs them all."""
    for package in packages:
        if find_spec(package) is None:
            raise MissingExtra(package, extra)


class Interrupted(KeyboardInterrupt):
    """A request to end, and the signal that it came by."""

    def __init__(self, signum: int, message: str = "interrupted; what was finished is kept") -> None:
        super().__init__(message)
        self.signum = signum


def did_you_mean(word: str, choices: Iterable[str]) -> str:
    """A phrase that names the nearest valid choice, or all of them where none is near."""
    choices = list(choices)
    close = get_close_matches(word, choices, n=1, cutoff=0.5)
    if not close:  # nor is large or small a difference
        small = {choice.lower(): choice for choice in choices}
        close = [small[each] for each in get_close_matches(word.lower(), small, n=1, cutoff=0.5)]
    return f"did you mean {close[0]!r}?" if close else f"choose from: {', '.join(choices)}"
