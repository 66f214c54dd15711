"""What `kerbseg push` sends: weights, config, page, pictures, exported files; checked before anything goes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from kerbseg.apps.hub_card import Publication, readme
from kerbseg.apps.info import CardFacts, card_facts
from kerbseg.bundle import BundleCard, locate, shipped
from kerbseg.core.errors import KerbsegError
from kerbseg.data.pictures import picture_size
from kerbseg.hub.addresses import Address
from kerbseg.hub.manifest import README, WEIGHTS, Content, Manifest
from kerbseg.model_files import title_of
from kerbseg.runtime import open_runtime
from kerbseg.runtime.engines import BUNDLE_SUFFIX, exporting, files_of, suffix_of

PICTURES = "pictures"  # folder of a repository
PICTURE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MOST_PICTURE = 10 * 2**20  # bytes


@dataclass(frozen=True)
class Upload:
    """Files by their names in the repository, and what its config says of them."""

    files: dict[str, Content]
    manifest: Manifest


def card_page(
    model: str,
    repository: Address | None = None,
    license: str | None = None,
    pictures: Sequence[str] = (),
) -> str:
    """A model's page for a hub; its commands name the repository, or the model as it was named where there is none.

    Raises BundleError as `locate`, KerbsegError for a licence that is none.
    """
    return _page(model, card_facts(locate(model)), repository, license, pictures)


def _page(
    model: str,
    facts: CardFacts,
    repository: Address | None,
    license: str | None,
    pictures: Sequence[str],
    exported: Sequence[str] = (),
) -> str:
    name = title_of(model, facts.path) if repository is None else repository.name
    typed = model if repository is None else str(repository)
    return readme(facts, Publication(name, typed, model in shipped(), license, pictures, exported))


def prepare(
    model: str,
    repository: Address,
    license: str | None = None,
    pictures: Sequence[Path] = (),
    beside: Sequence[Path] = (),
) -> Upload:
    """All files of a push.

    Raises BundleError for a model that is no whole bundle, and for exported files `beside` it that are of another
    network or other classes; KerbsegError for pictures that are none, and names that are taken.
    """
    path = locate(model)
    if path.suffix != BUNDLE_SUFFIX:
        raise KerbsegError(
            f"{model} is an exported file; push the bundle that it was made of, and this beside it: --with {model}"
        )
    facts = card_facts(path)
    files: dict[str, Content] = {WEIGHTS: path}
    for each in pictures:
        _add(files, f"{PICTURES}/{each.name}", _checked_picture(each))
    for each in beside:
        _check_exported(each, facts.card)
        for file in files_of(each):
            _add(files, file.name, file)
    shown = [quote(name) for name in files if name.startswith(f"{PICTURES}/")]
    exported = [each.name for each in beside]
    page = _page(model, facts, repository, license, shown, exported).encode()
    return Upload({README: page, **files}, Manifest.of(facts.card, files))


def _add(files: dict[str, Content], name: str, file: Path) -> None:
    if name in files:
        raise KerbsegError(f"two files are called {name}; rename one")
    files[name] = file


def _checked_picture(path: Path) -> Path:
    """The picture's file. Raises DataError for one that is none, KerbsegError for one that no page would show."""
    if path.suffix.lower() not in PICTURE_SUFFIXES:
        raise KerbsegError(f"picture {path}: pages show {', '.join(PICTURE_SUFFIXES)}; save it as one of them")
    picture_size(path)
    if (size := path.stat().st_size) > MOST_PICTURE:
        raise KerbsegError(f"picture {path} has {size / 1e6:.0f} MB; at most {MOST_PICTURE / 1e6:.0f} go onto a page")
    return path


def _check_exported(path: Path, card: BundleCard) -> None:
    """Raises BundleError for a file of another model than the card's."""
    if suffix_of(path) not in exporting():
        raise KerbsegError(f"--with {path}: exported files go beside a model ({', '.join(exporting())})")
    theirs = open_runtime(path).card
    if (theirs.model, theirs.labels.classes) != (card.model, card.labels.classes):
        raise KerbsegError(
            f"--with {path}: it is of {theirs.model} with {len(theirs.labels)} classes of {theirs.labels.name}, the"
            f" model of {card.model} with {len(card.labels)} of {card.labels.name}; export this model"
        )
