"""Writing a model to a hub's repository: what is there is looked at first, and all files come in one commit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from kerbseg.core.errors import KerbsegError
from kerbseg.hub.addresses import Address
from kerbseg.hub.client import LOGIN, Hub, Listing, NoRevision
from kerbseg.hub.fetch import names, read_manifest
from kerbseg.hub.manifest import CONFIG, README, Content, Manifest

HARMLESS = {".gitattributes", "LICENSE", "LICENSE.md"}  # what a new repository may hold already; no push writes them


@dataclass(frozen=True)
class Pushed:
    """What became of a push."""

    page: str  # where it is looked at
    commit: str
    new: bool  # whether the repository was made
    changed: bool  # whether anything was not there already
    replaced: str | None  # the network that was there
    removed: tuple[str, ...]  # files of the push before that belong to its weights


def push(address: Address, files: Mapping[str, Content], manifest: Manifest, private: bool = False) -> Pushed:
    """Writes the files, with the manifest as `config.json`, to the address's branch; repository and branch are made.

    A repository that is not of kerbseg is left as it is, and so is a public one where `private` is asked for; files
    that the last push wrote and this one does not are removed. The token is that of HF_TOKEN or of huggingface's
    login. Raises KerbsegError where there is none, and as `fetch` does.
    """
    hub = Hub()
    if not hub.has_token():
        raise KerbsegError(f"a push needs a token of {hub.endpoint} that may write; {LOGIN}")
    at, seen = _look(hub, address)
    before = None if seen is None else _before(hub, at, seen)
    if seen is None:
        hub.create(address, private)
    elif private and not seen.private:
        raise KerbsegError(
            f"{hub.page(address)} is public already; make it private in its settings, or leave --private out"
        )
    if address.revision is not None and (seen is None or at != address):
        hub.create_branch(address)
    written = {**files, CONFIG: manifest.to_json().encode()}
    removed = _left_over(before, seen, written)
    onto = None if seen is None else seen.commit
    commit = hub.commit(address, written, removed, f"Upload {manifest.model} with kerbseg", onto)
    return Pushed(
        hub.page(address), commit, seen is None, commit != onto, None if before is None else before.model, removed
    )


def _look(hub: Hub, address: Address) -> tuple[Address, Listing | None]:
    """What a push is written onto: the branch, or `main` where there is no such branch yet."""
    try:
        return address, hub.listing(address)
    except NoRevision:
        main = replace(address, revision=None)
        return main, hub.listing(main)


def _before(hub: Hub, address: Address, seen: Listing) -> Manifest | None:
    """What the last push wrote, if one did. Raises KerbsegError for a repository with files of others."""
    manifest = read_manifest(hub, address)[0] if CONFIG in seen.files else None
    others = sorted(set(seen.files) - HARMLESS)
    if manifest is None and others:
        raise KerbsegError(
            f"{hub.page(address)} is no repository of kerbseg and stays as it is: it holds {names(others)}; choose"
            " another name, or empty it first"
        )
    return manifest


def _left_over(before: Manifest | None, seen: Listing | None, written: Mapping[str, Content]) -> tuple[str, ...]:
    if before is None or seen is None:
        return ()
    return tuple(sorted(set(before.files) & set(seen.files) - set(written) - {README}))
