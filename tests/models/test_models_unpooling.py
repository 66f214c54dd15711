"""All forms of unpooling are one operation."""

import copy

import pytest
import torch

import kerbseg.models as models
from kerbseg.models._unpooling import ByIndex, ByShuffles, BySlices, use_shuffles, use_slices


@pytest.mark.parametrize("size", [(8, 12), (7, 12), (8, 11), (7, 11)])
def test_pooled_and_brought_back_alike(size):
    x = torch.randint(-3, 4, (2, 3, *size)).float()  # with many equal neighbours
    results = []
    for form in (ByIndex(), BySlices(), ByShuffles()):
        pooled, where = form.pool(x)
        results.append((pooled, form.unpool(pooled + 10, where, size)))
    for same in zip(*results, strict=True):
        assert all(torch.equal(same[0], other) for other in same[1:])


def test_shuffles_tell_the_smallest_numbers_apart():
    x = torch.tensor([[[[0.0, 1e-37], [2e-37, 1.5e-37]]]])
    pooled, where = ByShuffles().pool(x)
    assert torch.equal(where.flatten(), torch.tensor([0.0, 0, 1, 0]))
    assert pooled.item() == x.max()


@pytest.mark.parametrize("name", ["enet", "segnet_basic"])
def test_networks_score_alike(name):
    net = models.create_model(name).eval()
    picture = torch.rand(1, 3, 64, 96)
    changed = copy.deepcopy(net)
    for use in (use_slices, use_shuffles, use_slices):  # from any form to any other
        use(changed)
        assert not any(isinstance(module, ByIndex) for module in changed.modules())
        with torch.no_grad():
            assert torch.equal(net(picture), changed(picture))
