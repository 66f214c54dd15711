"""Heads on features inside a network, which help it to learn and are gone when it is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from kerbseg.core.errors import RecipeError, did_you_mean
from kerbseg.losses import at_scores
from kerbseg.train.recipe import AuxHead
from kerbseg.train.task import NetworkLoss

PixelLoss = Callable[[Float[Tensor, "b k h w"], UInt8[Tensor, "b h w"]], Float[Tensor, ""]]


class AuxiliaryLoss(nn.Module):
    """A criterion plus the losses of heads inside the network, on labels at the features' own resolution.

    The heads are parts of the criterion, so they train, move and resume with the task, and the network knows nothing.
    """

    def __init__(
        self, inner: NetworkLoss, pixel_loss: PixelLoss, net: nn.Module, heads: Sequence[AuxHead], classes: int
    ) -> None:
        super().__init__()
        self.inner, self._pixel_loss, self._heads = inner, pixel_loss, tuple(heads)
        widths = _channels(net, [head.at for head in heads])
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, head.channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(head.channels),
                nn.ReLU(),
                nn.Conv2d(head.channels, classes, 1),
            )
            for head, width in zip(heads, widths, strict=True)
        )

    def forward(self, net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        with capture_outputs(net, [head.at for head in self._heads]) as seen:
            loss: Tensor = self.inner(net, image, mask)
        for settings, head in zip(self._heads, self.heads, strict=True):
            logits = head(seen[settings.at]).float()
            loss = loss + settings.weight * self._pixel_loss(
                logits, at_scores(mask, (logits.shape[-2], logits.shape[-1]))
            )
        return loss


@contextmanager
def capture_outputs(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, Tensor]]:
    """What the modules of these names give while the network runs; '' is the network itself."""
    seen: dict[str, Tensor] = {}

    def keep(name: str, module: nn.Module, inputs: Any, output: Tensor) -> None:
        seen[name] = output

    hooks = [net.get_submodule(name).register_forward_hook(partial(keep, name)) for name in names]
    try:
        yield seen
    finally:
        for hook in hooks:
            hook.remove()


def _channels(net: nn.Module, names: Sequence[str]) -> list[int]:
    """How many channels these modules give. Raises RecipeError for one that is not there, or gives no feature map."""
    modules = dict(net.named_modules())
    for name in names:
        if not name or name not in modules:
            raise RecipeError(f"auxiliary.at: this network has no module {name!r}; {did_you_mean(name, modules)}")
    weight = next(net.parameters())
    was_training = net.training
    with torch.no_grad(), capture_outputs(net.eval(), names) as seen:
        net(torch.zeros(1, 3, 64, 64, device=weight.device, dtype=weight.dtype))
    net.train(was_training)
    for name in names:
        found = seen.get(name)
        if not isinstance(found, Tensor) or found.ndim != 4:
            raise RecipeError(f"auxiliary.at: module {name!r} gives no feature map; name one whose output is one")
    return [seen[name].shape[1] for name in names]
