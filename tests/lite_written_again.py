"""PP-LiteSeg-T and Fast-SCNN a second time: plain functions of weights and pictures, written from the layer tables.

Nothing of kerbseg is used, so that a slip in the networks is not a slip here. `state` holds weights and statistics
under the names that their publishers gave them; in training the statistics are moved in place, as batch-norm does.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor
from torch.nn import functional as F

State = Mapping[str, Tensor]
Outputs = tuple[Tensor, dict[str, Tensor]]


def conv(state: State, name: str, x: Tensor, stride: int = 1, padding: int | None = None, dilation: int = 1) -> Tensor:
    """A convolution whose kernel and groups its weight tells."""
    weight = state[f"{name}.weight"]
    around = weight.shape[-1] // 2 if padding is None else padding
    groups = x.shape[1] // weight.shape[1]
    return F.conv2d(x, weight, state.get(f"{name}.bias"), stride, around, dilation, groups)


def norm(state: State, name: str, x: Tensor, training: bool, mean: str, variance: str) -> Tensor:
    statistics = state[f"{name}.{mean}"], state[f"{name}.{variance}"]
    return F.batch_norm(
        x, *statistics, state[f"{name}.weight"], state[f"{name}.bias"], training, momentum=0.1, eps=1e-5
    )


def pp_liteseg_t(state: State, image: Tensor, training: bool = True) -> Outputs:
    """Logits at 1/8, and at 1/16 and 1/32 those of the training heads; Paddle's names."""

    def normed(name: str, x: Tensor) -> Tensor:
        return norm(state, name, x, training, "_mean", "_variance")

    def encoder(name: str, x: Tensor, stride: int = 1) -> Tensor:
        return normed(f"{name}.bn", conv(state, f"{name}.conv", x, stride)).relu()

    def unit(name: str, x: Tensor) -> Tensor:
        return normed(f"{name}._batch_norm", conv(state, f"{name}._conv", x))

    def cat(name: str, x: Tensor) -> Tensor:
        c0 = encoder(f"{name}.conv_list.0", x)
        strided = f"{name}.avd_layer.0.weight" in state
        t = normed(f"{name}.avd_layer.1", conv(state, f"{name}.avd_layer.0", c0, 2)) if strided else c0
        c1 = encoder(f"{name}.conv_list.1", t)
        c2 = encoder(f"{name}.conv_list.2", c1)
        c3 = encoder(f"{name}.conv_list.3", c2)
        if strided:  # a mean of the pixels that are there
            kernel = torch.ones(1, 1, 3, 3, dtype=x.dtype)
            there = F.conv2d(torch.ones_like(c0[:1, :1]), kernel, stride=2, padding=1)
            c0 = F.conv2d(c0, kernel.expand(c0.shape[1], 1, 3, 3), stride=2, padding=1, groups=c0.shape[1]) / there
        return torch.cat([c0, c1, c2, c3], 1)

    def up(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=False)

    def uafm(name: str, low: Tensor, high: Tensor) -> Tensor:
        x = unit(f"{name}.conv_x", low).relu()
        y = up(high, x)
        seen = torch.cat([f(m) for m in (x, y) for f in (lambda m: m.mean(1, True), lambda m: m.max(1, True)[0])], 1)
        a = unit(f"{name}.conv_xy_atten.1", unit(f"{name}.conv_xy_atten.0", seen).relu()).sigmoid()
        return unit(f"{name}.conv_out", x * a + y * (state[f"{name}._scale"] - a)).relu()

    def head(number: int, x: Tensor) -> Tensor:
        name = f"seg_heads.{number}"
        return conv(state, f"{name}.conv_out", unit(f"{name}.conv", x).relu())

    f = "backbone.features"
    x = encoder(f"{f}.1", encoder(f"{f}.0", image, 2), 2)
    f8 = cat(f"{f}.3", cat(f"{f}.2", x))
    f16 = cat(f"{f}.5", cat(f"{f}.4", f8))
    f32 = cat(f"{f}.7", cat(f"{f}.6", f16))
    pools = [
        up(unit(f"ppseg_head.cm.stages.{n}.1", F.adaptive_avg_pool2d(f32, bins)).relu(), f32)
        for n, bins in enumerate((1, 2, 4))
    ]
    g = unit("ppseg_head.cm.conv_out", pools[0] + pools[1] + pools[2]).relu()
    u32 = uafm("ppseg_head.arm_list.2", f32, g)
    u16 = uafm("ppseg_head.arm_list.1", f16, u32)
    u8 = uafm("ppseg_head.arm_list.0", f8, u16)
    return head(0, u8), {"seg_heads.1": head(1, u16), "seg_heads.2": head(2, u32)}


