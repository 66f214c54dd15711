"""Knowledge distillation: trained networks' logits are followed besides the labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

import kerbseg.models as models
from kerbseg.bundle import Bundle, load
from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import RecipeError
from kerbseg.core.labels import LabelSet
from kerbseg.core.normalize import Normalize
from kerbseg.core.types import Preprocessing
from kerbseg.losses import distillation
from kerbseg.models import SegmentationNet
from kerbseg.train.outputs import Outputs
from kerbseg.train.recipe import Distill


class Teacher:
    """Logits of a bundle's network for the input of another one; no module, so that nothing trains or saves it."""

    def __init__(self, bundle: Bundle, pupil: Preprocessing) -> None:
        self.classes, self._stride = len(bundle.card.labels), models.card(bundle.card.model).stride
        self._net = bundle.model.eval().requires_grad_(False)
        self._undo, self._normalize = Normalize(pupil), Normalize(bundle.card.preprocessing)

    @torch.no_grad()
    def __call__(
        self, image: Float[Tensor, "b 3 h w"], size: tuple[int, int] | None = None, align_corners: bool = False
    ) -> Float[Tensor, "b k H W"]:
        """At the picture's size, or at the `size` of the other network's own logits and at the points of their grid."""
        for part in (self._net, self._undo, self._normalize):
            part.to(image.device)
        net, (height, width) = cast(SegmentationNet, self._net), image.shape[-2:]
        pixels = models.pad_to_stride(self._undo.undo(image), self._stride)
        logits = net.logits(self._normalize(pixels))
        if size is None or pixels.shape != image.shape or logits.shape[-2:] != size:
            logits = net.upsample(logits, (pixels.shape[-2], pixels.shape[-1]))[:, :, :height, :width]
        if size is not None and logits.shape[-2:] != size:
            logits = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
        return logits[:, : self.classes].float()


class DistillationLoss(nn.Module):
    """The divergence of a network's logits from its teachers', times its weight."""

    def __init__(self, teachers: Sequence[Teacher], settings: Distill, rank: Rank = SINGLE) -> None:
        super().__init__()
        self._teachers, self._settings, self._rank = tuple(teachers), settings, rank

    def forward(self, outputs: Outputs, image: Tensor, mask: Tensor) -> Tensor:
        settings = self._settings
        logits, labels = outputs.at(settings.at, mask)
        size = None if settings.at == "picture" else (logits.shape[-2], logits.shape[-1])
        known = [teacher(image, size, outputs.align_corners) for teacher in self._teachers]
        own = logits[:, : self._teachers[0].classes]  # outputs beyond the classes follow nobody
        divergence = distillation(own, agreed(known, settings.temperature), labels, settings.temperature, self._rank)
        return settings.weight * divergence


def agreed(known: Sequence[Float[Tensor, "b k h w"]], temperature: float) -> Float[Tensor, "b k h w"]:
    """Logits whose softened probabilities are the mean of the teachers'; of one teacher, its own."""
    if len(known) == 1:
        return known[0]
    softened = torch.stack([F.log_softmax(logits / temperature, 1) for logits in known])
    return temperature * softened.logsumexp(0)  # but for a constant, which changes no probability


def teachers(settings: Distill, labels: LabelSet, pupil: Preprocessing) -> list[Teacher]:
    """The recipe's teachers. Raises BundleError as `load`, RecipeError for a teacher of other classes."""
    ready = []
    for name in settings.teacher:
        bundle = load(name)
        known = bundle.card.labels
        if known.classes != labels.classes:
            raise RecipeError(
                f"distill.teacher: {name} knows {len(known)} classes of {known.name!r}, the data have"
                f" {len(labels)} of {labels.name!r}; take a teacher of the same classes"
            )
        ready.append(Teacher(bundle, pupil))
    return ready
