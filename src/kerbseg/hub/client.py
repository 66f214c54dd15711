"""The one place where huggingface_hub is used: requests, its cache, and its errors in our words."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import kerbseg
from kerbseg.core.errors import BundleError, KerbsegError, needing_extras
from kerbseg.core.telemetry import switch_off
from kerbseg.hub.addresses import Address
from kerbseg.hub.manifest import LIBRARY, Content

MAIN = "main"
LOOK_S = 10.0  # that a hub may take to say what is there
PATIENCE_S = 120.0  # of any other answer: a commit of large files takes a while
LOGIN = "set HF_TOKEN, or run: hf auth login"
BUSY = (408, 429)  # and all from 500 on: the hub has no time, or a fault of its own
_COMMIT = re.compile(r"[0-9a-f]{40}")
_TAG = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,199}")  # of a file's content; its name in the cache


class Unreachable(BundleError):
    """A hub that does not answer, or not now."""

    def __init__(self, address: Address, endpoint: str, why: str) -> None:
        self.why = f"{endpoint} cannot be reached: {why}"
        super().__init__(f"{address}: {self.why}; check the network, or try again later")


class NoRevision(BundleError):
    """A repository without the revision that was asked for."""


@dataclass(frozen=True)
class RemoteFile:
    """What a hub says of a file before it is fetched."""

    commit: str  # of the revision that was asked for
    size: int | None  # bytes


@dataclass(frozen=True)
class Listing:
    """A revision of a repository."""

    commit: str
    files: tuple[str, ...]
    private: bool


class Hub:
    """A hub, with the token of the environment or of huggingface's own login, if there is one."""

    def __init__(self) -> None:
        """Raises MissingExtra without huggingface_hub."""
        switch_off()
        with needing_extras():
            import huggingface_hub.constants
            import huggingface_hub.errors
            import huggingface_hub.utils
        self._package: Any = huggingface_hub
        self._api: Any = huggingface_hub.HfApi(library_name=LIBRARY, library_version=kerbseg.__version__)

    @property
    def endpoint(self) -> str:
        """Where it is."""
        return str(self._api.endpoint)

    @property
    def offline(self) -> bool:
        """Whether HF_HUB_OFFLINE says that nothing is asked of it."""
        return bool(self._package.constants.HF_HUB_OFFLINE)

    def has_token(self) -> bool:
        """Whether there is a token; it is never shown."""
        return self._package.get_token() is not None

    def page(self, address: Address) -> str:
        """Where a repository is looked at."""
        return f"{self.endpoint}/{address.repository}"

    def file(self, address: Address, name: str) -> RemoteFile | None:
        """What there is under a name; None where there is nothing."""
        url = self._package.hf_hub_url(address.repository, name, revision=address.revision, endpoint=self._api.endpoint)
        with self._plainly(address):
            try:
                facts = self._api.get_hf_file_metadata(url=url, timeout=LOOK_S)
            except self._package.errors.EntryNotFoundError:
                return None
        if not _COMMIT.fullmatch(facts.commit_hash or "") or not _TAG.fullmatch(facts.etag or ""):
            raise self._strange(address)
        return RemoteFile(facts.commit_hash, facts.size)

    def download(self, address: Address, name: str, most: int) -> Path:
        """A file, in the cache. Raises BundleError for one of more than `most` bytes, whatever was said of it."""

        class Bounded(self._package.utils.tqdm):  # type: ignore[name-defined] # the bar sees each piece
            received = 0.0

            def update(self, n: float | None = 1) -> bool | None:
                self.received += n or 0
                if self.received > most:
                    raise BundleError(f"{address}: {name} goes on after {most:,} bytes; it is not taken")
                shown: bool | None = super().update(n)
                return shown

        with self._plainly(address):
            return Path(
                self._api.hf_hub_download(address.repository, name, revision=address.revision, tqdm_class=Bounded)
            )

    def cached(self, address: Address, name: str) -> Path | None:
        """A file as it was fetched last, if it was."""
        found = self._package.try_to_load_from_cache(address.repository, name, revision=address.revision)
        return Path(found) if isinstance(found, str) else None

    def listing(self, address: Address) -> Listing | None:
        """What a revision holds; None where there is no such repository, or none that this token may see.

        Raises NoRevision for a repository without it.
        """
        with self._plainly(address):
            try:
                info = self._api.model_info(address.repository, revision=address.revision, timeout=LOOK_S)
            except self._package.errors.RepositoryNotFoundError as error:
                if isinstance(error, self._package.errors.GatedRepoError):
                    raise
                return None
        if not _COMMIT.fullmatch(info.sha or ""):
            raise self._strange(address)
        return Listing(info.sha, tuple(each.rfilename for each in info.siblings or ()), bool(info.private))

    def create(self, address: Address, private: bool) -> None:
        """Makes the repository; who may see it is the owner's default, where it is not to be private."""
        with self._plainly(address):
            self._api.create_repo(address.repository, private=True if private else None)

    def create_branch(self, address: Address) -> None:
        """Makes the address's branch, as `main` is."""
        with self._plainly(address):
            self._api.create_branch(address.repository, branch=address.revision)

    def commit(
        self, address: Address, files: Mapping[str, Content], removed: Iterable[str], message: str, onto: str | None
    ) -> str:
        """Writes and removes files at once, onto the commit that was looked at; gives the new commit."""
        operations = [
            *(self._package.CommitOperationAdd(name, content) for name, content in files.items()),
            *(self._package.CommitOperationDelete(name) for name in removed),
        ]
        with self._plainly(address):
            made = self._api.create_commit(
                address.repository, operations, commit_message=message, revision=address.revision, parent_commit=onto
            )
        return str(made.oid)

    @contextmanager
    def _plainly(self, address: Address) -> Iterator[None]:
        """Within it what goes wrong is a KerbsegError of one line."""
        errors = self._package.errors
        try:
            with self._quietly():
                yield
        except (errors.HTTPError, OSError, ValueError, KeyError, RuntimeError) as error:
            if (explained := self._explained(error, address)) is None:
                raise
            raise explained from error

    @contextmanager
    def _quietly(self) -> Iterator[None]:
        """Within it the package waits for no answer without end, warns of nothing, and draws bars on terminals only."""
        utils, session = self._package.utils, self._package.utils.get_session()
        logger = logging.getLogger(self._package.__name__)  # which tells of what is tried again
        before, level = session.timeout, logger.level
        asked = self._package.constants.HF_HUB_DISABLE_PROGRESS_BARS is not None
        hidden = not (sys.stderr.isatty() or asked or utils.are_progress_bars_disabled())
        session.timeout = PATIENCE_S
        logger.setLevel(logging.ERROR)
        if hidden:
            utils.disable_progress_bars()
        try:
            yield
        finally:
            session.timeout = before
            logger.setLevel(level)
            if hidden:
                utils.enable_progress_bars()

    def _explained(self, error: Exception, address: Address) -> KerbsegError | None:
        """The error in our words; None for one that the hub has no part in, such as a full disk."""
        errors = self._package.errors
        if isinstance(error, RuntimeError) and isinstance(error.__cause__, errors.HTTPError):
            error = error.__cause__  # of an upload
        if isinstance(error, errors.LocalEntryNotFoundError):
            error = error.__cause__ or error
        match error:
            case errors.GatedRepoError():
                return BundleError(
                    f"{address} is gated: ask its owner for access at {self.page(address)}, then {LOGIN}"
                )
            case errors.RepositoryNotFoundError():
                return BundleError(self._missing(address))
            case errors.RevisionNotFoundError():
                return NoRevision(
                    f"{address}: {address.repository} has no revision {address.revision!r}; its branches and tags are"
                    f" at {self.page(address)}/tree/{MAIN}"
                )
            case errors.HfHubHTTPError():
                return self._refused(error.response.status_code, error.server_message or "", address)
            case errors.HTTPError() | errors.OfflineModeIsEnabled() | errors.LocalEntryNotFoundError():
                return Unreachable(address, self.endpoint, "HF_HUB_OFFLINE is set" if self.offline else _brief(error))
            case OSError() if error.errno is not None:
                return None
            case UnicodeEncodeError():  # of a header: all else that is sent has escapes
                return BundleError(f"{address}: the token holds a character that no token has; {LOGIN}")
            case KeyError():
                return self._strange(address)
        return BundleError(f"{address}: {_brief(error)}; try again")

    def _missing(self, address: Address) -> str:
        """Words on a repository that is not seen: a hub does not tell a private one from none."""
        if self.has_token():
            return f"{address} is not at {self.endpoint}, or private and not for this token; check the name"
        return f"{address} is not at {self.endpoint}, or private; check the name, or {LOGIN}"

    def _refused(self, status: int, words: str, address: Address) -> KerbsegError:
        if status in BUSY or status >= 500:
            return Unreachable(address, self.endpoint, f"it answers {status}")
        remedies = {
            401: f"its token is not accepted; {LOGIN}",
            403: f"this token may not do that; use one with the right to it ({self.endpoint}/settings/tokens)",
            409: "it exists already; try again",
            412: "somebody else has changed it meanwhile; push again",
        }
        told = f"{self.endpoint} refuses it ({' '.join([str(status), *words.split()])}); change it, or try again later"
        return BundleError(f"{address}: {remedies.get(status, told)}")

    def _strange(self, address: Address) -> KerbsegError:
        return BundleError(f"{address}: {self.endpoint} does not answer as a hub does; check HF_ENDPOINT")


def _brief(error: BaseException) -> str:
    """The error's own words, on one line and not too many."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 200 else f"{text[:200]} ..."
