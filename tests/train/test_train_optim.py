"""Schedules and averages against the formulas of their papers."""

import math
from types import SimpleNamespace

import lightning as L
import pytest
import torch

from kerbseg.train.callbacks import AveragedWeights
from kerbseg.train.optim import movement, optimizer, schedule, takes_fused
from kerbseg.train.recipe_file import read
from kerbseg.train.recipe_optim import Adam, AdamW, Constant, Cosine, Exponential, OneCycle, Plateau, Poly, Sgd, Step


def test_poly_is_the_papers_formula():
    share = schedule(Poly(power=0.9), epochs=10, steps_per_epoch=7)
    assert [share(step) for step in (0, 35, 69)] == pytest.approx([1, 0.5**0.9, (1 / 70) ** 0.9])


def test_warmup_grows_to_the_full_rate_and_the_rest_follows_it():
    share = schedule(Cosine(warmup=2), epochs=10, steps_per_epoch=5)
    assert [share(step) < share(step + 1) for step in range(9)] == [True] * 9
    assert share(0) == pytest.approx(1 / 11)  # of ten steps and the first at the full rate
    assert share(10) == pytest.approx(1)
    assert share(30) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


def test_warmup_begins_with_its_first_share_and_grows_by_it():
    # Goyal et al. (2017), sec. 2.2: by equal steps, and never from 0, where a step would be lost
    share = schedule(Constant(warmup=2), epochs=10, steps_per_epoch=5)
    assert [share(step) for step in range(12)] == pytest.approx([n / 11 for n in range(1, 12)] + [1])


def test_warmup_from_a_given_share_is_a_line_from_there():
    # PaddleSeg: 1e-5 + (lr - 1e-5) i / n at step i of n, then the poly rule over the other steps
    share = schedule(Poly(power=0.9, warmup=2, warmup_from=0.002), epochs=10, steps_per_epoch=5)
    assert [share(step) for step in (0, 5, 9)] == pytest.approx([0.002, 0.501, 0.002 + 0.998 * 0.9])
    assert [share(step) for step in (10, 30)] == pytest.approx([1, 0.5**0.9])


def test_a_late_schedule_gives_each_step_the_rate_of_the_one_before():
    share = schedule(Poly(power=0.9, late=True), epochs=10, steps_per_epoch=7)
    plain = schedule(Poly(power=0.9), epochs=10, steps_per_epoch=7)
    assert [share(step) for step in range(70)] == [plain(max(0, step - 1)) for step in range(70)]


@pytest.mark.parametrize(
    ("kinds", "spared"),
    [
        (("depthwise",), {"1.weight"}),
        (("norm",), {"2.weight"}),
        (("bias",), {"0.bias", "1.bias", "2.bias"}),
        (("depthwise", "bias", "norm"), {"1.weight", "2.weight", "0.bias", "1.bias", "2.bias"}),
    ],
)
def test_kinds_of_weights_have_no_decay(kinds, spared):
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 8, 3, groups=4), torch.nn.BatchNorm2d(8))
    recipe = read("smoke/scenes", [f"optim={{name: sgd, lr: 1.0, weight_decay: 0.1, no_decay: {list(kinds)}}}"])
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    moves = movement(recipe, net, 5)
    groups = moves.optimizer().param_groups
    assert len(groups) == len(moves.schedules) == 2
    assert {names[id(each)] for group in groups for each in group["params"]} == set(names.values())
    assert {names[id(each)] for group in groups if not group["weight_decay"] for each in group["params"]} == spared


def test_parts_with_rates_of_their_own_keep_them_without_decay():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 4, 1), torch.nn.Conv2d(4, 8, 3))
    settings = "{name: sgd, lr: 1.0, weight_decay: 0.1, no_decay: [bias], groups: [{prefix: '1.', lr: 0.25}]}"
    moves = movement(read("smoke/scenes", [f"optim={settings}", "schedule={name: constant}"]), net, 5)
    shown = [
        ([tuple(each.shape) for each in group["params"]], group["weight_decay"], share(0))
        for group, share in zip(moves.optimizer().param_groups, moves.schedules, strict=True)
    ]
    assert shown == [
        ([(4, 3, 1, 1)], 0.1, 1.0),
        ([(8, 4, 3, 3)], 0.1, 0.25),
        ([(4,)], 0.0, 1.0),
        ([(8,)], 0.0, 0.25),
    ]


def test_step_falls_at_the_milestones_only():
    share = schedule(Step(milestones=(2, 4), factor=0.1), epochs=6, steps_per_epoch=3)
    assert [share(step) for step in (0, 5, 6, 11, 12, 17)] == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01])


def test_one_cycle_climbs_then_falls_to_its_floor():
    share = schedule(OneCycle(pct_start=0.25, min_lr_ratio=0.01), epochs=4, steps_per_epoch=25)
    values = [share(step) for step in range(101)]
    assert max(values) == pytest.approx(values[25]) == pytest.approx(1)
    assert values[0] == pytest.approx(0.04)
    assert values[100] == pytest.approx(0.01)


@pytest.mark.parametrize(
    ("settings", "more"),
    [
        (Adam(lr=0.5, weight_decay=0.25, betas=(0.8, 0.9)), {"betas": (0.8, 0.9)}),
        (AdamW(lr=0.5, weight_decay=0.25, betas=(0.8, 0.9)), {"betas": (0.8, 0.9)}),
        (Sgd(lr=0.5, weight_decay=0.25, momentum=0.7, nesterov=True), {"momentum": 0.7, "nesterov": True}),
    ],
    ids=lambda value: getattr(value, "name", None),
)
def test_an_optimizer_takes_every_setting_of_its_section(settings, more):
    made = optimizer([torch.nn.Parameter(torch.ones(1))], settings)
    assert type(made).__name__.lower() == settings.name
    expected = {"lr": 0.5, "weight_decay": 0.25, **more}
    assert {key: made.param_groups[0][key] for key in expected} == expected


