"""Gradual grouping in training: what comes out is the grouped network; a part that stands still; exact resume."""

import csv
from pathlib import Path

import pytest
import safetensors.torch
import torch
from cuts import StopAfter
from lightning.pytorch.callbacks import Callback

from kerbseg.bundle import load
from kerbseg.compress.convolutions import convolutions
from kerbseg.core.errors import KerbsegError, RecipeError
from kerbseg.data import open_dataset
from kerbseg.data.loading import Resized
from kerbseg.evaluate import evaluate
from kerbseg.models import create_model
from kerbseg.runtime.torch import TorchRuntime
from kerbseg.train.builders import alpha_of
from kerbseg.train.fit import fit
from kerbseg.train.recipe_file import read

TINY = (
    "epochs=4",
    "batch_size=2",
    "data.size=[64, 128]",
    "data.limit=6",
    "model.options={dropout: 0.1, grouped: {groups: 4}}",
    "grouping={until: 0.5}",
    "ema=0.9",
    "validate_every=1",
    "augment={flip: 0.5}",
)


class Watch(Callback):
    """What the network is at the end of each training step."""

    def __init__(self, look) -> None:
        self.look, self.seen = look, []

    def on_train_batch_end(self, trainer, task, outputs, batch, index):
        self.seen.append(self.look(trainer, task))


