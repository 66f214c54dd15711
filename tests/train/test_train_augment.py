"""A recipe's augment section does what its keys say: each reaches the change that it names."""

from dataclasses import fields

import pytest
import torch

from kerbseg.data.augment import Color, Geometry
from kerbseg.train.builders import augmentation
from kerbseg.train.recipe import Augment


def test_a_recipe_can_ask_for_every_change_of_colors():
    assert {field.name for field in fields(Augment)} >= {field.name for field in fields(Color)} - {"rank"}


@pytest.mark.parametrize("name", ["gamma", "channel_balance", "gray", "blur", "noise"])
@pytest.mark.parametrize("probability", [1.0, 0.4])
def test_strength_and_probability_reach_the_change(name, probability):
    draw = torch.Generator().manual_seed(0)
    pictures = torch.randint(0, 256, (12, 3, 16, 24), generator=draw, dtype=torch.uint8)
    mask = torch.zeros(12, 16, 24, dtype=torch.uint8)
    settings = {name: 0.7, f"{name}_p": probability}
    torch.manual_seed(1)
    changed = augmentation(Augment(**settings), epochs=1)({"image": pictures, "mask": mask, "name": []}, 0).image
    torch.manual_seed(1)
    image, _ = Geometry()(pictures / 255, mask, (16, 24))  # which draws first
    assert torch.equal(changed, Color(**settings)(image))
    assert not torch.equal(changed, image)
