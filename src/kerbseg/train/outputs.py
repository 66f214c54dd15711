"""What a network gives for a batch: made once, before any loss looks at it, and in one piece that can be compiled."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cached_property, partial
from typing import Any, cast

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kerbseg.core.errors import RecipeError, did_you_mean
from kerbseg.losses import mask_at
from kerbseg.models import SegmentationNet
from kerbseg.train.recipe_values import Place


class Outputs:
    """Logits where the network ends, and features from inside it by the names of their modules."""

    def __init__(
        self,
        logits: Float[Tensor, "b k h w"],
        features: Mapping[str, Tensor],
        upsample: Callable[[Tensor], Tensor],
        align_corners: bool = False,
    ) -> None:
        self.logits, self.features, self.align_corners = logits, features, align_corners
        self._upsample = upsample

    @cached_property
    def upsampled(self) -> Float[Tensor, "b k H W"]:
        """Logits at the picture's size, as the network's paper brings them there."""
        return self._upsample(self.logits)

    def at(self, place: Place, mask: UInt8[Tensor, "b H W"]) -> tuple[Float[Tensor, "b k h w"], UInt8[Tensor, "b h w"]]:
        """Logits to compare, in float32, and labels of their size."""
        if place == "picture":
            return self.upsampled.float(), mask
        return self.brought(self.logits, place, mask)

    def brought(
        self, logits: Float[Tensor, "b c h w"], place: Place, mask: UInt8[Tensor, "b H W"]
    ) -> tuple[Float[Tensor, "b c p q"], UInt8[Tensor, "b p q"]]:
        """As `at`, of a head's own logits, which come to the picture's size as those of the network do."""
        if place == "picture":
            return self._upsample(logits).float(), mask
        return logits.float(), mask_at(mask, (logits.shape[-2], logits.shape[-1]))


class NetworkOutputs(nn.Module):
    """Runs a network, and keeps the features of some modules inside it; all that a run compiles.

    The modules are watched from the beginning, not anew in each step: a compiler can follow that.
    """

    def __init__(self, net: nn.Module, names: Sequence[str] = ()) -> None:
        super().__init__()
        self.net, self._names = net, tuple(dict.fromkeys(names))
        self._seen: dict[str, Tensor] = {}
        for name in self._names:
            net.get_submodule(name).register_forward_hook(partial(_keep, self._seen, name))

    def forward(self, image: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        logits = cast(SegmentationNet, self.net).logits(image)
        return logits, tuple(self._seen.pop(name) for name in self._names)

    def of(self, image: Float[Tensor, "b 3 h w"]) -> Outputs:
        """What the network gives for its input."""
        logits, features = self(image)
        net = cast(SegmentationNet, self.net)
        upsample = partial(net.upsample, size=(image.shape[-2], image.shape[-1]))
        return Outputs(logits, dict(zip(self._names, features, strict=True)), upsample, net.align_corners)


@contextmanager
def capture_outputs(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules of these names give while the network runs, for a look at it before a training begins."""
    seen: dict[str, Tensor] = {}
    hooks = [net.get_submodule(name).register_forward_hook(partial(_keep, seen, name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def channels_at(net: nn.Module, names: Sequence[str]) -> list[int]:
    """How many channels these modules give. Raises RecipeError for one that is not there, or gives no feature map."""
    modules = dict(net.named_modules())
    for name in names:
        if not name or name not in modules:
            near = get_close_matches(name, list(modules), n=1) or [part for part, _ in net.named_children()]
            raise RecipeError(f"auxiliary.at: this network has no module {name!r}; {did_you_mean(name, near)}")
    weight = next(net.parameters())
    was_training = net.training
    with torch.no_grad(), capture_outputs(net.eval(), names) as seen:
        net(torch.zeros(1, 3, 64, 64, device=weight.device, dtype=weight.dtype))
    net.train(was_training)
    for name in names:
        output = seen.get(name)
        if not isinstance(output, Tensor) or output.ndim != 4:
            raise RecipeError(f"auxiliary.at: module {name!r} gives no feature map; name one whose output is one")
    return [seen[name].shape[1] for name in names]


def _keep(seen: MutableMapping[str, Tensor], name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
    seen[name] = output
