"""Both forms of unpooling are one operation."""

import copy

import pytest
import torch

import kerbseg.models as models
from kerbseg.models._unpooling import ByIndex, BySlices, use_slices


@pytest.mark.parametrize("size", [(8, 12), (7, 12), (8, 11), (7, 11)])
def test_pooled_and_brought_back_alike(size):
    x = torch.randint(-3, 4, (2, 3, *size)).float()  # with many equal neighbours
    results = []
    for form in (ByIndex(), BySlices()):
        pooled, where = form.pool(x)
        results.append((pooled, form.unpool(pooled + 10, where, size)))
    for one, other in zip(*results, strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("name", ["enet", "segnet_basic"])
def test_networks_score_alike(name):
    net = models.create_model(name).eval()
    sliced = copy.deepcopy(net)
    use_slices(sliced)
    assert not any(isinstance(module, ByIndex) for module in sliced.modules())
    picture = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        assert torch.equal(net(picture), sliced(picture))
