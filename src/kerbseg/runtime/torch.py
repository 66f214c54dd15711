"""Runs a bundle with torch."""

from __future__ import annotations

import time
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard
from kerbseg.core.compiler import check_compiler
from kerbseg.core.errors import InputError, UserError, did_you_mean
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.profiling.latency import LayerTime
from kerbseg.runtime.exported import checked_threads

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """A bundle's network in eval mode; pictures of any size are padded to its stride, and the scores cropped.

    `how` is 'channels_last', 'eager' (torch's own layout) or 'compiled' (torch.compile). The number of threads is
    torch's, and so that of the whole process.
    """

    size: tuple[int, int] | None = None

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cpu",
        threads: int | None = None,
        precision: str | None = None,
        how: str = "channels_last",
    ) -> None:
        self.card: BundleCard = bundle.card
        self.device = _device(device)
        self.threads, self.precision = checked_threads(threads), precision or "float32"
        if self.precision not in DTYPES:
            raise UserError(f"unknown precision {precision!r}; {did_you_mean(self.precision, DTYPES)}")
        self.name = "torch" if how == "channels_last" else f"torch-{how}"
        if threads is not None:
            torch.set_num_threads(threads)
        if how == "compiled":
            check_compiler(self.device, "choose --runtime torch")
        self._layout = torch.contiguous_format if how == "eager" else torch.channels_last
        net = bundle.model.eval().to(self.device)
        net = net if how == "eager" else models.channels_last(net)
        self._plain = net
        self._net: Callable[[Tensor], Tensor] = torch.compile(net) if how == "compiled" else net
        self._normalize = Normalize(bundle.card.preprocessing).to(self.device)
        self._stride = models.card(bundle.card.model).stride

    @torch.inference_mode()
    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k h w"]:
        """Scores of the classes at the pictures' size, on the device; outputs that are no class are left out."""
        if pictures.ndim != 4 or pictures.shape[3] != 3 or pictures.dtype != np.uint8:
            raise InputError(f"a runtime takes uint8 [b h w 3] RGB, found {pictures.dtype} {list(pictures.shape)}")
        height, width = pictures.shape[1:3]
        scores = self._run(self._input(pictures))
        return scores[:, : len(self.card.labels), :height, :width].float()

    def _input(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 H W"]:
        image = to_unit(torch.from_numpy(np.ascontiguousarray(pictures)).to(self.device))
        image = models.pad_to_stride(self._normalize(image), self._stride)
        return image.contiguous(memory_format=self._layout)

    def _run(self, image: Float[Tensor, "b 3 H W"]) -> Tensor:
        reduced = DTYPES[self.precision] if self.precision != "float32" else None
        with torch.autocast(self.device.type, reduced, enabled=reduced is not None):
            return self._net(image)

    @torch.inference_mode()
    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, normalised before, up to scores at their size."""
        image = self._input(pictures)
        return torch.inference_mode()(lambda: self._run(image))

    @torch.inference_mode()
    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """The modules without modules of their own; in eager mode, also of a compiled network."""
        image, begun, taken = self._input(pictures), {}, dict.fromkeys(_leaves(self._plain), 0.0)

        def before(module: nn.Module, _: object) -> None:
            begun[module] = time.perf_counter()

        def after(module: nn.Module, *_: object) -> None:
            taken[module] += time.perf_counter() - begun[module]

        hooks = [
            hook for one in taken for hook in (one.register_forward_pre_hook(before), one.register_forward_hook(after))
        ]
        try:
            for _ in range(runs):
                self._plain(image)
        finally:
            for hook in hooks:
                hook.remove()
        names = {module: name for name, module in self._plain.named_modules()}
        return [LayerTime(names[one], type(one).__name__, 1e3 * seconds / runs) for one, seconds in taken.items()]

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

    size: tuple[int, int] | None = None

    def __init__(self, runtime: TorchRuntime) -> None:
        self.card, self.precision, self.name = runtime.card, runtime.precision, runtime.name
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


def _leaves(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if next(module.children(), None) is None]


def _ids(scores: Float[Tensor, "b k h w"]) -> UInt8[np.ndarray, "b h w"]:
    ids: np.ndarray = scores.argmax(1).to(torch.uint8).cpu().numpy()
    return ids


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises the second for a GPU that its build does not know
        raise UserError(f"device {name!r} is not there; use cpu, or install a torch build for your GPU") from error
