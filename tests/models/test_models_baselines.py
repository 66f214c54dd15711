"""ENet, SegNet and ESPNet: the papers' counts, shapes and wiring; unpooling puts values back where they lay."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from kerbseg.core.errors import InputError
from kerbseg.models import create_model
from kerbseg.models.enet import Bottleneck, Downsampling, Upsampling
from kerbseg.models.espnet import ESP
from kerbseg.models.segnet import SegNet

NAMES = ["enet", "segnet_basic", "segnet", "espnet", "espnet_c"]


def parameters(net: nn.Module) -> int:
    return sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize(
    ("name", "classes", "printed", "slack"),
    [
        ("enet", 20, 0.37e6, 5e3),  # ENet, table 3
        ("segnet", 20, 29.46e6, 6e3),  # ENet, table 3
        ("segnet_basic", 11, 1.425e6, 9e3),  # SegNet, table 1; not met to its last digit
        ("espnet", 20, 0.364e6, 6e2),  # ESPNet, table 2
        ("espnet_c", 20, 0.349e6, 5e2),  # ESPNet, table 5
    ],
)
def test_parameters_are_near_what_the_papers_print(name, classes, printed, slack):
    with torch.device("meta"):
        assert parameters(create_model(name, classes)) == pytest.approx(printed, abs=slack)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(32, 64), (64, 32)])
def test_trains_a_step_and_gives_logits_at_the_pictures_size(name, size):
    torch.manual_seed(0)
    net = create_model(name, 5)
    logits = net(torch.rand(2, 3, *size))
    assert logits.shape == (2, 5, *size)
    F.cross_entropy(logits, torch.randint(5, (2, *size))).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


@pytest.mark.parametrize("name", NAMES)
def test_exported_program_gives_the_same_scores(name):
    torch.manual_seed(0)
    net = create_model(name, 4).eval()
    image = torch.rand(1, 3, 64, 32)
    program = torch.export.export(net, (image,))
    torch.testing.assert_close(program.module()(image), net(image))


@pytest.mark.parametrize("size", [(33, 47), (37, 64), (32, 35)])
def test_segnet_takes_any_size_that_its_depth_leaves_a_pixel(size):
    with torch.device("meta"), torch.no_grad():
        for name in ("segnet", "segnet_basic"):
            assert create_model(name, 3).eval()(torch.empty(1, 3, *size)).shape == (1, 3, *size)
        with pytest.raises(InputError, match="needs 32"):
            create_model("segnet").eval()(torch.empty(1, 3, 31, 64))


def test_segnet_puts_every_maximum_back_where_it_lay():
    # with decoders that change nothing, what comes out is the encoders' maxima at their places and zeros elsewhere
    same = nn.Identity
    net = SegNet([same(), same()], [same(), same()], same()).eval()
    image = torch.rand(1, 3, 7, 10)
    blocks = F.max_pool2d(image, 4, ceil_mode=True)
    kept = net(image)
    assert torch.equal(kept[kept > 0].sort().values, blocks.flatten().sort().values)
    assert torch.equal(kept[kept > 0], image[kept > 0])


def test_enet_unpools_to_the_place_of_the_maximum():
    torch.manual_seed(0)
    down, up = Downsampling(4, 8).eval(), Upsampling(8, 4).eval()
    for block in (down, up):  # the filters silenced, the other branch remains
        nn.init.zeros_(block.extension[-2].weight)
    nn.init.ones_(up.project[0].weight)
    image = torch.rand(1, 4, 6, 8)
    with torch.no_grad():
        small, where = down(image)
        large = up(small, where)
    assert torch.equal(small[:, :4], F.max_pool2d(image, 2))
    assert not small[:, 4:].any()  # channels that the pooled branch lacks
    assert torch.equal(large > 0, F.max_unpool2d(F.max_pool2d(image, 2), where, 2) > 0)


def test_enet_drops_out_a_tenth_of_the_channels_but_before_the_second_halving():
    net = create_model("enet")
    shares = {name: module.p for name, module in net.named_modules() if isinstance(module, nn.Dropout2d)}
    assert {p for name, p in shares.items() if name.startswith(("down1.", "stage1."))} == {0.01}
    assert {p for name, p in shares.items() if not name.startswith(("down1.", "stage1."))} == {0.1}
    assert len(shares) == sum(isinstance(m, Bottleneck | Downsampling | Upsampling) for m in net.modules()) == 27


def test_enet_sees_as_far_as_its_table_says():
    convolutions = [m for m in create_model("enet").stage2_3.modules() if isinstance(m, nn.Conv2d)]
    middles = [(m.kernel_size, m.dilation[0]) for m in convolutions if m.kernel_size != (1, 1)]
    tall, flat = ((5, 1), 1), ((1, 5), 1)
    plain, two, four, eight, sixteen = (((3, 3), rate) for rate in (1, 2, 4, 8, 16))
    assert middles == [plain, two, tall, flat, four, plain, eight, tall, flat, sixteen] * 2


def test_enet_as_in_its_authors_code():
    net = create_model("enet", as_code=True)
    assert parameters(net) == 364_311
    assert {m.eps for m in net.modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}
    decoder = ("up4", "stage4", "up5", "stage5")
    in_decoder = [m for part in decoder for m in net.get_submodule(part).modules()]
    assert not any(isinstance(m, nn.PReLU) for m in in_decoder)
    assert sum(isinstance(m, nn.ReLU) for m in in_decoder) == 15  # three a bottleneck
    assert {m.p for m in in_decoder if isinstance(m, nn.Dropout2d)} == {0.0}
    encoder = (net.down1, net.stage1, net.down2, net.stage2_3)
    assert {m.p for part in encoder for m in part.modules() if isinstance(m, nn.Dropout2d)} == {0.01, 0.1}
    pairs = [m for m in net.stage2_3.modules() if isinstance(m, nn.Conv2d) and 5 in m.kernel_size]
    assert [(m.kernel_size, m.bias is not None) for m in pairs] == [((1, 5), False), ((5, 1), True)] * 4


def test_segnet_basic_as_in_its_authors_code():
    torch.manual_seed(0)
    net = create_model("segnet_basic", 11, as_code=True).eval()
    assert parameters(net) == parameters(create_model("segnet_basic", 11)) + 8 * 64 == 1_416_587
    image = torch.rand(1, 3, 16, 32)
    first = net.encoders[0][0](image)
    torch.testing.assert_close(first, F.local_response_norm(255 * image, 5, alpha=1e-4, beta=0.75, k=1.0))
    with torch.no_grad():
        seen = net(image)
        net.encoders[0][0] = nn.Identity()
        assert not torch.allclose(seen, net(image))


@pytest.mark.parametrize("name", ["enet", "segnet_basic"])
def test_the_codes_variants_train_and_export(name):
    torch.manual_seed(0)
    net = create_model(name, 4, as_code=True)
    net(torch.rand(2, 3, 32, 64)).square().mean().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())
    image = torch.rand(1, 3, 32, 64)
    program = torch.export.export(net.eval(), (image,))
    torch.testing.assert_close(program.module()(image), net(image))


def test_esp_sums_the_dilated_branches_in_a_hierarchy():
    torch.manual_seed(0)
    block = ESP(10, 10).eval()
    block.norm = nn.Identity()
    x = torch.rand(1, 10, 20, 20)
    with torch.no_grad():
        narrow = block.reduce(x)
        branches = [branch(narrow) for branch in block.far]
        expected = torch.cat([block.near(narrow), *(sum(branches[: n + 1]) for n in range(4))], dim=1) + x
        torch.testing.assert_close(block(x), expected)
    assert [branch.dilation[0] for branch in block.far] == [2, 4, 8, 16]


@pytest.mark.parametrize(("channels", "first"), [(64, 16), (128, 28), (10, 2)])
def test_esps_first_branch_has_what_five_does_not_divide(channels, first):
    block = ESP(channels, channels)
    assert block.near.out_channels == first
    assert first + sum(branch.out_channels for branch in block.far) == channels


@pytest.mark.parametrize(("merges", "expected"), [(False, 364_569), (True, 365_109)])
def test_espnets_last_merge_takes_level_1_without_the_picture_or_with_it(merges, expected):
    assert parameters(create_model("espnet", 20, merge_picture=merges)) == expected


def test_espnet_normalizes_with_its_authors_eps():
    assert {m.eps for m in create_model("espnet").modules() if isinstance(m, nn.BatchNorm2d)} == {1e-3}


def test_espnet_c_ends_at_an_eighth():
    net = create_model("espnet_c", 3).eval()
    image = torch.rand(1, 3, 32, 48)
    assert net.logits(image).shape == (1, 3, 4, 6)
    with pytest.raises(InputError, match="pad to 40x48"):
        net(torch.rand(1, 3, 33, 48))
