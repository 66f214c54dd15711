"""MiniNet of 2019: exact counts, the logits of its authors' graph, mistakes that these logits show, fresh weights."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F

from golden_rule import read_golden, read_variables
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.models import card, create_model, mininet_v1
from kerbseg.models.mininet_v1 import AlphaDropout, Down, Factorized, MiniNetV1, Separable, Up
from kerbseg.profiling.conventions import tf_frozen
from kerbseg.profiling.cost import cost

CLASSES = 5
NEAR = 1e-4  # of logits from -4.76 to 5.44


@pytest.fixture(scope="module")
def picture() -> torch.Tensor:
    """Float32 [1 3 128 192]: a pattern of stripes and squares, from -0.5 to 0.5."""
    y, x, channel = np.meshgrid(np.arange(128), np.arange(192), np.arange(3), indexing="ij")
    pixels = (3 * y + 5 * x + 17 * channel + x * y % 97 + 40 * ((x // 16 + y // 16) % 2)) % 256
    scaled = pixels / 255 - 0.5
    assert scaled.sum() == pytest.approx(-78.5367, abs=1e-3)
    return torch.from_numpy(scaled.astype(np.float32)).permute(2, 0, 1)[None]


def golden_net() -> MiniNetV1:
    """The network with the weights of the golden logits."""
    net = create_model("mininet_v1", CLASSES).eval()
    variables = read_variables("mininet_v1")
    for k, (parameter, (kind, shape)) in enumerate(zip(net.parameters(), variables.values(), strict=True)):
        parameter.data = torch.from_numpy(weights(k, kind, shape))
    return net


def weights(k: int, kind: str, shape: list[int]) -> np.ndarray:
    """Variable number k of the graph, from TensorFlow's axes to torch's."""
    j = np.arange(math.prod(shape), dtype=np.float64)
    if kind == "bias":
        return (0.1 * np.sin(0.9 * j + 0.5 * k)).astype(np.float32)
    cells = shape[0] * shape[1]
    fan = {"dw": cells, "pw": shape[2], "tc": cells * shape[3] / 4}[kind]
    values = 1.4 / math.sqrt(fan) * np.sin(1.7 * j**2 / (1 + 0.001 * j) + 0.3 * k)
    axes = (2, 3, 0, 1) if kind == "dw" else (3, 2, 0, 1)
    return np.ascontiguousarray(values.astype(np.float32).reshape(shape).transpose(axes))


def logits_of(net: nn.Module, picture: torch.Tensor) -> np.ndarray:
    with torch.no_grad():
        logits: np.ndarray = net(picture).numpy()
    return logits


def assert_golden(logits: np.ndarray) -> None:
    expected = read_golden("mininet_v1")
    assert list(logits.shape) == expected["shape"]
    index = np.random.RandomState(1).randint(0, logits.size, 64)
    np.testing.assert_allclose(logits.ravel()[index], expected["samples"], rtol=0, atol=NEAR)
    for statistic in ("mean", "std", "min", "max"):
        assert getattr(logits, statistic)() == pytest.approx(expected[statistic], abs=NEAR)
    counts = np.bincount(logits.argmax(1).ravel(), minlength=CLASSES)
    assert np.abs(counts - expected["argmax"]).sum() <= 4  # two pixels that change class


@pytest.mark.parametrize(
    ("classes", "macs"), [(2, 525_701_632), (11, 600_019_456), (19, 666_079_744), (20, 674_337_280)]
)
def test_counts_are_the_sheets(classes, macs):
    with torch.device("meta"):
        net = create_model("mininet_v1", classes)
    of_net = cost(net, (256, 512))
    assert of_net.parameters == 3_057_929 + 253 * classes
    assert of_net.macs == macs
    added = 3_568_192 + 131_072 * (classes - 2) + 737_536  # biases, and residual sums
    frozen = tf_frozen(net, (256, 512))
    assert (frozen.parameters, frozen.operations) == (of_net.parameters, 2 * macs + added)
    assert card("mininet_v1").parameters == 3_062_736


def test_the_printed_operations_are_those_of_two_classes():
    with torch.device("meta"):
        counted = {k: tf_frozen(create_model("mininet_v1", k), (256, 512)).operations for k in (2, 11, 19, 20)}
    assert counted == {2: 1_055_708_992, 11: 1_205_524_288, 19: 1_338_693_440, 20: 1_355_339_584}
    assert [f"{count / 1e9:.2f}" for count in counted.values()] == ["1.06", "1.21", "1.34", "1.36"]


def test_the_logits_are_those_of_the_authors_graph(picture):
    assert_golden(logits_of(golden_net(), picture))


def dilated_both_ways(net: MiniNetV1, monkeypatch: pytest.MonkeyPatch) -> None:
    for conv in [m for m in net.modules() if isinstance(m, nn.Conv2d) and m.dilation[1] > 1]:
        d = conv.dilation[1]
        conv.dilation = (d, d)
        conv.padding = tuple(side // 2 * d for side in conv.kernel_size)


def skip_of_the_last(net: MiniNetV1, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: Factorized, x: torch.Tensor) -> torch.Tensor:
        near = self.down(F.selu(self.across(x)))
        far = self.far_across(F.selu(self.far_down(F.selu(near))))
        return F.selu(far + near + x[:, -self.outputs :])

    monkeypatch.setattr(Factorized, "forward", forward)


def padded_evenly(net: MiniNetV1, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Down, "forward", lambda self, x: F.selu(self.conv(F.pad(x, (1, 0, 1, 0)))))


def cropped_at_the_start(net: MiniNetV1, monkeypatch: pytest.MonkeyPatch) -> None:
    def forward(self: nn.ConvTranspose2d, x: torch.Tensor) -> torch.Tensor:
        return nn.ConvTranspose2d.forward(self, x)[..., 1:, 1:]

    monkeypatch.setattr(mininet_v1.Transposed, "forward", forward)


@pytest.mark.parametrize(
    ("mistake", "equal"),
    [(dilated_both_ways, 0.63), (skip_of_the_last, 0.48), (padded_evenly, 0.28), (cropped_at_the_start, 0.19)],
)
def test_a_mistake_shows(mistake: Callable[..., None], equal, picture, monkeypatch):
    net = golden_net()
    right = logits_of(net, picture)
    mistake(net, monkeypatch)
    wrong = logits_of(net, picture)
    with pytest.raises(AssertionError):
        assert_golden(wrong)
    assert (wrong.argmax(1) == right.argmax(1)).mean() == pytest.approx(equal, abs=0.006)


def test_the_logits_have_the_pictures_size_and_other_sides_are_refused():
    net = create_model("mininet_v1", 3).eval()
    with torch.no_grad():
        assert net.logits(torch.zeros(1, 3, 64, 128)).shape == (1, 3, 64, 128)
    with pytest.raises(InputError, match=r"96x128 .*stride 64; pad to 128x128"):
        net(torch.zeros(1, 3, 96, 128))


def deviations(init: str) -> dict[str, float]:
    """Of every block's output on normal noise: the standard deviation."""
    torch.manual_seed(0)
    net, seen = create_model("mininet_v1", 19, init=init).eval(), {}
    for name, block in net.named_modules():
        if isinstance(block, Down | Factorized | Up) or name == "output":
            block.register_forward_hook(lambda _, given, result, name=name: seen.update({name: result.std().item()}))
    with torch.no_grad():
        net(torch.randn(1, 3, 256, 512))
    return seen


