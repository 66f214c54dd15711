"""Runs a bundle with torch."""

from __future__ import annotations

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard
from kerbseg.core.errors import InputError, UserError
from kerbseg.core.normalize import Normalize, to_unit


class TorchRuntime:
    """A bundle's network in eval mode; pictures of any size are padded to its stride, and the scores cropped."""

    name = "torch"
    precision = "float32"

    def __init__(self, bundle: Bundle, device: str = "cpu") -> None:
        self.card: BundleCard = bundle.card
        self.device = _device(device)
        self._net = models.channels_last(bundle.model.eval().to(self.device))
        self._normalize = Normalize(bundle.card.preprocessing).to(self.device)
        self._stride = models.card(bundle.card.model).stride

    @torch.inference_mode()
    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k h w"]:
        """Scores of the classes at the pictures' size, on the device; outputs that are no class are left out."""
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise InputError(f"a runtime takes uint8 [b h w 3] RGB, found {pictures.dtype} {list(pictures.shape)}")
        height, width = pictures.shape[1:3]
        image = to_unit(torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device))
        image = models.pad_to_stride(self._normalize(image), self._stride)
        scores = self._net(image.contiguous(memory_format=torch.channels_last))
        return scores[:, : len(self.card.labels), :height, :width]

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return _ids(self.logits(pictures))

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[np.ndarray, "b h w"]]:
        """Class ids at the pictures' size, and the probability of each."""
        scores = self.logits(pictures)
        return _ids(scores), scores.softmax(1).amax(1).cpu().numpy()


class FlipAveraged:
    """Looks at each picture and its mirror image, and averages the probabilities (EfficientSeg)."""

    name = "torch"

    def __init__(self, runtime: TorchRuntime) -> None:
        self.card, self.precision = runtime.card, runtime.precision
        self._runtime = runtime

    def probabilities(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k h w"]:
        """The mean over both views, at the pictures' size."""
        direct = self._runtime.logits(pictures).softmax(1)
        mirrored = self._runtime.logits(pictures[:, :, ::-1]).softmax(1).flip(3)
        return (direct + mirrored) / 2

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return _ids(self.probabilities(pictures))

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float32[np.ndarray, "b h w"]]:
        """Class ids at the pictures' size, and the mean probability of each."""
        probabilities = self.probabilities(pictures)
        return _ids(probabilities), probabilities.amax(1).cpu().numpy()


def _ids(scores: Float[Tensor, "b k h w"]) -> UInt8[np.ndarray, "b h w"]:
    ids: np.ndarray = scores.argmax(1).to(torch.uint8).cpu().numpy()
    return ids


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises the second for a GPU that its build does not know
        raise UserError(f"device {name!r} is not there; use cpu, or install a torch build for your GPU") from error