def fast_scnn(state: State, image: Tensor, training: bool = True, public: bool = True) -> Outputs:
    """Logits at 1/8 and those of training heads, without dropout; names of the public PyTorch layout.

    Where `public` is False it is the paper's network as kerbseg reads it, whose second head has the name `aux_global`.
    """

    def normed(name: str, x: Tensor) -> Tensor:
        return norm(state, name, x, training, "running_mean", "running_var")

    def unit(name: str, x: Tensor, stride: int = 1, padding: int | None = None) -> Tensor:
        return normed(f"{name}.1", conv(state, f"{name}.0", x, stride, padding))

    def ds(name: str, x: Tensor, stride: int = 1) -> Tensor:
        y = unit(f"{name}.conv", x, stride)
        y = y.relu() if public else y
        return normed(f"{name}.conv.4", conv(state, f"{name}.conv.3", y)).relu()

    def bottleneck(name: str, x: Tensor, stride: int) -> Tensor:
        y = unit(f"{name}.block.0.conv", x).relu()
        y = unit(f"{name}.block.1.conv", y, stride).relu()
        y = normed(f"{name}.block.3", conv(state, f"{name}.block.2", y))
        return x + y if y.shape == x.shape else y

    def up(x: Tensor, like: Tensor) -> Tensor:
        return F.interpolate(x, like.shape[-2:], mode="bilinear", align_corners=public)

    def head(name: str, x: Tensor) -> Tensor:
        return conv(state, f"{name}.4", unit(name, x).relu())

    low = "learning_to_downsample"
    x = unit(f"{low}.conv.conv", image, 2, padding=0 if public else 1).relu()
    shallow = ds(f"{low}.dsconv2", ds(f"{low}.dsconv1", x, 2), 2)
    deep, extractor = shallow, "global_feature_extractor"
    for stage, stride in ((1, 2), (2, 2), (3, 1)):
        for block in range(3):
            deep = bottleneck(f"{extractor}.bottleneck{stage}.{block}", deep, stride if block == 0 else 1)
    pools = [
        up(unit(f"{extractor}.ppm.conv{n}.conv", F.adaptive_avg_pool2d(deep, bins)).relu(), deep)
        for n, bins in enumerate((1, 2, 3, 6), 1)
    ]
    deep = unit(f"{extractor}.ppm.out.conv", torch.cat([deep, *pools], 1)).relu()
    rate, fusion = (1 if public else 4), "feature_fusion"
    y = conv(state, f"{fusion}.dwconv.conv.0", up(deep, shallow), padding=rate, dilation=rate)
    y = unit(f"{fusion}.conv_lower_res", normed(f"{fusion}.dwconv.conv.1", y).relu())
    y = (y + unit(f"{fusion}.conv_higher_res", shallow)).relu()
    y = ds("classifier.dsconv2", ds("classifier.dsconv1", y))
    heads = {"auxlayer": shallow} if public else {"aux_downsample": shallow, "aux_global": deep}
    return conv(state, "classifier.conv.1", y), {name: head(name, x) for name, x in heads.items()}
