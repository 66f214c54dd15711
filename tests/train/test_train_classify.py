"""Training a classifier: it learns, resumes exactly, fades into groups, and starts a segmentation network."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from cuts import StopAfter
from lightning.pytorch.callbacks import Callback
from PIL import Image
from safetensors import safe_open

import kerbseg.models as models
from kerbseg.cli import main
from kerbseg.core.errors import DataError, KerbsegError, RecipeError
from kerbseg.train.initial import CLASSIFIER_KEY, load_initial_weights
from kerbseg.train.recipe_file import read, read_any
from kerbseg.train.run import train

TINY = ("epochs=3", "batch_size=4", "data.size=32", "optim={name: adam, lr: 2e-3}", "schedule={name: constant}")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two classes that differ in color, of pictures that differ in size."""
    random = np.random.default_rng(0)
    for split, count in (("train", 6), ("val", 2)):
        for name, color in (("blue", (30, 30, 220)), ("red", (220, 30, 30))):
            for i in range(count):
                size = (40 + 3 * i, 60 - 4 * i, 3)
                pixels = (np.array(color) + random.integers(-30, 30, size)).clip(0, 255).astype(np.uint8)
                path = tmp_path / "pictures" / split / name / f"{i}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels).save(path)
    return tmp_path / "pictures"


def tiny(*more: str, name: str = "imagenet/erfnet_encoder"):
    return read_any(name, [*TINY, *more])


def test_it_learns_and_leaves_every_file(root, tmp_path):
    # long enough for the running statistics of batch-norm, else it depends on the processor's rounding
    more = ("epochs=40", "batch_size=6", "optim.lr=1e-3", "schedule.name=cosine", "validate_every=8")
    best = train(tiny(*more), tmp_path / "run", data_root=root, device="cpu")
    assert best == tmp_path / "run" / "best.safetensors"
    for name in ("recipe.yaml", "metrics.csv", "last.ckpt", "best.safetensors", "last.safetensors"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert float(rows[-1]["loss"]) < 0.5 * float(rows[0]["loss"])
    with safe_open(best, framework="pt") as file:
        card = json.loads(file.metadata()[CLASSIFIER_KEY])
    assert card["classes"] == ["blue", "red"]
    assert card["scores"]["accuracy"] == max(float(row["val_accuracy"]) for row in rows if row["val_accuracy"])
    assert card["scores"]["accuracy"] == 1


def test_a_run_cut_off_ends_with_the_same_weights(root, tmp_path):
    more = ("optim.weight_decay=0.1", "optim.weight_decay_until=1")
    more += ("schedule={name: plateau, watch: loss, factor: 0.1, patience: 1}", "ema=0.5")
    train(tiny(*more), tmp_path / "whole", data_root=root, device="cpu")
    with pytest.raises(InterruptedError):
        train(tiny(*more), tmp_path / "cut", data_root=root, device="cpu", callbacks=[StopAfter(2)])
    train(tiny(*more), tmp_path / "cut", data_root=root, device="cpu", resume=True)
    whole, cut = (safetensors.torch.load_file(tmp_path / run / "last.safetensors") for run in ("whole", "cut"))
    assert whole.keys() == cut.keys()
    assert all(torch.equal(whole[key], cut[key]) for key in whole)


def test_weight_decay_ends_when_the_recipe_says(root, tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, index):
            seen.append(trainer.optimizers[0].param_groups[0]["weight_decay"])

    recipe = tiny("optim.weight_decay=0.1", "optim.weight_decay_until=2")
    train(recipe, tmp_path / "run", data_root=root, device="cpu", callbacks=[Watch()])
    assert seen == [0.1] * 6 + [0.0] * 3


def test_the_rate_is_lowered_when_the_loss_stagnates(root, tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_epoch_start(self, trainer, task):
            seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    # a rate of nearly nothing, so that the loss cannot become better by the rule's threshold
    more = ("epochs=6", "optim.lr=1e-12", "schedule={name: plateau, watch: loss, factor: 0.5, patience: 1}")
    train(tiny(*more), tmp_path / "run", data_root=root, device="cpu", callbacks=[Watch()])
    assert seen[0] == 1e-12
    assert seen[-1] < 1e-12


def test_gradual_grouping_of_a_classifier_starts_the_grouped_network(root, tmp_path):
    recipe = tiny("grouping.until=0.5", "epochs=2", name="imagenet/erfnet_dg2_encoder")
    best = train(recipe, tmp_path / "run", data_root=root, device="cpu")
    net = models.create_model("erfnet_dg2_light", 5)
    load_initial_weights(net, best, "encoder.")
    state = safetensors.torch.load_file(best)
    assert torch.equal(net.encoder[8].pointwise1.weight, state["encoder.8.pointwise1.weight"])
    with pytest.raises(KerbsegError, match="the network needs"):
        load_initial_weights(models.create_model("erfnet_dg4_light", 5), best, "encoder.")


def test_a_classifier_is_no_recipe_of_segmentation():
    with pytest.raises(RecipeError, match="segments nothing"):
        read("imagenet/erfnet_encoder")
    with pytest.raises(RecipeError, match="did you mean 'smoothing'"):
        read_any("imagenet/erfnet_encoder", ["smothing=0.1"])


@pytest.mark.parametrize(
    ("more", "error", "says"),
    [
        (["model.name=erfnet"], KerbsegError, "did you mean 'erfnet_encoder"),
        (["model.options={width: 2}"], KerbsegError, "width"),
        (["data.train=training"], DataError, "training does not exist"),
        (["batch_size=13", "drop_last=true"], DataError, "12 training pictures are fewer"),
    ],
)
def test_what_cannot_be_is_named(more, error, says, root, tmp_path):
    with pytest.raises(error, match=says):
        train(tiny(*more), tmp_path / "run", data_root=root, device="cpu")
    assert not (tmp_path / "run").exists()


def test_the_command_trains_it(root, tmp_path, capsys):
    out = tmp_path / "run"
    arguments = ["imagenet/erfnet_encoder", *TINY, "epochs=1", "--data-root", str(root), "--out", str(out)]
    main(["train", *arguments, "--device", "cpu"])
    assert f"classifier: {out / 'best.safetensors'}" in capsys.readouterr().out.replace("\n", "")
