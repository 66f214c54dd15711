"""`kerbseg threshold`: from which probability on a network says text, chosen by IoU and put into its weights.

With two classes, text is more probable than t where its logit is above that of the background by log(t / (1 - t)). So
the last layer's bias of text, lowered by that, makes the larger logit say what the threshold would: in prediction,
evaluation and every exported file, which know of no threshold.
"""

from __future__ import annotations

import copy
import math
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from kerbseg.bundle import Bundle, versions
from kerbseg.core.errors import KerbsegError, KerbsegWarning
from kerbseg.core.labels import label_set
from kerbseg.core.types import Dataset
from kerbseg.evaluate import UnlabelledError, check_classes
from kerbseg.metrics import compute_metrics
from kerbseg.metrics.text import TEXT, ThresholdCurve
from kerbseg.runtime import InputSizePolicy, open_runtime, segment_with_confidence
from kerbseg.text_evaluation import probability_of_text

TOLERANCE = 1e-4  # of logits, by which a bias is seen to do what it should


@dataclass(frozen=True)
class Chosen:
    """A network that says text from the threshold on, and its IoU of text before and after."""

    bundle: Bundle
    threshold: float
    before: float | None  # where the larger logit wins
    after: float
    protocol: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg threshold --json` writes it."""
        figures = {"threshold": self.threshold, "iou_text_before": self.before, "iou_text": self.after}
        return {**figures, "protocol": dict(self.protocol)}


def choose_threshold(
    bundle: Bundle,
    dataset: Dataset,
    *,
    stretch: bool = False,
    limit: int | None = None,
    device: str = "cpu",
    threads: int | None = None,
    progress: Callable[[range], Any] = iter,
) -> Chosen:
    """The threshold with the highest IoU of text over a split, at the pictures' own size, and the network with it.

    With `stretch` the network looks at pictures stretched to its size, as in training; else they keep proportions.
    A temperature is left out, as it was fitted to other weights. Raises BundleError where classes differ, KerbsegError
    for other classes than background and text or a network without a bias at its end, DataError for a split without
    text.
    """
    if dataset.labels.classes != label_set("text").classes:
        raise KerbsegError(
            f"a threshold is of two classes, background and text; data set {dataset.name!r} has"
            f" {len(dataset.labels)}: {', '.join(dataset.labels.classes[:4])}; name coco_text"
        )
    if limit is not None and limit < 1:
        raise KerbsegError(f"limit is {limit}; give at least 1 picture, or leave it out")
    if bundle.card.temperature is not None:
        what = "the temperature of this model is left out, as it was fitted to other weights; run kerbseg calibrate on"
        warnings.warn(KerbsegWarning(f"{what} the new one"), stacklevel=2)
        bundle = Bundle(bundle.model, replace(bundle.card, scores={}))  # where it stands
    runtime = open_runtime(bundle, device=device, threads=threads)
    check_classes(runtime, dataset)
    curve, count = ThresholdCurve(), min(limit or len(dataset), len(dataset))
    size: InputSizePolicy = bundle.card.input_size if stretch else "trained"
    for index in progress(range(count)):
        sample = dataset[index]
        confident = segment_with_confidence(runtime, sample.image, size, "stretch" if stretch else "letterbox")
        curve.update(probability_of_text(*confident), sample.mask)
    best = curve.best()
    if best is None:
        raise UnlabelledError(f"split {dataset.split!r} of {dataset.name!r} shows no text; choose another split")
    threshold, iou = best
    if not 0 < threshold < 1:
        raise KerbsegError("no threshold does better than text everywhere; train the network longer")
    before = compute_metrics(torch.from_numpy(curve.confusion(0.5)), dataset.labels)
    after = compute_metrics(torch.from_numpy(curve.confusion(threshold)), dataset.labels)
    protocol = {
        "data": dataset.name,
        "split": dataset.split,
        "limit": limit,
        "label_size": "own",
        "input_size": list(size) if stretch else size,
        "tta": "none",
    }
    scores = {
        "miou": after.miou,
        "class_iou": dict(after.class_iou),
        "pixel_accuracy": after.pixel_accuracy,
        "threshold": threshold,
        "protocol": protocol,
    }
    source = f"{bundle.card.source}; text from probability {threshold:g} on".removeprefix("; ")
    card = replace(bundle.card, scores=scores, source=source, versions=versions())
    shifted = Bundle(shift(bundle.model, threshold), card)
    return Chosen(shifted, threshold, before.class_iou["text"], iou, protocol)


def shift(net: nn.Module, threshold: float) -> nn.Module:
    """A copy of a network of two classes, whose larger logit says text from a probability on.

    Raises KerbsegError for a network whose logits do not end in a bias.
    """
    shifted, lowered = copy.deepcopy(net).eval(), math.log(threshold / (1 - threshold))
    with torch.inference_mode():
        picture = torch.zeros(1, 3, 256, 256)
        wanted = net.eval().logits(picture).clone()  # type: ignore[operator] # every network has them
        wanted[:, TEXT] -= lowered
        for bias in _biases(shifted, wanted.shape[1]):
            bias[TEXT] -= lowered
            if torch.allclose(shifted.logits(picture), wanted, atol=TOLERANCE):  # type: ignore[operator] # likewise
                return shifted
            bias[TEXT] += lowered
    raise KerbsegError(
        f"the logits of {type(net).__name__} do not end in a bias that could carry a threshold; take another network,"
        " such as mininet_v2_cpu"
    )


def _biases(net: nn.Module, outputs: int) -> list[torch.Tensor]:
    """Of layers with as many outputs as there are logits, the last first."""
    layers = [each for each in net.modules() if isinstance(each, nn.Conv2d | nn.ConvTranspose2d)]
    return [each.bias.data for each in reversed(layers) if each.bias is not None and len(each.bias) == outputs]
