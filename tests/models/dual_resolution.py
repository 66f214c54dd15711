"""DDRNet and PIDNet a second time: plain functions of weights and pictures, written from the authors' layer tables.

Nothing of kerbseg is used, so that a slip in the networks is not a slip here. `state` holds weights and statistics
under the authors' names; in training the statistics are moved in place, as batch-norm does.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class Written:
    """The layers that both networks are made of."""

    state: Mapping[str, Tensor]
    training: bool

    def conv(self, name: str, x: Tensor, stride: int = 1, groups: int = 1) -> Tensor:
        weight = self.state[f"{name}.weight"]
        return F.conv2d(x, weight, self.state.get(f"{name}.bias"), stride, weight.shape[-1] // 2, 1, groups)

    def norm(self, name: str, x: Tensor) -> Tensor:
        mean, variance, weight, bias = (
            self.state[f"{name}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias")
        )
        return F.batch_norm(x, mean, variance, weight, bias, self.training, momentum=0.1, eps=1e-5)

    def pair(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        """Convolution and normalization at indices 0 and 1."""
        return self.norm(f"{name}.1", self.conv(f"{name}.0", x, stride))

    def pre(self, name: str, x: Tensor, first: int = 0, groups: int = 1) -> Tensor:
        """Normalization, ReLU, convolution; `first` is the normalization's index."""
        return self.conv(f"{name}.{first + 2}", self.norm(f"{name}.{first}", x).relu(), groups=groups)

    def short(self, name: str, x: Tensor, stride: int) -> Tensor:
        return self.pair(f"{name}.downsample", x, stride) if f"{name}.downsample.0.weight" in self.state else x

    def basic(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        y = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x, stride)).relu()
        return self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y)) + self.short(name, x, stride)

    def bottleneck(self, name: str, x: Tensor, stride: int = 1) -> Tensor:
        y = self.norm(f"{name}.bn1", self.conv(f"{name}.conv1", x)).relu()
        y = self.norm(f"{name}.bn2", self.conv(f"{name}.conv2", y, stride)).relu()
        return self.norm(f"{name}.bn3", self.conv(f"{name}.conv3", y)) + self.short(name, x, stride)

    def stage(self, name: str, x: Tensor, blocks: int, stride: int = 1) -> Tensor:
        x = self.basic(f"{name}.0", x, stride)
        for block in range(1, blocks):
            x = self.basic(f"{name}.{block}", x.relu())
        return x

    def stem(self, x: Tensor) -> Tensor:
        x = self.norm("conv1.1", self.conv("conv1.0", x, 2)).relu()
        return self.norm("conv1.4", self.conv("conv1.3", x, 2)).relu()

    def head(self, name: str, x: Tensor) -> Tensor:
        x = self.conv(f"{name}.conv1", self.norm(f"{name}.bn1", x).relu())
        return self.conv(f"{name}.conv2", self.norm(f"{name}.bn2", x).relu())

    def pyramid(self, x: Tensor) -> Tensor:
        """DAPPM, or PAPPM where the state has its convolution of all scales at once."""
        size = x.shape[-2:]
        fine = self.pre("spp.scale0", x)
        scales = []
        for number, (kernel, stride) in enumerate([(5, 2), (9, 4), (17, 8)], start=1):
            # the border's windows are filled up with zeros, which count
            pooled = F.avg_pool2d(F.pad(x, [kernel // 2] * 4), kernel, stride)
            scales.append(up(self.pre(f"spp.scale{number}", pooled, 1), size))
        scales.append(up(self.pre("spp.scale4", x.mean((2, 3), keepdim=True), 1), size))
        if "spp.process1.0.weight" in self.state:
            merged = [fine]
            for number, scale in enumerate(scales, start=1):
                merged.append(self.pre(f"spp.process{number}", scale + merged[-1]))
        else:
            alike = torch.cat([scale + fine for scale in scales], 1)
            merged = [fine, self.pre("spp.scale_process", alike, groups=4)]
        return self.pre("spp.compression", torch.cat(merged, 1)) + self.pre("spp.shortcut", x)

    def pag(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        size = x.shape[-2:]
        product = self.pair(f"{name}.f_x", x) * up(self.pair(f"{name}.f_y", y), size)
        share = torch.sigmoid(product.sum(1, keepdim=True))
        return (1 - share) * x + share * up(y, size)

    def bag(self, p: Tensor, i: Tensor, d: Tensor) -> Tensor:
        e = torch.sigmoid(d)
        if "dfm.conv_p.0.weight" in self.state:
            return self.pair("dfm.conv_p", (1 - e) * i + p) + self.pair("dfm.conv_i", i + e * p)
        return self.pre("dfm.conv", e * p + (1 - e) * i)


def up(x: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(x, size, mode="bilinear", align_corners=False)


def ddrnet(state: Mapping[str, Tensor], image: Tensor, training: bool = True) -> tuple[Tensor, dict[str, Tensor]]:
    """The main logits and the training head's, all at 1/8."""
    net, size = Written(state, training), (image.shape[-2] // 8, image.shape[-1] // 8)
    a1 = net.stage("layer1", net.stem(image), 2)
    a2 = net.stage("layer2", a1.relu(), 2, 2).relu()
    a3, h3 = net.stage("layer3", a2, 2, 2), net.stage("layer3_", a2, 2)
    low = a3 + net.pair("down3", h3.relu(), 2)
    high = h3 + up(net.pair("compression3", a3.relu()), size)
    auxiliary = net.head("seghead_extra", high)
    a4, h4 = net.stage("layer4", low.relu(), 2, 2), net.stage("layer4_", high.relu(), 2)
    down = net.pair("down4", h4.relu(), 2).relu()
    low = a4 + net.norm("down4.4", net.conv("down4.3", down, 2))
    high = h4 + up(net.pair("compression4", a4.relu()), size)
    h5 = net.bottleneck("layer5_.0", high.relu())
    g = up(net.pyramid(net.bottleneck("layer5.0", low.relu(), 2)), size)
    return net.head("final_layer", g + h5), {"seghead_extra": auxiliary}


def pidnet(
    state: Mapping[str, Tensor], image: Tensor, training: bool = True, m: int = 2, n: int = 3
) -> tuple[Tensor, dict[str, Tensor]]:
    """The main logits and the training heads', all at 1/8; L has m 3 and n 4."""
    net, size = Written(state, training), (image.shape[-2] // 8, image.shape[-1] // 8)
    x = net.stage("layer1", net.stem(image), m).relu()
    x = net.stage("layer2", x, m, 2).relu()
    p, d = net.stage("layer3_", x, m), net.basic("layer3_d", x)
    x = net.stage("layer3", x, n, 2).relu()
    p = net.pag("pag3", p, net.pair("compression3", x)).relu()
    d = (d + up(net.pair("diff3", x), size)).relu()
    of_p = net.head("seghead_p", p)
    x = net.stage("layer4", x, n, 2).relu()
    p = net.stage("layer4_", p, m)
    d = net.bottleneck("layer4_d.0", d) if "layer4_d.0.conv3.weight" in state else net.basic("layer4_d.0", d)
    p = net.pag("pag4", p, net.pair("compression4", x)).relu()
    d = (d + up(net.pair("diff4", x), size)).relu()
    of_d = net.head("seghead_d", d)
    p, d = net.bottleneck("layer5_.0", p), net.bottleneck("layer5_d.0", d)
    x = net.bottleneck("layer5.1", net.bottleneck("layer5.0", x, 2))
    i = up(net.pyramid(x), size)
    return net.head("final_layer", net.bag(p, i, d)), {"seghead_p": of_p, "seghead_d": of_d}
