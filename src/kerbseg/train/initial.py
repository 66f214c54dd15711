"""Weights that a training starts from: a bundle, a classifier of ours, or a user's own file."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from kerbseg.bundle import METADATA_KEY, check_finite, check_seal, load, load_strictly, locate, write_sealed
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.importers import read_initial_weights
from kerbseg.train.matching import Start, Target, match

CLASSIFIER_KEY = "kerbseg_classifier"  # of the safetensors header
COUNTER = "num_batches_tracked"
MOST_OF_A_HEAD = 2  # tensors after the body in a user's classifier


@dataclass(frozen=True)
class ClassifierCard:
    """What a classifier's weights are, and where they came from."""

    model: str
    classes: tuple[str, ...]
    options: Mapping[str, Any] = field(default_factory=dict)
    recipe: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)


def save_classifier(net: nn.Module, card: ClassifierCard, path: Path) -> None:
    """Writes finite weights and card; a file already there is replaced only when the new one is whole."""
    tensors = {key: value.detach().cpu().contiguous() for key, value in net.state_dict().items()}
    check_finite(tensors, f"{path} is not written")
    write_sealed(tensors, CLASSIFIER_KEY, json.dumps(asdict(card)), path)


def load_initial_weights(
    net: nn.Module, source: str | Path, prefixes: str | Sequence[str] = "", target: Target | None = None
) -> Start | None:
    """Takes weights from a file, a run's folder or shipped weights.

    Under `prefixes` all must fit. Without them those are taken that do (`matching`, for which `target` says what the
    network's classes are), and what is fresh is returned.
    The file is a bundle, a classifier that `kerbseg train imagenet/...` made, or a user's classifier: a PyTorch state
    dict whose body has the same layers in the same order (other names are fine, every shape must fit), safetensors with
    our names (that format keeps no order), or Darknet's `.weights`. Raises BundleError for a file that is damaged or of
    another network.
    """
    if not any((prefixes,) if isinstance(prefixes, str) else prefixes):
        return _load_what_fits(net, locate(source), target or Target())
    _load_parts(net, source, prefixes)
    return None


def _load_what_fits(net: nn.Module, path: Path, target: Target) -> Start | None:
    """By names where the file has ours, else by order as `_load_parts`."""
    own = net.state_dict()
    given: Mapping[str, Tensor] | None = None
    known: tuple[str, ...] | None = None
    if (ours := _ours(path)) is not None:
        given, known = ours
    elif path.suffix == ".safetensors":
        given = safetensors.torch.load_file(path)
    elif path.suffix != ".weights":
        given = read_initial_weights(path)
    if given is None or (known is None and not own.keys() & given.keys()):
        _load_parts(net, path, "")
        return None
    state, start = match(own, given, target, known, str(path))
    load_strictly(net, state, str(path))
    return start


def _load_parts(net: nn.Module, source: str | Path, prefixes: str | Sequence[str]) -> None:
    """Takes all weights under these prefixes, which must fit."""
    wanted = (prefixes,) if isinstance(prefixes, str) else tuple(prefixes)
    own = net.state_dict()
    heads = tuple(f"{name}." for name in getattr(net, "heads", ()))  # no file is asked for those of training alone
    mine = {key: value for key, value in own.items() if key.startswith(wanted) and not key.startswith(heads)}
    if not mine:
        parts = ", ".join(f"{name}." for name, _ in net.named_children())
        raise KerbsegError(f"model.init: this network has no weights under {', '.join(wanted)}; it has {parts}")
    path = locate(source)
    ours = _ours(path)
    if ours is not None:
        state = {key: value for key, value in ours[0].items() if key.startswith(wanted)}
        if not state:
            raise BundleError(f"{path} holds no weights under {', '.join(wanted)}; is it another network?")
    elif path.suffix == ".weights":
        state = _darknet(path, mine)
    else:
        named = path.suffix == ".safetensors"
        state = _by_name(path, mine) if named else _by_order(path, read_initial_weights(path), mine)
    load_strictly(net, {key: value for key, value in own.items() if key not in mine} | state, str(path))


