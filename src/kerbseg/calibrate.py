"""`calibrate(model, dataset)`: the one temperature of a network, so that its confidence can be believed."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from kerbseg.bundle import Bundle, locate, save, save_with_card, versions
from kerbseg.bundle import load as load_bundle
from kerbseg.core.errors import BundleError, KerbsegError, KerbsegWarning
from kerbseg.core.types import VOID, Dataset, Sample
from kerbseg.evaluate import UnlabelledError, check_classes
from kerbseg.metrics.calibration import Calibration, CalibrationCounter, Pixels, fit_temperature
from kerbseg.runtime import open_runtime, segment_with_logits
from kerbseg.runtime.engines import BUNDLE_SUFFIX, exporting, suffix_of

MOST_LOGITS = 2**26  # that are kept, 256 MiB; of more pixels some are left out, evenly
DIGITS = 4  # of the temperature
HONEST_SPLIT = "val"


@dataclass(frozen=True)
class Calibrated:
    """A network with its temperature, and its confidence against the truth before and after."""

    bundle: Bundle  # whose card has the temperature
    temperature: float
    before: Calibration
    after: Calibration
    protocol: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg calibrate --json` writes it."""
        return {
            "temperature": self.temperature,
            "before": self.before.to_dict(),
            "after": self.after.to_dict(),
            "protocol": dict(self.protocol),
        }


def calibrate(
    model: str | Path | Bundle,
    dataset: Dataset,
    *,
    out: str | Path | None = None,
    limit: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Callable[[range], Any] = iter,
) -> Calibrated:
    """Fits the temperature with the least negative log-likelihood over the labelled pixels of a split.

    Logits are those at the labels' size, as `predict` has them; the classes that a network sees stay as they are. Each
    picture is looked at once. At most 256 MiB of logits are kept: of a larger split the same share of each picture,
    evenly spread. `out` is the file to write; weights in a file stay bit for bit. Raises BundleError for an exported
    file and for classes that are not the data set's, DataError where there is no labelled pixel, or no temperature
    fits.
    """
    if not hasattr(dataset, "labels"):
        raise KerbsegError(
            f"calibrate takes an opened data set, not {dataset!r}; open it: kerbseg.data.open_dataset(NAME, SPLIT)"
        )
    if limit is not None and limit < 1:
        raise KerbsegError(f"limit is {limit}; give at least 1 picture, or leave it out")
    source = None if isinstance(model, Bundle) else locate(model)
    bundle = model if isinstance(model, Bundle) else _load(locate(model))
    runtime = open_runtime(bundle, device=device, threads=threads)
    check_classes(runtime, dataset)
    if dataset.split != HONEST_SPLIT:
        warnings.warn(KerbsegWarning(_why_not(dataset.split)), stacklevel=2)
    count = min(limit or len(dataset), len(dataset))
    most = max(1, MOST_LOGITS // len(dataset.labels) // max(1, count))
    pixels, labelled, before = [], 0, CalibrationCounter()
    for index in progress(range(count)):
        sample = dataset[index]
        known = _labelled(sample)
        labelled += int(known.sum())
        chosen = _evenly(known, most)
        if not chosen.any():
            continue
        _, logits_of = segment_with_logits(runtime, sample.image)
        weight = float(known.sum() / chosen.sum())
        each = Pixels(logits_of(chosen).cpu(), sample.mask[chosen], weight)
        before.update(each.logits, each.truth, each.weight)
        pixels.append(each)
    if not pixels:
        raise UnlabelledError(
            f"split {dataset.split!r} of {dataset.name!r} has no labelled pixel to calibrate on; choose another split"
        )
    temperature = round(fit_temperature(pixels), DIGITS)
    after = CalibrationCounter(temperature)
    for each in pixels:
        after.update(each.logits, each.truth, each.weight)
    protocol = {
        "data": dataset.name,
        "split": dataset.split,
        "limit": limit,  # null: the whole split
        "images": count,
        "labelled_pixels": labelled,
        "fitted_pixels": sum(len(each.truth) for each in pixels),
        "runtime": runtime.name,
        "precision": runtime.precision,
        "device": runtime.device,
        "model": runtime.card.model,
        "versions": versions(),
    }
    calibrated = _calibrated(bundle, temperature, before.compute(), after.compute(), protocol)
    if out is not None and source is not None:
        save_with_card(source, calibrated.bundle.card, Path(out))
    elif out is not None:
        save(calibrated.bundle, out)
    return calibrated


def _calibrated(
    bundle: Bundle, temperature: float, before: Calibration, after: Calibration, protocol: Mapping[str, Any]
) -> Calibrated:
    entry = {
        "temperature": temperature,
        "before": before.figures(),
        "after": after.figures(),
        "protocol": dict(protocol),
    }
    card = replace(bundle.card, scores={**bundle.card.scores, "calibration": entry})
    return Calibrated(Bundle(bundle.model, card), temperature, before, after, protocol)


def _load(path: Path) -> Bundle:
    if suffix_of(path) in exporting():
        raise BundleError(
            f"{path} is an exported model, which has the temperature of its bundle; calibrate the bundle"
            f" ({BUNDLE_SUFFIX}), then export it again"
        )
    return load_bundle(path)


def _why_not(split: str) -> str:
    reason = {
        "train": "which the network may have been trained on, and of which it is surer than of new pictures",
        "test": "so that figures on it no longer tell of new pictures",
    }
    return f"the temperature is fitted on {split!r}, {reason.get(split, 'not on val')}; the usual is --split val"


def _labelled(sample: Sample) -> np.ndarray:
    known: np.ndarray = sample.mask != VOID
    return known


def _evenly(known: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the pixels, evenly spread over them."""
    places = np.flatnonzero(known)
    if len(places) <= most:
        return known
    chosen = np.zeros(known.size, bool)
    chosen[places[np.linspace(0, len(places) - 1, most).round().astype(int)]] = True
    return chosen.reshape(known.shape)
