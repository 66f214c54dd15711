"""Knowledge distillation: a trained network's scores are followed besides the labels."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, load
from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.errors import RecipeError
from kerbseg.core.labels import LabelSet
from kerbseg.core.normalize import Normalize
from kerbseg.core.types import Preprocessing
from kerbseg.losses import distillation
from kerbseg.train.auxiliary import capture_outputs
from kerbseg.train.recipe import Distill
from kerbseg.train.task import NetworkLoss


class Teacher:
    """Scores of a bundle's network for the input of another one; no module, so that nothing trains or saves it."""

    def __init__(self, bundle: Bundle, pupil: Preprocessing) -> None:
        self.classes, self._stride = len(bundle.card.labels), models.card(bundle.card.model).stride
        self._net = bundle.model.eval().requires_grad_(False)
        self._undo, self._normalize = Normalize(pupil), Normalize(bundle.card.preprocessing)

    @torch.no_grad()
    def __call__(self, image: Float[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        for part in (self._net, self._undo, self._normalize):
            part.to(image.device)
        height, width = image.shape[-2:]
        pixels = models.pad_to_stride(self._undo.undo(image), self._stride)
        scores: Tensor = self._net(self._normalize(pixels))
        return scores[:, : self.classes, :height, :width].float()


class Distilled(nn.Module):
    """A criterion plus the divergence from a teacher's scores."""

    def __init__(self, inner: NetworkLoss, teacher: Teacher, settings: Distill, process: Rank = SINGLE) -> None:
        super().__init__()
        self.inner, self._teacher, self._process = inner, teacher, process
        self._weight, self._temperature = settings.weight, settings.temperature

    def forward(self, net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        with capture_outputs(net, [""]) as seen:
            loss: Tensor = self.inner(net, image, mask)
        divergence = distillation(seen[""].float(), self._teacher(image), mask, self._temperature, self._process)
        return loss + self._weight * divergence


def teacher(settings: Distill, labels: LabelSet, pupil: Preprocessing) -> Teacher:
    """The recipe's teacher. Raises BundleError as `load`, RecipeError for a teacher of other classes."""
    bundle = load(settings.teacher)
    known = bundle.card.labels
    if known.classes != labels.classes:
        raise RecipeError(
            f"distill.teacher: {settings.teacher} knows {len(known)} classes of {known.name!r}, the data have"
            f" {len(labels)} of {labels.name!r}; take a teacher of the same classes"
        )
    return Teacher(bundle, pupil)