def _ours(path: Path) -> tuple[Mapping[str, Tensor], tuple[str, ...]] | None:
    """The weights of a bundle or classifier of ours, and its classes; None for another file."""
    if path.suffix != ".safetensors":
        return None
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
    except (SafetensorError, OSError) as error:
        raise BundleError(f"{path} is no whole .safetensors file ({error}); copy or train it again") from error
    if METADATA_KEY in metadata:
        bundle = load(path)
        return bundle.model.state_dict(), bundle.card.labels.classes
    if CLASSIFIER_KEY not in metadata:
        return None
    state = safetensors.torch.load_file(path)
    check_seal(metadata[CLASSIFIER_KEY], state, str(path))
    return state, tuple(json.loads(metadata[CLASSIFIER_KEY]).get("classes", ()))


def _by_name(path: Path, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A user's weights that have our names already."""
    given = safetensors.torch.load_file(path)
    if missing := [key for key in mine if key not in given and not key.endswith(COUNTER)]:
        raise BundleError(
            f"{path} lacks {missing[0]!r}; with other names save it as torch.save(net.state_dict(), 'net.pth'), which"
            " keeps the order of its layers"
        )
    return {key: given.get(key, value) for key, value in mine.items()}


def _by_order(path: Path, given: Mapping[str, Tensor], mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A user's weights under our names: the same kinds and shapes, one after the other, and at most a head behind."""
    theirs = [(key, value) for key, value in given.items() if not key.endswith(COUNTER)]
    ours = [(key, value) for key, value in mine.items() if not key.endswith(COUNTER)]
    if not len(ours) <= len(theirs) <= len(ours) + MOST_OF_A_HEAD:
        raise BundleError(
            f"{path} holds {len(theirs)} weights, the network begins with {len(ours)}; is it another network?"
        )
    state = {key: value for key, value in mine.items() if key.endswith(COUNTER)}
    for (name, value), (key, expected) in zip(theirs, ours, strict=False):
        same_kind = name.rpartition(".")[2] == key.rpartition(".")[2]
        if not same_kind or value.shape != expected.shape:
            raise BundleError(
                f"{path}: {name!r} {list(value.shape)} stands where the network has {key!r} {list(expected.shape)};"
                " is it another network, or are its layers saved in another order?"
            )
        state[key] = value.to(expected.dtype)
    return state


def _darknet(path: Path, mine: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The body of a Darknet file: a header, then each layer's shift, scale, mean, variance and convolution."""
    content = path.read_bytes()
    if len(content) < 20:
        raise BundleError(f"{path} is too short for Darknet weights; copy it again")
    version = np.frombuffer(content[:8], "<i4")
    header = 20 if version[0] * 10 + version[1] >= 2 else 16  # bytes: it counts pictures in 8 since version 0.2
    numbers = np.frombuffer(content[header : header + (len(content) - header) // 4 * 4], "<f4")
    weights = [key for key, value in mine.items() if value.ndim == 4]
    needed = sum(mine[key].numel() + 4 * mine[key].shape[0] for key in weights)
    if len(numbers) < needed:
        raise BundleError(f"{path} holds {len(numbers)} numbers, this network needs {needed}; is it another network?")
    state = {key: value for key, value in mine.items() if key.endswith(COUNTER)}
    at = 0
    for key in weights:
        # a unit is a convolution and, as its next module, batch-norm
        unit, _, position = key.removesuffix(".weight").rpartition(".")
        norm = f"{unit}.{int(position) + 1}"
        for name in (f"{norm}.bias", f"{norm}.weight", f"{norm}.running_mean", f"{norm}.running_var", key):
            shape = mine[name].shape
            part = numbers[at : at + mine[name].numel()]
            state[name] = torch.from_numpy(part.copy()).reshape(shape)
            at += len(part)
    return state
