"""The whole story on drawn street scenes, nothing downloaded: train, evaluate, export, quantize, time, predict."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import torch
from PIL import Image

import kerbseg.models as models
from kerbseg.apps.deployment import Say, deploy, heading
from kerbseg.apps.evaluation_table import render_table
from kerbseg.apps.report import SHEET, Shipped, Trained, page, scenes, sheet
from kerbseg.bundle import random_bundle
from kerbseg.core.console import SafeConsole
from kerbseg.core.errors import KerbsegError
from kerbseg.core.files import atomic_write, check_writable
from kerbseg.core.text import counted
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.data.doctor import examine_all, render
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import evaluate
from kerbseg.predict.files import predict_files, saving
from kerbseg.predict.predictor import Predictor
from kerbseg.profiling.latency import timed
from kerbseg.runtime.torch import TorchRuntime
from kerbseg.train.recipe import Recipe
from kerbseg.train.recipe_file import read

RECIPE = "smoke/scenes"
SHIPPED = "mininet_v2_cpu-camvid"
MINUTES = (0.25, 24 * 60)
SHIPPED_SCENE = 3  # of the test split: cars, a cyclist, houses and a crossing


def run(out: Path, minutes: float) -> Path:
    """Runs the demo and returns the path of its report. Raises KerbsegError for less than a quarter of a minute."""
    if not MINUTES[0] <= minutes <= MINUTES[1]:  # nor is NaN
        raise KerbsegError("minutes is {:g}; training takes {:g} to {:g}".format(minutes, *MINUTES))
    check_writable(out / "report.html")
    start, say, load = time.monotonic(), SafeConsole().print, os.getloadavg()[0]
    splits = {split: open_dataset(read(RECIPE).data.name, split) for split in ("train", "val", "test")}
    trained = _trained(out, minutes, splits, say)
    best = trained.folder / "best.safetensors"
    deployment = deploy(best, out / "exported", splits["train"], splits["val"], say)
    shipped = _shipped(out, say)

    say(heading("8. The report"))
    with atomic_write(out / "unseen.png") as temporary:
        sheet(scenes(trained.bundle, splits["test"], SHEET)).save(temporary, optimize=True)
    text = page(trained, splits, deployment, shipped, (time.monotonic() - start) / 60, load)
    with atomic_write(out / "report.html") as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"the whole demo took {(time.monotonic() - start) / 60:.1f} minutes")
    return out / "report.html"


def _trained(out: Path, minutes: float, splits: Mapping[str, Dataset], say: Say) -> Trained:
    """Looks at the data, trains, and evaluates the network before and after on scenes that it has never seen."""
    from kerbseg.train.fit import fit

    recipe = read(RECIPE)
    say(heading("1. The data", ": street scenes, drawn now"))
    say(render(examine_all(recipe.data.name, splits=["test"])))

    recipe = fitted_to(minutes, recipe, len(splits["train"]))
    folder = unused(out / "run")
    say(heading("2. The training", f": {counted(recipe.epochs, 'epoch')}, about {minutes:g} minutes, into {folder}"))
    start = time.monotonic()
    bundle = fit(recipe, folder, device="cpu")
    seconds = time.monotonic() - start

    say(heading("3. Before and after", ", on scenes it has never seen"))
    card = bundle.card
    untrained = replace(random_bundle(card.model, card.labels, options=card.options, seed=recipe.seed), card=card)
    before = evaluate(TorchRuntime(untrained), splits["test"])
    sink = saving(out / "predictions", bundle.card.labels)
    after = evaluate(TorchRuntime(bundle), splits["test"], on_prediction=sink)
    say(render_table(after))
    say(f"mIoU before training {before.metrics.miou:.4f}, after {after.metrics.miou:.4f}")
    return Trained(bundle, folder, recipe.epochs, seconds, before, after)


def _shipped(out: Path, say: Say) -> Shipped:
    """Draws a scene as large as the shipped weights were trained at, and predicts it by their name."""
    predictor = Predictor(SHIPPED)
    height, width = predictor.runtime.card.input_size
    scene = Scenes("test", size=(height, width))[SHIPPED_SCENE]
    street, predictions = out / "street.png", out / "predictions" / "shipped"
    with atomic_write(street) as temporary:
        Image.fromarray(scene.image).save(temporary)
    predict_files(predictor, [street], predictions)
    say(heading("7. Weights that come with kerbseg", f": {SHIPPED} on {street}, into {predictions}"))
    return Shipped(SHIPPED, predictor, street, predictions)


def fitted_to(minutes: float, recipe: Recipe, pictures: int) -> Recipe:
    """The recipe with as many epochs as this machine trains in that time, measured on a few steps."""
    per_epoch = pictures // recipe.batch_size
    stretches = [(z.until, z.crop) for z in recipe.augment.progressive] or [(1.0, recipe.augment.crop or (256, 512))]
    share_before = [0.0, *(until for until, _ in stretches)]
    mean_step = sum(
        (until - since) * step_seconds(recipe, crop)
        for (until, crop), since in zip(stretches, share_before, strict=False)
    )
    epochs = max(2, int(minutes * 60 / (mean_step * per_epoch)))
    return read(RECIPE, [f"epochs={epochs}", f"validate_every={max(1, epochs // 6)}"])


def step_seconds(recipe: Recipe, crop: tuple[int, int]) -> float:
    """Time of one training step at this size, the faster of two after a warm-up."""
    net = models.channels_last(models.create_model(recipe.model.name, **recipe.model.options))
    picture = torch.rand(recipe.batch_size, 3, *crop).contiguous(memory_format=torch.channels_last)
    step = timed(lambda: net(picture).logsumexp(1).mean().backward())
    return 1.3 * min(step(3)[1:])  # augmentation, optimizer and validation take the rest


def unused(folder: Path) -> Path:
    """The folder, or the same with the first number that is free: an earlier demo is not overwritten."""
    number = 2
    candidate = folder
    while candidate.exists():
        candidate = folder.with_name(f"{folder.name}{number}")
        number += 1
    return candidate
