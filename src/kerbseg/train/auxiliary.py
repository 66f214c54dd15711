"""Heads on features inside a network, which help it to learn and are gone when it is saved."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor, nn

from kerbseg.losses import mask_at
from kerbseg.train.outputs import channels_at
from kerbseg.train.pixel_loss import PixelLoss
from kerbseg.train.recipe_loss import AuxHead


class AuxiliaryLoss(nn.Module):
    """The losses of heads inside the network, on labels at the features' own resolution.

    The heads are parts of the loss, so they train, move and resume with the task, and the network knows nothing.
    """

    def __init__(self, pixel_loss: PixelLoss, net: nn.Module, heads: Sequence[AuxHead], classes: int) -> None:
        super().__init__()
        self._pixel_loss, self._settings = pixel_loss, tuple(heads)
        widths = channels_at(net, [head.at for head in heads])
        self.heads = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(width, head.channels, 3, padding=1, bias=False),
                nn.BatchNorm2d(head.channels),
                nn.ReLU(),
                nn.Conv2d(head.channels, classes, 1),
            )
            for head, width in zip(heads, widths, strict=True)
        )

    def forward(self, features: Mapping[str, Tensor], mask: Tensor, done: float = 0.0) -> list[Tensor]:
        """The loss of each head, times its weight."""
        losses = []
        for settings, head in zip(self._settings, self.heads, strict=True):
            logits = head(features[settings.at]).float()
            labels = mask_at(mask, (logits.shape[-2], logits.shape[-1]))
            losses.append(settings.weight * self._pixel_loss(logits, labels, done))
        return losses
