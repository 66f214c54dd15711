"""Outlines: networks of shapes alone."""

import pytest
import torch

import kerbseg.models as models
from kerbseg.core.outline import outlines


@pytest.mark.parametrize("name", models.list_models())
def test_an_outline_has_all_parameters_and_draws_nothing(name):
    before = torch.random.get_rng_state()
    with outlines():
        net = models.create_model(name)
    assert torch.equal(torch.random.get_rng_state(), before)
    assert all(tensor.is_meta for tensor in net.state_dict().values())
    assert sum(parameter.numel() for parameter in net.parameters()) == models.card(name).parameters


def test_outside_of_outlines_weights_are_drawn():
    with outlines():
        pass
    torch.manual_seed(0)
    assert torch.nn.Conv2d(3, 8, 3).weight.std() > 0.01
