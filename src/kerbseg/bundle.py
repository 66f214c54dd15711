"""A bundle: one `.safetensors` file with the weights and the card that is needed to use them."""

from __future__ import annotations

import hashlib
import re
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import nn

import kerbseg.models as models
from kerbseg.bundle_card import DIGEST_KEY as DIGEST_KEY
from kerbseg.bundle_card import FORMAT as FORMAT
from kerbseg.bundle_card import METADATA_KEY as METADATA_KEY
from kerbseg.bundle_card import BundleCard as BundleCard
from kerbseg.bundle_card import parse_card
from kerbseg.bundle_card import versions as versions
from kerbseg.core.errors import BundleError, KerbsegError, KerbsegWarning, did_you_mean
from kerbseg.core.files import atomic_write
from kerbseg.core.half import narrowed, widened
from kerbseg.core.labels import LONGEST_NAME, LabelSet
from kerbseg.core.outline import outlines
from kerbseg.core.text import ADDRESS
from kerbseg.model_files import locate as locate
from kerbseg.model_files import shipped as shipped

CHANGED = {  # networks that computed otherwise when files had no digest, though their weights still fit
    "espnet_c": "batch normalization adds 1e-3 to variances now, then 1e-5; train it again, or measure it anew",
}


@dataclass(frozen=True)
class Bundle:
    """A network with its weights, in eval mode, and its card."""

    model: nn.Module
    card: BundleCard


def random_bundle(
    name: str, labels: LabelSet, *, options: Mapping[str, Any] | None = None, seed: int | None = None
) -> Bundle:
    """A registered network with random weights for these classes; a seed gives those of a training's first step."""
    facts, options = models.card(name), dict(options or {})
    card = BundleCard(
        name, labels, facts.preprocessing, facts.input, len(labels), options=options, source="random weights"
    )
    with torch.random.fork_rng(devices=[], enabled=seed is not None):
        if seed is not None:
            torch.manual_seed(seed)
        return Bundle(models.create_model(name, len(labels), **options).eval(), card)


def save(bundle: Bundle, path: str | Path) -> None:
    """Writes the bundle; a file already there is replaced only when the new one is whole.

    Kernels that float16 holds exactly, as `kerbseg.core.half.round_to_half` makes them, take half the bytes; `load`
    gives the same float32 values back.
    Raises BundleError for one that `load` would refuse: weights that are not finite, or that do not fit the card.
    """
    fits = isinstance(bundle, Bundle) and isinstance(bundle.model, nn.Module) and isinstance(bundle.card, BundleCard)
    if not fits or not isinstance(path, str | Path):
        raise KerbsegError(
            f"save takes a bundle (network and card) and a path, not {type(bundle).__name__} and"
            f" {type(path).__name__}; write: save(Bundle(network, card), 'model.safetensors')"
        )
    path = _checked_name(Path(path))
    tensors = {key: value.detach().cpu().contiguous() for key, value in bundle.model.state_dict().items()}
    text, where = bundle.card.to_json(), f"this network does not fit its card and is not saved as {path}"
    BundleCard.from_json(text, where)
    _check_fit(_shapes(bundle.card, where), tensors, where)
    check_finite(tensors, f"{path} is not written")
    write_sealed(narrowed(tensors), METADATA_KEY, text, path)


def _checked_name(path: Path) -> Path:
    if path.suffix != ".safetensors":
        raise KerbsegError(f"a bundle is a .safetensors file, not {path.name!r}; name it {path.stem}.safetensors")
    return path


def save_with_card(source: Path, card: BundleCard, path: Path) -> None:
    """Writes the weights of a bundle's file, bit for bit, under another card; the file may be the same.

    Raises BundleError as `load` does, KerbsegError for another ending than .safetensors.
    """
    text, path = card.to_json(), _checked_name(path)
    BundleCard.from_json(text, f"{path} is not written")
    try:
        tensors = safetensors.torch.load_file(source)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{source} is damaged ({error}); copy or train it again") from error
    check_seal(_card_text(source), tensors, str(source))
    write_sealed(tensors, METADATA_KEY, text, path)


def write_sealed(tensors: Mapping[str, torch.Tensor], key: str, card: str, path: Path) -> None:
    """Writes weights and, under a key of the header, a card's JSON with the digest of both."""
    with atomic_write(path) as temporary:
        try:
            safetensors.torch.save_file(dict(tensors), temporary, metadata={key: seal(card, tensors)})
        except SafetensorError as error:  # so safetensors reports a full disk
            number = re.search(r"os error (\d+)", str(error))
            raise OSError(int(number[1]) if number else None, str(error)) from error


def find_model(model: str | Path, labels: LabelSet | None = None) -> Path | Bundle:
    """The file of a model as `locate` finds it, or a registered network with random weights for these classes.

    Raises BundleError as `locate`; without `labels` also for a registered name.
    """
    try:
        return locate(model)
    except BundleError as error:
        name, known = str(model), models.list_models()
        if labels is None or not isinstance(model, str | Path):
            raise
        if name in known:
            return random_bundle(name, labels)
        if ADDRESS.match(name) or Path(model).suffix or len(name) > LONGEST_NAME or Path(model).exists():
            raise
        raise BundleError(f"model {model} does not exist; {did_you_mean(name, [*shipped(), *known])}") from error


