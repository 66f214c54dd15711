"""Classifiers of whole pictures, whose bodies segmentation networks start from.

They are no networks of the registry: they segment nothing. A body has the name that it has in the segmentation
network (`encoder.` in ERFNet, `backbone.` in LiteSeg), so its weights fit there.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.types import Preprocessing
from kerbseg.models import erfnet, erfnet_grouped, liteseg
from kerbseg.models.backbones import darknet19_classifier, mobilenet_v2_classifier, shufflenet_classifier


class EncoderClassifier(nn.Module):
    """ERFNet's encoder under its ImageNet head: class logits of a picture (authors' code).

    The authors' pooling, by 2 and then over the 14x14 of a picture of 224, takes any size here.
    """

    def __init__(self, encoder: nn.Module, classes: int, dropout: float = 0.1) -> None:
        super().__init__()
        self.encoder = encoder
        self.head = nn.Linear(128, classes)
        for module in encoder.modules():
            if isinstance(module, nn.Dropout2d):
                module.p = dropout  # alike in all blocks, other than in segmentation

    def forward(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k"]:
        return self.head(F.max_pool2d(self.encoder(image), 2).mean(dim=(2, 3)))


@dataclass(frozen=True)
class Kind:
    """How a classifier is made, and the pixels that it shares with the networks it starts."""

    build: Callable[..., nn.Module]  # classes, options
    preprocessing: Preprocessing = field(default_factory=Preprocessing)


def _erfnet(classes: int) -> nn.Module:
    return EncoderClassifier(erfnet.encoder(), classes)


def _grouped(classes: int, **options: Any) -> nn.Module:
    return EncoderClassifier(erfnet_grouped.grouped_encoder(**options), classes)


_imagenet = partial(Kind, preprocessing=liteseg.PREPROCESSING)

CLASSIFIERS: dict[str, Kind] = {
    "erfnet_encoder": Kind(_erfnet),
    "erfnet_grouped_encoder": Kind(_grouped),
    "mobilenet_v2": _imagenet(mobilenet_v2_classifier),
    "shufflenet": _imagenet(shufflenet_classifier),
    "darknet19": _imagenet(darknet19_classifier),
}


def kind(name: str) -> Kind:
    """The classifier of that name. Raises KerbsegError with the nearest name."""
    if name not in CLASSIFIERS:
        raise KerbsegError(f"unknown classifier {name!r}; {did_you_mean(name, CLASSIFIERS)}")
    return CLASSIFIERS[name]


def create_classifier(name: str, classes: int, **options: Any) -> nn.Module:
    """A classifier with random weights: float [b 3 h w] -> logits [b classes].

    Raises KerbsegError for unknown options.
    """
    try:
        return kind(name).build(classes, **options)
    except TypeError as error:
        if "unexpected keyword" not in str(error):
            raise
        raise KerbsegError(f"classifier {name!r}: {error}") from error
