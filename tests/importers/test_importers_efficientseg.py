"""EfficientSeg's and the U-Net's files: golden logits through the importer; width recognised; strict."""

import pytest
import torch

from golden_rule import Shapes, check, filled, golden_state, read_golden, read_keys
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.importers import import_checkpoint
from kerbseg.models import card, create_model

TABLE = [  # MobileNetV3-Large: kernel, expansion, channels, squeeze and excitation, stride
    (3, 1, 16, False, 1), (3, 4, 24, False, 2), (3, 3, 24, False, 1),
    (5, 3, 40, True, 2), (5, 3, 40, True, 1), (5, 3, 40, True, 1),
    (3, 6, 80, False, 2), (3, 2.5, 80, False, 1), (3, 2.3, 80, False, 1), (3, 2.3, 80, False, 1),
    (3, 6, 112, True, 1), (3, 6, 112, True, 1), (5, 6, 160, True, 2), (5, 6, 160, True, 1), (5, 6, 160, True, 1),
]  # fmt: skip


def eighths(channels: float) -> int:
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded


def unit(convolution: str, norm: str, weight: list[int]) -> Shapes:
    vectors = {f"{norm}.{leaf}": [weight[0]] for leaf in ("weight", "bias", "running_mean", "running_var")}
    return {f"{convolution}.weight": weight} | vectors | {f"{norm}.num_batches_tracked": []}


def attention(name: str, channels: int) -> Shapes:
    hidden = eighths(channels // 4)
    squeeze = {f"{name}.fc.0.weight": [hidden, channels], f"{name}.fc.0.bias": [hidden]}
    return squeeze | {f"{name}.fc.2.weight": [channels, hidden], f"{name}.fc.2.bias": [channels]}


def block(name: str, inputs: int, hidden: int, outputs: int, kernel: int, attends: bool) -> Shapes:
    at, shapes = f"{name}.conv", {}
    if inputs == hidden:  # it need not widen: one layer and its activation fewer, and attention after the activation
        shapes |= unit(f"{at}.0", f"{at}.1", [hidden, 1, kernel, kernel])
        shapes |= attention(f"{at}.3", hidden) if attends else {}
        return shapes | unit(f"{at}.4", f"{at}.5", [outputs, hidden, 1, 1])
    shapes |= unit(f"{at}.0", f"{at}.1", [hidden, inputs, 1, 1])
    shapes |= unit(f"{at}.3", f"{at}.4", [hidden, 1, kernel, kernel])
    shapes |= attention(f"{at}.5", hidden) if attends else {}
    return shapes | unit(f"{at}.7", f"{at}.8", [outputs, hidden, 1, 1])


def efficientseg(width: float, classes: int = 20) -> Shapes:
    """The authors' tree, spelled without the importer's table."""
    first = inputs = eighths(16 * width)
    shapes, decoder = unit("enc_layers.0.0", "enc_layers.0.1", [first, 3, 3, 3]), []
    strides = [row[-1] for row in TABLE[1:]] + [1]
    for n, ((kernel, expansion, channels, attends, _), next_stride) in enumerate(zip(TABLE, strides, strict=True), 1):
        outputs, hidden = eighths(channels * width), eighths(inputs * expansion)
        shapes |= block(f"enc_layers.{n}", inputs, hidden, outputs, kernel, attends)
        decoder.append((next_stride * outputs, hidden, inputs, kernel, attends))  # beside what was kept, twice as wide
        inputs = outputs
    for n, row in enumerate(reversed(decoder)):
        shapes |= block(f"dec_layers.{n}", *row)
    shapes |= unit("dec_layers.15.0", "dec_layers.15.1", [classes, first, 3, 3])
    middle = unit("conv.0", "conv.1", [hidden, inputs, 1, 1])
    return shapes | middle | unit("conv2.0", "conv2.1", [inputs, hidden, 1, 1])


def unet(model: str, classes: int = 20) -> Shapes:
    keys = read_keys({"unet_minicity": "efficientseg_unet", "unet_minicity_bn": "efficientseg_unet_bn"}[model])
    return keys | {"outc.conv.weight": [classes, 64, 1, 1], "outc.conv.bias": [classes]}


GOLDEN = [
    ("efficientseg_w1.5", "efficientseg_1_5"),
    ("efficientseg_unet", "unet_minicity"),
    ("efficientseg_unet_bn", "unet_minicity_bn"),
    pytest.param("efficientseg_w6.0", "efficientseg_6_0", marks=pytest.mark.slow),  # 209 million parameters
]


@pytest.mark.parametrize("width", [1.5, 6.0])
def test_the_keys_above_are_the_authors(width):
    assert list(efficientseg(width).items()) == list(read_keys(f"efficientseg_w{width}").items())


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("name", "model"), GOLDEN)
def test_logits_are_the_authors(written, name, model, precision):
    golden = read_golden(name)
    bundle = import_checkpoint("efficientseg-pytorch", written({"model_state_dict": golden_state(golden)}))
    check(bundle.model, golden, precision)
    assert (bundle.card.model, bundle.card.outputs, len(bundle.card.labels)) == (model, 20, 19)
    # as the authors' scripts look at pictures: the U-Net's is the challenge's own
    assert bundle.card.resample == ("bilinear" if model.startswith("unet") else "lanczos")
    assert bundle.card.preprocessing == card(model).preprocessing
    assert sum(p.numel() for p in bundle.model.parameters()) == golden["parameters"]


