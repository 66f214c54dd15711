"""The weights of a repository as a file on this machine: fetched once, kept in huggingface_hub's cache."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from kerbseg.core.errors import BundleError, KerbsegWarning
from kerbseg.core.limits import MOST_PARAMETERS
from kerbseg.hub.addresses import Address
from kerbseg.hub.client import Hub, Unreachable
from kerbseg.hub.manifest import CONFIG, FORMAT, WEIGHTS, FileFacts, Manifest

MOST_CONFIG = 2**20  # bytes
MOST_WEIGHTS = 4 * MOST_PARAMETERS + 2**24  # bytes: parameters in float32, and a header
SHOWN = 5  # names of files in an error


def fetch(model: str) -> Path:
    """The file of weights at an address such as `hf://owner/name`; the newest, or that of `@revision`.

    Only what has changed is fetched. Where the hub cannot be reached the copy of the last time is taken, with a
    warning; with HF_HUB_OFFLINE set it is taken at once. Raises BundleError for an address that is none, a repository
    that is not there, not for this token or not of kerbseg, and for files that are too large or did not come whole;
    MissingExtra without huggingface_hub.
    """
    address = Address.parse(model)
    hub = Hub()
    try:
        return _fetched(hub, address)
    except Unreachable as error:
        return _kept(hub, address, error)


def read_manifest(hub: Hub, address: Address) -> tuple[Manifest | None, str]:
    """What a repository says of itself, and its commit; None where it does not say that it is of kerbseg."""
    path, commit = _file(hub, address, CONFIG, MOST_CONFIG)
    try:
        return (None if path is None else Manifest.parse(path.read_bytes())), commit
    except ValueError:
        return None, commit


def names(files: Sequence[str]) -> str:
    """Some names of files, and how many more there are."""
    more = f" and {len(files) - SHOWN} more" if len(files) > SHOWN else ""
    return ", ".join(files[:SHOWN]) + more if files else "nothing"


def _fetched(hub: Hub, address: Address) -> Path:
    manifest, commit = read_manifest(hub, address)
    facts = _weights(hub, address, manifest)
    path, _ = _file(hub, replace(address, revision=commit), WEIGHTS, MOST_WEIGHTS)
    if path is None:
        raise BundleError(f"{address} has no {WEIGHTS}, of which its {CONFIG} tells; push it again")
    return _whole(path, facts, address)


def _kept(hub: Hub, address: Address, error: Unreachable) -> Path:
    """The copy of the last time."""
    config = hub.cached(address, CONFIG)
    weights = None if config is None else hub.cached(replace(address, revision=config.parent.name), WEIGHTS)
    if config is None or weights is None:
        raise BundleError(f"{address}: {error.why}, and no copy of it is on this machine; check the network") from error
    if not hub.offline:
        commit = config.parent.name[:8]
        warnings.warn(KerbsegWarning(f"{address}: {error.why}; taken is the copy of commit {commit}"), stacklevel=4)
    try:
        return _whole(weights, _weights(hub, address, Manifest.parse(config.read_bytes())), address)
    except ValueError as damaged:
        raise BundleError(f"{address}: its copy is damaged; remove {config.parents[2]}, and try again") from damaged


def _weights(hub: Hub, address: Address, manifest: Manifest | None) -> FileFacts:
    """By which the weights are known. Raises BundleError where a repository has none of ours."""
    if manifest is None:
        listing = hub.listing(address)
        raise BundleError(
            f"{address} holds no model of kerbseg (it holds {names(listing.files if listing else ())}); its owner can"
            f" push one: kerbseg push MODEL {address.repository}"
        )
    if manifest.format > FORMAT:
        raise BundleError(f"{address} was pushed by a newer kerbseg; run: pip install -U kerbseg")
    if WEIGHTS not in manifest.files:
        raise BundleError(f"{address}: its {CONFIG} tells of no {WEIGHTS}; push it again")
    return manifest.files[WEIGHTS]


def _file(hub: Hub, address: Address, name: str, most: int) -> tuple[Path | None, str]:
    """A file on this machine (None: there is none on the hub) and the commit that it is of."""
    remote = hub.file(address, name)
    if remote is None:
        return None, ""
    if remote.size is None or remote.size > most:
        told = "does not say how many" if remote.size is None else f"has {remote.size:,}"
        raise BundleError(f"{address}: {name} {told} bytes, of at most {most:,} that are taken")
    path = hub.cached(address, name)
    if path is None or path.parent.name != remote.commit:
        path = hub.download(address, name, most)
    return path, remote.commit


def _whole(path: Path, facts: FileFacts, address: Address) -> Path:
    """The file, if it is the one that was pushed."""
    if (size := path.stat().st_size) != facts.size:
        raise BundleError(
            f"{address}: {path.name} has {size:,} of the {facts.size:,} bytes that {CONFIG} tells of; push it again,"
            f" or, if it is whole on the hub, remove {path.parents[2]}"
        )
    if FileFacts.of(path) != facts:
        raise BundleError(
            f"{address}: {path.name} is not the file that {CONFIG} tells of; push it again, or, if it is right on the"
            f" hub, remove {path.parents[2]}"
        )
    return path
