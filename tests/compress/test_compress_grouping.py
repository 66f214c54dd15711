"""Gradual grouping: alpha 1 is the dense network, alpha 0 the grouped one that comes out."""

import copy
import itertools

import pytest
import torch
from torch import nn

from kerbseg.compress.convolutions import Selection, choose, convolutions
from kerbseg.compress.grouping import alpha_at, apply_grouping, collapse, fade, make_dense, outside_share, set_alpha
from kerbseg.core.errors import KerbsegError
from kerbseg.models import create_model

DENSE = [  # of every kind, with a bias and without, dilated, strided, of a subclass
    nn.Conv2d(8, 16, 1),
    nn.Conv2d(8, 12, 3, stride=2, padding=2, dilation=2, bias=False),
    nn.Conv2d(12, 8, (3, 1), padding=(1, 0), padding_mode="reflect"),
    nn.ConvTranspose2d(8, 12, 3, stride=2, padding=1, output_padding=1),
    nn.ConvTranspose2d(12, 4, 2, stride=2, bias=False),
]
NETWORKS = [
    ("liteseg_mobilenet_v2", {}, 4),
    ("efficientseg", {"width": 0.25}, 8),
    ("mininet_v2_cpu", {}, 2),
]


class Halved(nn.ConvTranspose2d):
    """A family's own convolution."""

    def forward(self, x):
        return super().forward(x)[..., ::2, ::2]


def picture(*shape):
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def small(name, options, **more):
    torch.manual_seed(0)
    net = create_model(name, 5, **options, **more)
    with torch.no_grad():
        for _ in range(20):  # until batch-norm knows its input, and the picture reaches the scores
            net(torch.rand(2, 3, 64, 64))
    return net.eval()


@pytest.mark.parametrize("groups", [2, 4])
@pytest.mark.parametrize("conv", [*DENSE, Halved(8, 12, 3)], ids=str)
def test_a_convolution_fades_from_itself_to_a_grouped_one(conv, groups):
    net = nn.Sequential(copy.deepcopy(conv))
    x = picture(2, conv.in_channels, 9, 7)
    before = net(x)
    assert apply_grouping(net, ["0"], groups) == ("0",)
    assert torch.equal(net(x), before)
    set_alpha(net, 0.5)
    between = net(x)
    set_alpha(net, 0)
    torch.testing.assert_close(between, (before + net(x)) / 2)
    small = collapse(net)
    torch.testing.assert_close(small(x), net(x), rtol=0, atol=1e-5)
    assert type(small[0]) is type(conv)
    assert (small[0].groups, small[0].weight.numel()) == (groups, conv.weight.numel() // groups)
    assert small.state_dict().keys() == {f"0.{key}" for key in conv.state_dict()}
    assert not torch.allclose(before, net(x), atol=1e-3), "the groups change nothing here"


def test_each_output_of_the_collapsed_convolution_sees_its_own_group_only():
    net = nn.Sequential(nn.Conv2d(8, 4, 1, bias=False))
    apply_grouping(net, ["0"], 2)
    weight = collapse(net)[0].weight
    full = net[0].parametrizations.weight.original
    assert torch.equal(weight[:2], full[:2, :4])
    assert torch.equal(weight[2:], full[2:, 4:])


@pytest.mark.parametrize(("name", "options", "groups"), NETWORKS)
def test_a_network_fades_into_its_registered_grouped_form(name, options, groups):
    net = small(name, options)
    x = picture(2, 3, 64, 64)
    with torch.no_grad():
        before = net(x)
        apply_grouping(net, Selection(channels=8), groups)
        assert torch.equal(net(x), before)
        set_alpha(net, 0)
        expected = net(x)
        made = collapse(net)
        torch.testing.assert_close(made(x), expected, rtol=1e-5, atol=1e-5)
        grouped = small(name, options, grouped={"groups": groups, "channels": 8})
        grouped.load_state_dict(made.state_dict())
        assert torch.equal(grouped(x), made(x))
        assert torch.equal(net(x), expected), "collapsing changed the network it was asked of"
        assert not torch.allclose(before, expected, rtol=0.01)


@pytest.mark.parametrize(
    ("name", "options"), [("liteseg_shufflenet", {}), ("mininet_v2_cpu", {"grouped": {"groups": 4}})]
)
def test_a_grouped_network_begins_dense_and_comes_out_as_itself(name, options):
    net, target = small(name, options), small(name, options)
    groups = make_dense(net)
    assert set(groups) == {n for n, conv in convolutions(target) if 1 < conv.groups < conv.in_channels}
    assert all(net.get_submodule(each).groups == 1 for each in groups)
    x = picture(2, 3, 64, 64)
    with torch.no_grad():
        before = net(x)  # a shuffle between the convolutions stays
        fade(net, groups)
        assert torch.equal(net(x), before)
        set_alpha(net, 0)
        target.load_state_dict(collapse(net).state_dict())
        torch.testing.assert_close(target(x), net(x), rtol=1e-5, atol=1e-5)


def test_fresh_dense_weights_are_as_large_as_the_family_starts_them():
    net = nn.Sequential(nn.Conv2d(64, 64, 1, groups=4, bias=False))
    nn.init.kaiming_uniform_(net[0].weight)  # not torch's own start
    make_dense(net)
    wanted = nn.init.kaiming_uniform_(torch.empty(64, 64, 1, 1)).std()
    assert float(net[0].weight.detach().std()) == pytest.approx(float(wanted), rel=0.1)


def test_weights_outside_the_groups_learn_while_alpha_lets_them():
    net = nn.Sequential(nn.Conv2d(4, 4, 1))
    apply_grouping(net, ["0"], 2)
    original, inside = net[0].parametrizations.weight.original, net[0].parametrizations.weight[0].inside
    for alpha in (0.25, 0.0):
        set_alpha(net, alpha)
        original.grad = None
        net(torch.ones(1, 4, 1, 1)).sum().backward()
        assert torch.equal(original.grad, torch.where(inside, 1.0, alpha))


def test_a_fading_network_keeps_its_state_apart_from_alpha():
    net = small("mininet_v2_cpu", {})
    names = apply_grouping(net, Selection(), 4)
    keys = net.state_dict().keys()
    assert {f"{name}.parametrizations.weight.original" for name in names} <= keys
    assert not [key for key in keys if "alpha" in key or "inside" in key]


@pytest.mark.parametrize(
    ("selection", "expected"),
    [
        (Selection(), {"2"}),
        (Selection(kinds=("spatial",)), {"1"}),
        (Selection(kinds=("spatial", "pointwise", "transposed")), {"1", "2", "4"}),
        (Selection(names=("[24]",), kinds=("pointwise", "transposed")), {"2", "4"}),
        (Selection(kinds=("spatial", "pointwise", "transposed"), channels=16), {"2"}),
        (lambda name, conv: conv.kernel_size[0] == 3, {"1", "4"}),
        (["2", "4"], {"2", "4"}),
    ],
)
def test_convolutions_are_chosen_by_name_kind_and_size(selection, expected):
    net = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.Conv2d(8, 16, 3), nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, groups=16),
        nn.ConvTranspose2d(16, 12, 3), nn.Conv2d(12, 5, 1),
    )  # fmt: skip
    assert set(choose(net, selection, 4)) == expected