def test_attention_goes_where_the_authors_have_it(written):
    state = filled(efficientseg(0.5))
    net = import_checkpoint("efficientseg-pytorch", written(state)).model
    listed = [key.removesuffix(".fc.0.weight") for key in state if key.endswith(".fc.0.weight")]
    assert len(listed) == 16  # of 30 blocks
    for name in listed:
        side, number, _, place = name.split(".")
        blocks, index = (net.encoder, int(number) - 1) if side == "enc_layers" else (net.decoder, int(number))
        gate = blocks[index].layers[int(place)].gate
        assert torch.equal(gate[0].weight, state[f"{name}.fc.0.weight"])
        assert torch.equal(gate[0].bias, state[f"{name}.fc.0.bias"])
        assert torch.equal(gate[2].weight, state[f"{name}.fc.2.weight"])
        assert torch.equal(gate[2].bias, state[f"{name}.fc.2.bias"])


@pytest.mark.parametrize("width", [0.25, 0.5, 0.35, 0.7, 1.0])
def test_the_width_is_recognised(width, written):
    source = written({"model_state_dict": filled(efficientseg(width))})
    bundle = import_checkpoint("efficientseg-pytorch", source)
    assert (bundle.card.model, bundle.card.outputs, bundle.card.labels.name) == ("efficientseg", 20, "cityscapes")
    # several coefficients round to the same channels; the recognised one must build the same network
    recognised = create_model("efficientseg", 20, **bundle.card.options)
    assert {k: v.shape for k, v in recognised.state_dict().items()} == {
        k: v.shape for k, v in create_model("efficientseg", 20, width=width).state_dict().items()
    }


def test_a_published_width_goes_by_its_own_name(written):
    source = written(filled(efficientseg(1.5, 19)))
    named = import_checkpoint("efficientseg-pytorch", source).card
    assert (named.model, named.outputs, dict(named.options)) == ("efficientseg_1_5", 19, {})
    any_width = import_checkpoint("efficientseg-pytorch", source, model="efficientseg").card
    assert (any_width.model, dict(any_width.options)) == ("efficientseg", {"width": 1.5})
    with pytest.raises(BundleError, match="is efficientseg_1_5, not unet_minicity"):
        import_checkpoint("efficientseg-pytorch", source, model="unet_minicity")


@pytest.mark.parametrize("model", ["unet_minicity", "unet_minicity_bn"])
def test_the_unet_is_recognised(model, written):
    bundle = import_checkpoint("efficientseg-pytorch", written(filled(unet(model, 19))))
    assert (bundle.card.model, bundle.card.outputs) == (model, 19)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("dec_layers.3.conv.4.weight"), r"lacks 'dec_layers.3.conv.4.weight'"),
        (lambda state: state.pop("enc_layers.4.conv.8.bias"), "lacks 'enc_layers.4.conv.8.bias'"),
        (lambda state: state.pop("dec_layers.15.1.bias"), "lacks 'dec_layers.15.1.bias', its last layer"),
        (lambda state: state.pop("enc_layers.0.0.weight"), "no EfficientSeg and no Minicity U-Net"),
        (lambda state: state.update({"extra.weight": torch.ones(3)}), "unknown 'extra.weight'"),
        (lambda state: state.update({"conv.1.weight": torch.ones(3)}), r"'conv.1.weight' is \[3\]"),
        (lambda state: state.update({"enc_layers.9.conv.8.bias": torch.ones(7)}), "fit no width"),
    ],
)
def test_what_does_not_fit_is_named(change, says, written):
    state = filled(efficientseg(0.25))
    change(state)
    with pytest.raises(BundleError, match=says):
        import_checkpoint("efficientseg-pytorch", written(state))


def test_another_family_is_refused_with_the_nearest(written):
    with pytest.raises(KerbsegError, match="did you mean 'unet_minicity'"):
        import_checkpoint("efficientseg-pytorch", written({}), model="unet_minicty")