def read_card(path: str | Path) -> BundleCard:
    """The card alone, without reading the weights. Raises BundleError as `load` does."""
    path = locate(path)
    return BundleCard.from_json(_card_text(path), str(path))


def _card_text(path: Path) -> str:
    """The card as it stands in a file's header."""
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BundleError(
            f"{path} is no whole .safetensors file ({error}); if it is an authors' checkpoint, use: kerbseg import"
        ) from error
    if METADATA_KEY not in metadata:
        raise BundleError(f"{path} holds weights but no kerbseg card; use: kerbseg import")
    return metadata[METADATA_KEY]


def load(path: str | Path) -> Bundle:
    """The bundle in a file, its network in eval mode on the CPU; nothing in the file is executed.

    `path` may be the name of weights that come with kerbseg, such as `mininet_v2_cpu-camvid`, or an address on a hub,
    such as `hf://owner/name`. Raises BundleError for a damaged or foreign file, or weights that do not fit the card's
    network.
    """
    path = locate(path)
    text = _card_text(path)
    card = BundleCard.from_json(text, str(path))
    try:
        state = safetensors.torch.load_file(path)
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is damaged ({error}); copy or train it again") from error
    check_seal(text, state, str(path))
    if card.model in CHANGED and DIGEST_KEY not in parse_card(text):
        warnings.warn(KerbsegWarning(f"{path} is of an older {card.model}: {CHANGED[card.model]}"), stacklevel=2)
    state = widened(state)
    _check_fit(_shapes(card, str(path)), state, str(path))  # before a network of that size is made
    model = models.create_model(card.model, card.outputs, **card.options)
    load_strictly(model, state, str(path))
    return Bundle(model.eval(), card)


def _shapes(card: BundleCard, where: str) -> nn.Module:
    """The card's network without its weights: neither time nor memory. Raises BundleError where it cannot be made."""
    try:
        with outlines():
            return models.create_model(card.model, card.outputs, **card.options)
    except (KerbsegError, TypeError) as error:
        raise BundleError(f"{where}: its card asks for a network that cannot be made ({error})") from error


def load_strictly(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Loads finite weights whose keys, types and shapes all fit. Raises BundleError naming the first that does not."""
    _check_fit(model, state, where)
    check_finite(state, where)
    model.load_state_dict(dict(state))


def _check_fit(model: nn.Module, state: Mapping[str, torch.Tensor], where: str) -> None:
    wanted = model.state_dict()
    for key in [*wanted, *state]:
        if key not in state or key not in wanted:
            problem = "lacks" if key not in state else "holds an unknown"
            raise BundleError(f"{where} {problem} {key!r} for a {type(model).__name__}; is it another network?")
        if state[key].dtype != wanted[key].dtype:
            raise BundleError(f"{where}: {key!r} is {state[key].dtype}, the network needs {wanted[key].dtype}")
        if state[key].shape != wanted[key].shape:
            given, expected = list(state[key].shape), list(wanted[key].shape)
            raise BundleError(
                f"{where}: {key!r} is {given}, the network needs {expected}; another class count or width?"
            )


def check_finite(state: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises BundleError naming the first weight that holds NaN, an infinite value, or a variance below zero."""
    for key, value in state.items():
        if not torch.isfinite(value).all():
            raise BundleError(f"{where}: {key!r} holds NaN or infinite values; copy or train it again")
        check_variance(key, value, f"{where}: {key!r}")


def check_variance(key: str, value: torch.Tensor, which: str) -> None:
    """Raises BundleError for a batch-norm's variance below zero, whose root is no number; `which` says whose it is."""
    if key.endswith(".running_var") and (value < 0).any():
        raise BundleError(f"{which} holds negative numbers, which no variance is; copy or train it again")


def digest(state: Mapping[str, torch.Tensor], text: str = "") -> str:
    """SHA-256 of weights (their names, types, shapes and bytes, whatever their order) and of a text beside them."""
    made = hashlib.sha256()
    for key in sorted(state):
        value = state[key].detach().cpu().contiguous()
        made.update(f"{key} {value.dtype} {list(value.shape)}\n".encode())
        made.update(value.reshape(-1).view(torch.uint8).numpy().data)
    made.update(text.encode())
    return made.hexdigest()


def seal(card: str, state: Mapping[str, torch.Tensor]) -> str:
    """A card's JSON with the digest of itself and its weights as the last entry."""
    return f'{card[:-1]}, "{DIGEST_KEY}": "{digest(state, card)}"}}'


def check_seal(card: str, state: Mapping[str, torch.Tensor], where: str) -> None:
    """Raises BundleError where weights or card are not those that were sealed; older files have no digest."""
    try:
        given = parse_card(card).get(DIGEST_KEY)
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise BundleError(f"{where}: its card is damaged ({error}); copy or train it again") from error
    bare = card.removesuffix(f', "{DIGEST_KEY}": "{given}"}}') + "}"
    if given is not None and digest(state, bare) != given:
        raise BundleError(f"{where} is damaged: its weights or its card are not those saved; copy or train it again")