@pytest.mark.parametrize(
    ("selection", "groups", "names"),
    [
        (["encoder.0.conv", "encoder.3.*"], 2, ["encoder.0.conv (3 to 13)", "do not divide"]),
        (Selection(names=("head",)), 2, ["head", "no dense convolution is called"]),
        (["encoder.3.conv3x1"], 2, ["did you mean 'encoder.3.conv3x1_"]),
        (Selection(), 2, ["no convolution of ERFNet", "2 groups"]),
        (["encoder.3.*"], 1, ["2 or more"]),
    ],
)
def test_a_choice_that_cannot_be_is_refused_with_names(selection, groups, names):
    with pytest.raises(KerbsegError) as caught:
        apply_grouping(create_model("erfnet"), selection, groups)
    for name in names:
        assert name in str(caught.value)


def test_a_convolution_is_not_grouped_twice():
    net = small("mininet_v2_cpu", {})
    apply_grouping(net, Selection(), 4)
    with pytest.raises(KerbsegError, match="group a convolution once"):
        apply_grouping(net, Selection(), 2)


def test_a_network_without_groups_cannot_begin_dense():
    with pytest.raises(KerbsegError, match="take a grouped variant"):
        make_dense(create_model("erfnet"))
    with pytest.raises(KerbsegError, match="no grouped convolution is called 'encoder'"):
        make_dense(create_model("liteseg_shufflenet"), ["encoder"])


@pytest.mark.parametrize(
    ("grouped", "names"),
    [
        ({"group": 4}, ["groups"]),
        ({"groups": 4, "kinds": ["square"]}, ["grouped.kinds", "pointwise"]),
        (4, ["grouped", "groups"]),
        ({"groups": 3}, ["3 groups"]),
    ],
)
def test_a_wrong_option_of_a_model_is_named(grouped, names):
    with pytest.raises(KerbsegError) as caught:
        create_model("mininet_v2_cpu", grouped=grouped)
    for name in names:
        assert name in str(caught.value)


@pytest.mark.parametrize("shape", ["linear", "cosine"])
def test_alpha_falls_from_one_to_zero_and_stays_there(shape):
    course = [alpha_at(epoch / 20, 0.5, shape) for epoch in range(20)]
    assert course[0] == 1
    assert course[5] == pytest.approx(0.5)
    assert course[10:] == [0] * 10
    assert all(before > after for before, after in itertools.pairwise(course[:11]))
    if shape == "linear":
        assert course[:10] == pytest.approx([1 - epoch / 10 for epoch in range(10)])
    assert alpha_at(0, 0, shape) == 0


def test_what_will_be_lost_is_known():
    net = nn.Sequential(nn.Conv2d(4, 4, 1))
    nn.init.ones_(net[0].weight)
    apply_grouping(net, ["0"], 4)
    assert outside_share(net) == pytest.approx(12 / 16)
