"""Runs a bundle with torch."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Unpack

import numpy as np
import torch
from jaxtyping import Float, Float32, UInt8
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard
from kerbseg.core.compiler import check_compiler
from kerbseg.core.errors import KerbsegError, did_you_mean
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.core.precision import Precision
from kerbseg.core.resize import resize_picture
from kerbseg.runtime.checks import PictureCheck, check_finite, checked_threads
from kerbseg.runtime.confidence import confidence
from kerbseg.runtime.protocols import Confidence, ConfidenceKeywords, LayerTime, RuntimeOptions

DTYPES: dict[str, torch.dtype] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


class TorchRuntime:
    """A copy of a bundle's network in eval mode; pictures are padded to its stride, and what it says is cropped.

    `how` is 'channels_last', 'eager' (torch's own layout) or 'compiled' (torch.compile). The number of threads is
    torch's, and so that of the whole process. Safe from any number of threads.
    """

    size: tuple[int, int] | None = None

    def __init__(self, bundle: Bundle, options: RuntimeOptions | None = None, how: str = "channels_last") -> None:
        options = options or RuntimeOptions()
        self.card: BundleCard = bundle.card
        self._device = _device(options.device)
        self.device = options.device
        self.precision: Precision = options.precision or "float32"
        if self.precision not in DTYPES:
            raise KerbsegError(f"torch does not compute in {self.precision}; {did_you_mean(self.precision, DTYPES)}")
        self.name = "torch" if how == "channels_last" else f"torch-{how}"
        if options.threads is not None:
            torch.set_num_threads(checked_threads(options.threads))
        self.threads = self._all_threads = torch.get_num_threads()
        if how == "compiled":
            check_compiler(self._device, "choose --runtime torch")
        self._layout = torch.contiguous_format if how == "eager" else torch.channels_last
        net = copy.deepcopy(bundle.model).eval().to(self._device)
        self._net = net if how == "eager" else models.channels_last(net)
        self._forward: Callable[[Tensor], Tensor] = torch.compile(self._net) if how == "compiled" else self._net
        self._normalize = Normalize(bundle.card.preprocessing).to(self._device)
        self._stride = models.card(bundle.card.model).stride
        self._check = PictureCheck()
        self._share: int | None = None  # of the threads, where several calls share them

    def divided(self, calls: int) -> list[TorchRuntime]:
        """Runtimes of this network, each for calls with `threads // calls` threads; weights are shared."""
        parts = [copy.copy(self) for _ in range(calls)]
        for part in parts:
            part.threads = part._share = self.threads // calls
        return parts

    @contextmanager
    def _bounded(self) -> Iterator[None]:
        """This thread's part of torch's threads, where they are shared out: torch counts them for each thread."""
        if self._share is None:
            yield
            return
        torch.set_num_threads(self._share)
        try:
            yield
        finally:
            torch.set_num_threads(self._all_threads)

    @torch.inference_mode()
    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k H W"]:
        """Logits of the classes before the last interpolation, of the padded pictures; of a compiled network too."""
        with self._bounded(), self._autocast():
            logits = self._net.logits(self._input(pictures))  # type: ignore[operator] # every network has them
            own: np.ndarray = logits[:, : len(self.card.labels)].float().contiguous().cpu().numpy()
        return own

    @torch.inference_mode()
    def upsampled_logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k h w"]:
        """Logits of the classes at the pictures' size, on the device; outputs that are no class are left out."""
        height, width = pictures.shape[1:3]
        logits = self._run(self._input(pictures))
        return logits[:, : len(self.card.labels), :height, :width].float()

    def _input(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b 3 H W"]:
        image = to_unit(torch.from_numpy(np.require(self._check(pictures), requirements="W")).to(self._device))
        image = models.pad_to_stride(self._normalize(image), self._stride)
        return image.contiguous(memory_format=self._layout)

    def _run(self, image: Float[Tensor, "b 3 H W"]) -> Tensor:
        with self._autocast():
            return self._forward(image)

    def _autocast(self) -> torch.autocast:
        reduced = DTYPES[self.precision] if self.precision != "float32" else None
        return torch.autocast(self._device.type, reduced, enabled=reduced is not None)

    def synchronize(self) -> None:
        """Returns when the device has finished; a processor always has."""
        if self._device.type != "cpu":
            torch.accelerator.synchronize(self._device)

    @torch.inference_mode()
    def forward_only(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Callable[[], object]:
        """The network on these pictures, normalized before, up to logits at their size."""
        image = self._input(pictures)
        return torch.inference_mode()(lambda: self._run(image))

    @torch.inference_mode()
    def layer_times(self, pictures: UInt8[np.ndarray, "b h w 3"], runs: int) -> list[LayerTime]:
        """The modules without modules of their own; in eager mode, also of a compiled network."""
        image, begun, taken = self._input(pictures), {}, dict.fromkeys(_leaves(self._net), 0.0)

        def before(module: nn.Module, _: object) -> None:
            self.synchronize()
            begun[module] = time.perf_counter()

        def after(module: nn.Module, *_: object) -> None:
            self.synchronize()
            taken[module] += time.perf_counter() - begun[module]

        hooks = [
            hook for one in taken for hook in (one.register_forward_pre_hook(before), one.register_forward_hook(after))
        ]
        try:
            for _ in range(runs):
                with self._autocast():
                    self._net(image)
        finally:
            for hook in hooks:
                hook.remove()
        names = {module: name for name, module in self._net.named_modules()}
        return [LayerTime(names[one], type(one).__name__, 1e3 * seconds / runs) for one, seconds in taken.items()]

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        with self._bounded():
            return _ids(self.upsampled_logits(pictures))

    def probabilities(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k h w"]:
        """Of the classes, at the pictures' size, on the device."""
        return self.upsampled_logits(pictures).softmax(1)

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure each is."""
        ids, logits = self.with_logits(pictures)
        return ids, confidence(ids, logits, self.card.temperature, **how)

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float[Tensor, "b k h w"]]:
        """Class ids at the pictures' size, and the logits behind them."""
        with self._bounded():
            logits = self.upsampled_logits(pictures)
            return _ids(logits), logits


class FlipAveraged:
    """Looks at each picture and its mirror image, at each of the scales, and averages the probabilities.

    At the picture's own size alone it is EfficientSeg's.
    """

    size: tuple[int, int] | None = None

    def __init__(self, runtime: TorchRuntime, scales: Sequence[float] = (1.0,)) -> None:
        self.card, self.name, self.device = runtime.card, runtime.name, runtime.device
        self.precision, self.threads = runtime.precision, runtime.threads
        self._runtime, self._scales = runtime, scales

    def probabilities(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float[Tensor, "b k h w"]:
        """The mean over all views, at the pictures' size."""
        views = [self._both_sides(pictures, scale) for scale in self._scales]
        return torch.stack(views).mean(0)

    def _both_sides(self, pictures: UInt8[np.ndarray, "b h w 3"], scale: float) -> Float[Tensor, "b k h w"]:
        height, width = pictures.shape[1:3]
        size = (max(1, round(scale * height)), max(1, round(scale * width)))
        scaled = np.stack([resize_picture(picture, size) for picture in pictures])
        direct = self._runtime.probabilities(scaled)
        mirrored = self._runtime.probabilities(scaled[:, :, ::-1]).flip(3)
        mean = (direct + mirrored) / 2
        if size == (height, width):
            return mean
        return nn.functional.interpolate(mean, (height, width), mode="bilinear", align_corners=False)

    def logits(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> Float32[np.ndarray, "b k h w"]:
        """Logarithms of the mean probabilities, at the pictures' size: only there do both views lie on each other."""
        log: np.ndarray = self.probabilities(pictures).log().cpu().numpy()
        return log

    def __call__(self, pictures: UInt8[np.ndarray, "b h w 3"]) -> UInt8[np.ndarray, "b h w"]:
        """Class ids at the pictures' size."""
        return _ids(self.probabilities(pictures))

    def with_confidence(
        self, pictures: UInt8[np.ndarray, "b h w 3"], **how: Unpack[ConfidenceKeywords]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Confidence]:
        """Class ids at the pictures' size, and how sure each is by the mean, which the temperature sharpens."""
        ids, logits = self.with_logits(pictures)
        return ids, confidence(ids, logits, self.card.temperature, **how)

    def with_logits(
        self, pictures: UInt8[np.ndarray, "b h w 3"]
    ) -> tuple[UInt8[np.ndarray, "b h w"], Float[Tensor, "b k h w"]]:
        """Class ids at the pictures' size, and the logarithms of the mean probabilities."""
        probabilities = self.probabilities(pictures)
        return _ids(probabilities), probabilities.clamp(min=torch.finfo(probabilities.dtype).tiny).log()


def _leaves(net: nn.Module) -> list[nn.Module]:
    return [module for module in net.modules() if next(module.children(), None) is None]


def _ids(evidence: Float[Tensor, "b k h w"]) -> UInt8[np.ndarray, "b h w"]:
    """The class with the largest logit or probability. Raises KerbsegError where there is none."""
    largest, classes = evidence.max(1)
    check_finite(largest.cpu())
    ids: np.ndarray = classes.to(torch.uint8).cpu().numpy()
    return ids


def _device(name: str) -> torch.device:
    try:
        return torch.empty(0, device=name).device
    except (RuntimeError, AssertionError) as error:  # torch raises the second for a GPU that its build does not know
        raise KerbsegError(f"device {name!r} is not there; use cpu, or install a torch build for your GPU") from error