def test_a_held_rate_changes_every_so_many_epochs_only():
    share = schedule(Poly(power=0.9, hold=5), epochs=20, steps_per_epoch=3)
    assert [share(step) for step in (0, 14, 15, 29, 30, 59)] == pytest.approx(
        [1, 1, 0.75**0.9, 0.75**0.9, 0.5**0.9, 0.25**0.9]
    )


def test_exponential_falls_by_the_epoch_after_a_while():
    share = schedule(Exponential(factor=0.95, after=15), epochs=90, steps_per_epoch=2)
    assert [share(step) for step in (0, 31, 32, 33, 34, 179)] == pytest.approx([1, 1, 0.95, 0.95, 0.95**2, 0.95**74])


def averaged(decay: float, weights: list[float]) -> float:
    """What is left of weights that an optimizer has reached one after another."""
    task = L.LightningModule()
    task.weight = torch.nn.Parameter(torch.zeros(1))
    average = AveragedWeights(decay)
    average.setup(SimpleNamespace(), task, "fit")
    for step, weight in enumerate(weights, 1):
        task.weight.data.fill_(weight)
        average.on_train_batch_end(SimpleNamespace(global_step=step), task, None, None, step - 1)
    average.on_train_end(SimpleNamespace(), task)
    return float(task.weight.detach())


def test_a_young_average_forgets_quickly():
    # the decay is min(decay, (1 + n) / (10 + n)), TensorFlow's ExponentialMovingAverage with num_updates; the first
    # weights are taken as they are
    assert averaged(0.999, [5.0]) == pytest.approx(5)
    assert averaged(0.999, [5.0, 16.0]) == pytest.approx((2 * 5 + 9 * 16) / 11)
    assert averaged(0.999, [5.0, 16.0, 2.0]) == pytest.approx((3 * 14 + 9 * 2) / 12)


def test_an_old_average_has_the_decay_asked_for():
    # (1 + n) / (10 + n) is 0.5 from the eighth update on
    assert averaged(0.5, [3.0] * 20 + [7.0]) == pytest.approx(0.5 * 3 + 0.5 * 7)
    assert averaged(0.5, [3.0] * 8 + [7.0]) == pytest.approx(5)
    assert averaged(0.5, [3.0] * 7 + [7.0]) == pytest.approx((8 * 3 + 9 * 7) / 17)


@pytest.mark.parametrize(
    "settings",
    [
        Constant(),
        Plateau(),
        Step(milestones=(2, 4)),
        Exponential(factor=0.9, hold=5, after=2),
        Poly(hold=5),
        Poly(hold=7, power=3.0),
        Cosine(hold=5),
        OneCycle(hold=5),
        OneCycle(hold=3, pct_start=0.9),
    ],
    ids=lambda settings: f"{settings.name} {getattr(settings, 'hold', None)}",
)
@pytest.mark.parametrize("warmup", [0.0, 2.0, 2.5, 8.0, 30.0])
def test_no_schedule_ever_exceeds_the_full_rate(settings, warmup):
    share = schedule(type(settings)(**{**vars(settings), "warmup": warmup}), epochs=20, steps_per_epoch=3)
    assert all(0 <= share(step) <= 1 for step in range(60))


@pytest.mark.parametrize("name", ["adam", "adamw", "sgd"])
def test_one_kernel_moves_the_weights_as_many_do(name):
    settings = {"adam": Adam(), "adamw": AdamW(), "sgd": Sgd()}[name]
    torch.manual_seed(0)
    first, gradients = torch.randn(3, 5), torch.randn(4, 3, 5)
    moved = []
    for fused in (False, True):
        weight = torch.nn.Parameter(first.clone())
        made = optimizer([weight], settings, fused)
        assert bool(made.param_groups[0]["fused"]) == fused
        for gradient in gradients:
            weight.grad = gradient.clone()
            made.step()
        moved.append(weight.detach())
    assert not torch.equal(moved[0], first)
    torch.testing.assert_close(moved[0], moved[1])


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], True),
        (["optim.clip=1.0"], True),
        (["precision=bfloat16"], True),
        (["precision=bfloat16", "optim.clip=1.0"], False),  # lightning refuses to clip there
        (["precision=float16"], False),
    ],
)
def test_one_kernel_is_taken_where_lightning_lets_it(overrides, expected):
    assert takes_fused(read("smoke/scenes", overrides)) is expected


def test_averages_follow_statistics_and_copy_counters():
    task = L.LightningModule()
    task.norm = torch.nn.BatchNorm2d(2)
    average = AveragedWeights(0.5)
    average.setup(SimpleNamespace(), task, "fit")
    for step, value in enumerate((1.0, 3.0), 1):
        task.norm.running_mean.fill_(value)
        task.norm.num_batches_tracked.fill_(step)
        average.on_train_batch_end(SimpleNamespace(global_step=step), task, None, None, step - 1)
    average.on_train_end(SimpleNamespace(), task)
    assert task.norm.running_mean.tolist() == pytest.approx([1 + 2 * (1 - 2 / 11)] * 2)
    assert int(task.norm.num_batches_tracked) == 2
