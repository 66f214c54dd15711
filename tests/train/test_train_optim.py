"""Schedules against the formulas of the papers."""

import math

import pytest
import torch

from kerbseg.train.optim import optimizer, schedule
from kerbseg.train.recipe import Optimizer, Schedule


def test_poly_is_the_papers_formula():
    share = schedule(Schedule(name="poly", power=0.9), epochs=10, steps_per_epoch=7)
    assert [share(step) for step in (0, 35, 69)] == pytest.approx([1, 0.5**0.9, (1 / 70) ** 0.9])


def test_warmup_grows_to_the_full_rate_and_the_rest_follows_it():
    share = schedule(Schedule(name="cosine", warmup=2), epochs=10, steps_per_epoch=5)
    assert [share(step) < share(step + 1) for step in range(9)] == [True] * 9
    assert share(10) == pytest.approx(1)
    assert share(30) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_step_falls_at_the_milestones_only():
    share = schedule(Schedule(name="step", milestones=(2, 4), factor=0.1), epochs=6, steps_per_epoch=3)
    assert [share(step) for step in (0, 5, 6, 11, 12, 17)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_climbs_then_falls_to_its_floor():
    share = schedule(Schedule(name="one_cycle", pct_start=0.25, min_lr_ratio=0.01), epochs=4, steps_per_epoch=25)
    values = [share(step) for step in range(101)]
    assert max(values) == pytest.approx(values[25]) == pytest.approx(1)
    assert values[0] == pytest.approx(0.04)
    assert values[100] == pytest.approx(0.01)


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_an_optimiser_takes_every_setting_of_its_section(name):
    settings = Optimizer(name=name, lr=0.5, weight_decay=0.25, momentum=0.7, nesterov=True, betas=(0.8, 0.9))
    group = optimizer([torch.nn.Parameter(torch.ones(1))], settings).param_groups[0]
    assert group["lr"] == 0.5
    assert group["weight_decay"] == 0.25
    if name == "sgd":
        assert (group["momentum"], group["nesterov"]) == (0.7, True)
    else:
        assert group["betas"] == (0.8, 0.9)


def test_a_held_rate_changes_every_so_many_epochs_only():
    share = schedule(Schedule(name="poly", power=0.9, hold=5), epochs=20, steps_per_epoch=3)
    assert [share(step) for step in (0, 14, 15, 29, 30, 59)] == pytest.approx(
        [1, 1, 0.75**0.9, 0.75**0.9, 0.5**0.9, 0.25**0.9]
    )


def test_exponential_falls_by_the_epoch_after_a_while():
    share = schedule(Schedule(name="exponential", factor=0.95, after=15), epochs=90, steps_per_epoch=2)
    assert [share(step) for step in (0, 31, 32, 33, 34, 179)] == pytest.approx([1, 1, 0.95, 0.95, 0.95**2, 0.95**74])