def test_fresh_weights_keep_the_signal_in_every_block():
    kept = deviations("per_channel")
    assert len(kept) == 21
    assert all(0.5 < value < 4 for value in kept.values()), kept


def test_fresh_weights_as_in_the_code_lose_it():
    lost = deviations("as_code")
    assert lost["d6"] == pytest.approx(0.0016, abs=4e-4)
    assert lost["d5"] == pytest.approx(0.007, abs=2e-3)
    assert lost["d4"] == pytest.approx(0.036, abs=5e-3)


@pytest.mark.parametrize("init", mininet_v1.INITS)
def test_fresh_weights_have_the_spread_of_their_rule(init):
    torch.manual_seed(0)
    net = create_model("mininet_v1", 19, init=init).requires_grad_(False)
    pointwise, up = net.deep[0].down.pointwise, net.u3.deconv
    assert pointwise.weight.std() == pytest.approx(386**-0.5, rel=0.02)
    assert up.weight.std() == pytest.approx((288 * 9 / 4 if init == "per_channel" else 96 * 9) ** -0.5, rel=0.02)
    depthwise = torch.stack(
        [m.depthwise.weight.flatten()[:300] for m in net.deep.modules() if isinstance(m, Separable)]
    )
    assert depthwise.std() == pytest.approx((1 / 3 if init == "per_channel" else 2 / (3 * 387)) ** 0.5, rel=0.05)
    assert not any(m.bias.any() for m in net.modules() if getattr(m, "bias", None) is not None)


def test_dropout_acts_in_training_alone_unless_asked():
    torch.manual_seed(0)
    image = torch.rand(1, 3, 64, 64)
    for options, noisy in (({}, False), ({"dropout_at_test": True}, True)):
        net = create_model("mininet_v1", 3, **options).eval()
        dropouts = [each for each in net.modules() if isinstance(each, AlphaDropout)]
        assert [each.p for each in dropouts] == [0.25] * 9
        with torch.no_grad():
            assert torch.equal(net(image), net(image)) is not noisy
            net.train()
            assert not torch.equal(net(image), net(image))


@pytest.mark.slow
def test_an_exported_graph_has_no_dropout():
    net, image = create_model("mininet_v1", 2).eval(), torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        program = torch.export.export(net, (image,))
    calls = {str(node.target) for node in program.run_decompositions().graph.nodes}
    assert any("convolution" in call for call in calls)
    assert not any(word in call for call in calls for word in ("dropout", "rand", "bernoulli"))


def test_an_unknown_initialization_is_refused():
    with pytest.raises(KerbsegError, match="init is 'lecun'; choose from: per_channel, as_code"):
        create_model("mininet_v1", 3, init="lecun")
    with pytest.raises(KerbsegError, match="option init is 3"):
        create_model("mininet_v1", 3, init=3)
