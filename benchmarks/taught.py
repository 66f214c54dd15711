"""A little training on drawn scenes, for timing: what a last stage costs depends on where classes meet.

A network with random weights sees noise, and its ids change from pixel to pixel. After some hundred steps it sees
streets: that is enough for a clock, and no more is claimed.
"""

from __future__ import annotations

import torch
from torch import nn

from kerbseg.core.types import VOID
from kerbseg.data.scenes import Scenes
from kerbseg.losses import cross_entropy

SIZE = (192, 384)
BATCH = 4


def taught(net: nn.Module, classes: int, steps: int, size: tuple[int, int] = SIZE, seed: int = 0) -> nn.Module:
    """The network after so many steps of Adam on drawn scenes, in eval mode.

    With fewer outputs than the scenes have classes, the others are void.
    """
    scenes = Scenes("train", steps * BATCH, size, seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    net.train()
    for step in range(steps):
        samples = [scenes[step * BATCH + index] for index in range(BATCH)]
        image = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) for one in samples]).float() / 255
        mask = torch.stack([torch.from_numpy(one.mask) for one in samples])
        mask[mask >= classes] = VOID
        loss = cross_entropy(net(image), mask)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return net.eval()