def tiny(*more: str):
    return read("smoke/scenes", [*TINY, *more])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def faded(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "faded"
    fit(tiny(), run, device="cpu")
    return run


def test_what_comes_out_is_the_grouped_network(faded):
    for name in ("best.safetensors", "last.safetensors"):
        bundle = load(faded / name)  # strict
        groups = {conv.groups for each, conv in convolutions(bundle.model) if each.endswith("pointwise")}
        assert groups == {4}
        assert sum(p.numel() for p in bundle.model.parameters()) < 0.7 * sum(
            p.numel() for p in create_model("mininet_v2_cpu").parameters()
        )
    assert bundle.card.recipe["grouping"]["until"] == 0.5


def test_only_epochs_with_alpha_zero_can_be_the_best(faded):
    epochs = rows(faded)
    assert [float(row["alpha"]) for row in epochs] == [1.0, 0.5, 0.0, 0.0]
    fully_grouped = {row["epoch"]: float(row["val_miou"]) for row in epochs[2:]}
    card = load(faded / "best.safetensors").card
    assert card.scores["epoch"] == int(max(fully_grouped, key=fully_grouped.get))
    assert card.scores["miou"] == max(fully_grouped.values())


def test_the_bundle_scores_what_the_faded_network_scored(faded):
    bundle = load(faded / "last.safetensors")
    report = evaluate(TorchRuntime(bundle), Resized(open_dataset("scenes", "val"), (64, 128)), limit=6)
    assert report.metrics.miou == pytest.approx(float(rows(faded)[-1]["val_miou"]), abs=1e-6)


@pytest.mark.parametrize(
    ("stop", "more"),
    [
        (1, ()),
        pytest.param(3, (), marks=pytest.mark.slow),
        pytest.param(1, ("grouping.by=step", "grouping.schedule=cosine", "ema=null"), marks=pytest.mark.slow),
    ],
)
def test_a_run_cut_off_in_mid_fade_ends_with_the_same_weights(tmp_path, faded, stop, more):
    whole = faded
    if more:
        whole = tmp_path / "whole"
        fit(tiny(*more), whole, device="cpu")
    run = tmp_path / "run"
    with pytest.raises(InterruptedError):
        fit(tiny(*more), run, device="cpu", callbacks=[StopAfter(stop)])
    assert (run / "best.safetensors").exists() == (stop == 3)
    fit(tiny(*more), run, device="cpu", resume=True)
    for name in ("best.safetensors", "last.safetensors"):
        resumed, expected = weights(run / name), weights(whole / name)
        assert resumed.keys() == expected.keys()
        for key in expected:
            assert torch.equal(resumed[key], expected[key]), (name, key)
    assert [row["alpha"] for row in rows(run)] == [row["alpha"] for row in rows(whole)]


def test_alpha_follows_the_epoch_or_the_step():
    alpha = alpha_of(tiny("epochs=10"), 100)
    assert [alpha(epoch, 0) for epoch in range(10)] == pytest.approx([1, 0.8, 0.6, 0.4, 0.2, 0, 0, 0, 0, 0])
    assert alpha(1, 100) == alpha(1, 199)
    alpha = alpha_of(tiny("epochs=10", "grouping.by=step"), 100)
    assert [alpha(-1, step) for step in (0, 125, 250, 499, 500, 999)] == pytest.approx([1, 0.75, 0.5, 0.002, 0, 0])
    assert alpha_of(tiny("grouping=null"), 100)(0, 0) == 0


def test_a_fade_that_leaves_nothing_to_choose_from_is_refused(tmp_path):
    with pytest.raises(RecipeError, match="leaves no validation with alpha 0"):
        fit(tiny("grouping.until=0.9", "validate_every=3"), tmp_path / "run", device="cpu")


def test_a_network_without_groups_is_refused(tmp_path):
    with pytest.raises(KerbsegError, match="take a grouped variant"):
        fit(tiny("model.options={}"), tmp_path / "run", device="cpu")


def test_a_dense_network_can_be_faded(tmp_path):
    dense = fit(tiny("model.options={}", "grouping=null", "epochs=1", "ema=null"), tmp_path / "dense", device="cpu")
    pointwise = [name for name, _ in convolutions(dense.model) if name.endswith("pointwise")]
    seen = Watch(lambda trainer, task: None)

    def keep(trainer, task):
        seen.first = {key: value.clone() for key, value in task.net.state_dict().items()}

    seen.on_train_start = keep
    fit(
        tiny("epochs=2", "ema=null"),
        tmp_path / "faded",
        device="cpu",
        initial=tmp_path / "dense" / "best.safetensors",
        callbacks=[seen],
    )
    assert pointwise
    for name in pointwise:
        given = dense.model.get_submodule(name).weight
        assert torch.equal(seen.first[f"{name}.parametrizations.weight.original"], given)


def test_only_selected_convolutions_begin_dense(tmp_path):
    kept = {}

    class Look(Callback):
        def on_train_start(self, trainer, task):
            kept.update(task.net.state_dict())

    fit(tiny("grouping.select=['features.*']", "epochs=2"), tmp_path / "run", device="cpu", callbacks=[Look()])
    dense = [key for key in kept if key.endswith("parametrizations.weight.original")]
    assert dense
    assert all(key.startswith("features.") for key in dense)


PARTS = ("grouping=null", "ema=null", "optim.weight_decay=0", "schedule={name: constant}")


@pytest.mark.parametrize("frozen", [True, False])
def test_a_part_stands_still_at_first_and_moves_then(tmp_path, frozen):
    def look(trainer, task):
        state = task.net.state_dict()
        lrs = [group["lr"] for group in trainer.optimizers[0].param_groups]
        still = {key: value.clone() for key, value in state.items() if key.startswith("features.")}
        return lrs, still, state["output.weight"].clone()

    watch = Watch(look)
    part = f"{{prefix: features., lr: 5e-20, until: 2, freeze_norm: {str(frozen).lower()}}}"
    recipe = tiny(*PARTS, "epochs=3", "optim.lr=5e-4", f"optim.groups=[{part}]")
    fit(recipe, tmp_path / "run", device="cpu", callbacks=[watch])
    assert len(watch.seen) == 9  # three steps an epoch; the schedule has moved on when a step has ended
    assert [lrs for lrs, *_ in watch.seen] == [[5e-4, pytest.approx(5e-20)]] * 5 + [[5e-4, 5e-4]] * 4
    first, end, last = (watch.seen[index][1] for index in (0, 5, 8))
    for key, value in first.items():
        moves = key.endswith(("running_mean", "running_var", "num_batches_tracked")) and not frozen
        assert torch.allclose(value.double(), end[key].double(), rtol=0, atol=1e-15) != moves, key
        assert not torch.equal(end[key], last[key]), key
    assert not torch.equal(watch.seen[0][2], watch.seen[1][2]), "the rest stands still too"


def test_a_part_that_does_not_exist_is_named(tmp_path):
    with pytest.raises(RecipeError, match=r"'encodr.'; this network has downsample\., features\."):
        fit(tiny("optim.groups=[{prefix: encodr., lr: 1e-4}]"), tmp_path / "run", device="cpu")
