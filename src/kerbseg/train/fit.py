"""`fit(recipe)`: data, network, optimiser and callbacks of a recipe, put together and run."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import lightning as L
import numpy as np
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor, nn

import kerbseg.models as models
from kerbseg.bundle import Bundle, BundleCard, load, load_strictly, save, versions
from kerbseg.core.errors import BundleError, RecipeError, UserError
from kerbseg.core.files import replacing
from kerbseg.core.labels import LabelSet
from kerbseg.core.types import Dataset
from kerbseg.data import open_dataset
from kerbseg.data.augment import Colour, Geometry
from kerbseg.data.loading import Concatenated, InMemory, OnDisk, Resized, training_loader, validation_loader
from kerbseg.data.statistics import enet_weights, median_frequency_weights
from kerbseg.losses import at_scores, cross_entropy
from kerbseg.metrics import Scores
from kerbseg.train.callbacks import AveragedWeights, Bar, Plateau, Results, StepSeed
from kerbseg.train.optim import optimizer, schedule
from kerbseg.train.recipe import Augment, Data, Loss, Recipe
from kerbseg.train.task import Augmentation, Criterion, SegmentationTask

Cache = Literal["auto", "ram", "none"]

_PRECISION = {"float32": "32-true", "bfloat16": "bf16-mixed", "float16": "16-mixed"}


def fit(
    recipe: Recipe,
    run: str | Path,
    *,
    data_root: str | Path | None = None,
    initial: str | Path | None = None,
    resume: bool = False,
    device: Literal["auto", "cpu", "cuda"] = "auto",
    devices: int = 1,
    workers: int = 0,
    cache: Cache = "auto",
    callbacks: Sequence[Callback] = (),
) -> Bundle:
    """Trains as the recipe says and returns the best bundle by validation mIoU.

    Writes into `run`: recipe.yaml, metrics.csv, tensorboard/, last.ckpt (after each epoch), best.safetensors,
    last.safetensors. A run that was cut off goes on with `resume` and ends with the same weights.
    Raises UserError for data, recipes or folders that cannot be used.
    """
    run = Path(run)
    _prepare(run, recipe, resume)
    train = _dataset(recipe.data, recipe.data.train, data_root, cache)
    val = _dataset(recipe.data, (recipe.data.val,), data_root, cache)
    L.seed_everything(recipe.seed, verbose=False)
    facts = models.card(recipe.model.name)
    labels = train.labels
    net = models.create_model(recipe.model.name, len(labels), **recipe.model.options)
    if initial is not None:
        start_from(net, load(initial).model, recipe.model.init, str(initial))
    net = net.to(memory_format=torch.channels_last)
    loader = training_loader(train.batches, recipe.batch_size, recipe.seed, workers)
    task = SegmentationTask(
        net,
        classes=len(labels),
        stride=facts.stride,
        preprocessing=facts.preprocessing,
        augment=augmentation(recipe.augment),
        criterion=criterion(recipe.loss, class_weights(recipe.loss, train)),
        optimizer=lambda module: optimizer(module.parameters(), recipe.optim),
        schedule=schedule(recipe.schedule, recipe.epochs, len(loader)),
    )

    def save_bundle(path: Path, epoch: int, found: Scores) -> None:
        card = BundleCard(
            model=recipe.model.name,
            labels=labels,
            preprocessing=facts.preprocessing,
            input_size=train.size,
            outputs=len(labels),
            options=recipe.model.options,
            recipe=recipe.to_dict(),
            scores={
                "miou": found.miou,
                "class_iou": found.class_iou,
                "epoch": epoch,
                "protocol": {
                    "data": recipe.data.name,
                    "split": recipe.data.val,
                    "label_size": list(val.size),
                    "tta": "none",
                },
            },
            source="trained by kerbseg",
            versions=versions(),
        )
        save(Bundle(net, card), path)

    results = Results(run, labels, save_bundle)
    trainer = L.Trainer(
        max_epochs=recipe.epochs,
        accelerator={"auto": "gpu" if torch.cuda.is_available() else "cpu", "cuda": "gpu", "cpu": "cpu"}[device],
        devices=devices,
        precision=_PRECISION[recipe.precision],  # type: ignore[arg-type]
        gradient_clip_val=recipe.optim.clip,
        check_val_every_n_epoch=recipe.validate_every,
        num_sanity_val_steps=0,
        enable_checkpointing=False,  # ours is written to a temporary name and renamed
        enable_progress_bar=False,
        enable_model_summary=False,
        logger=TensorBoardLogger(run, name="", version="tensorboard"),
        log_every_n_steps=10,
        callbacks=[StepSeed(recipe.seed), results, *_optional(recipe, results), Bar(results), *callbacks],
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*does not have many workers.*")  # batches come from memory
        trainer.fit(
            task,
            loader,
            validation_loader(val.batches, recipe.batch_size, workers),
            ckpt_path=str(run / "last.ckpt") if resume else None,
            weights_only=True,
        )
    if trainer.interrupted:
        raise KeyboardInterrupt
    return load(run / "best.safetensors")


class _Split:
    """A data set made ready: in memory where it fits, and the size of its pictures."""

    def __init__(self, dataset: Dataset, cache: Cache) -> None:
        self.labels: LabelSet = dataset.labels
        first = dataset[0]
        self.size: tuple[int, int] = (first.mask.shape[0], first.mask.shape[1])
        needed = len(dataset) * (first.image.nbytes + first.mask.nbytes)
        fits = needed < 0.25 * _free_memory_bytes()
        self.batches: InMemory | OnDisk = (
            InMemory(dataset) if cache == "ram" or (cache == "auto" and fits) else OnDisk(dataset)
        )

    def counts(self) -> tuple[np.ndarray, int]:
        """Pixels of each class, and of VOID."""
        counts = np.zeros(256, np.int64)
        for start in range(0, len(self.batches), 16):
            indices = list(range(start, min(start + 16, len(self.batches))))
            counts += np.bincount(self.batches.__getitems__(indices)["mask"].numpy().ravel(), minlength=256)
        return counts[: len(self.labels)], int(counts[255])


def _dataset(data: Data, splits: Sequence[str], root: str | Path | None, cache: Cache) -> _Split:
    parts: list[Dataset] = [open_dataset(data.name, split, root) for split in splits]
    if data.size is not None:
        parts = [Resized(part, data.size) for part in parts]
    return _Split(parts[0] if len(parts) == 1 else Concatenated(parts), cache)


def _free_memory_bytes() -> int:
    import os

    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")


def _prepare(run: Path, recipe: Recipe, resume: bool) -> None:
    """Makes the run's folder, or checks that the one to resume is of this recipe."""
    text = yaml.safe_dump(recipe.to_dict(), sort_keys=False)
    written, checkpoint = run / "recipe.yaml", run / "last.ckpt"
    if resume and not checkpoint.is_file():
        raise UserError(f"nothing to resume: {checkpoint} does not exist; start without --resume")
    if resume and written.read_text() != text:
        raise RecipeError(
            f"{written} is another recipe than the one asked for; resume with the same, or choose another --out"
        )
    if checkpoint.is_file() and not resume:
        raise UserError(f"{run} holds a run already; go on with --resume, or choose another --out")
    with replacing(written) as temporary:
        temporary.write_text(text)


def _optional(recipe: Recipe, results: Results) -> list[Callback]:
    """Callbacks that a recipe asks for."""
    wanted: list[Callback] = []
    if recipe.schedule.name == "plateau":
        wanted.append(Plateau(results, recipe.schedule.factor, recipe.schedule.patience))
    if recipe.ema is not None:
        wanted.append(AveragedWeights(recipe.ema))
    return wanted


def start_from(net: nn.Module, source: nn.Module, prefix: str, where: str) -> None:
    """Takes the weights under `prefix` from another network; all of both sides' must fit."""
    state = {key: value for key, value in source.state_dict().items() if key.startswith(prefix)}
    own = net.state_dict()
    kept = {key: value for key, value in own.items() if not key.startswith(prefix)}
    if not state:
        raise BundleError(f"{where} holds no weights under {prefix!r}; is it another network?")
    load_strictly(net, kept | state, where)


def class_weights(loss: Loss, train: _Split) -> Tensor | None:
    """The recipe's class weights. Raises RecipeError if a list is not one value a class."""
    k = len(train.labels)
    if loss.weights == "none":
        return None
    if loss.weights == "list":
        if len(loss.values) != k:
            raise RecipeError(f"loss.values has {len(loss.values)} weights for {k} classes; give one a class")
        return torch.tensor(loss.values)
    counts, void = train.counts()
    if loss.weights == "enet":
        return torch.as_tensor(enet_weights(counts, void, loss.constant), dtype=torch.float32)
    return torch.as_tensor(median_frequency_weights(counts, loss.power), dtype=torch.float32)


def criterion(loss: Loss, weights: Tensor | None) -> Criterion:
    """The recipe's loss of a network on a batch."""

    def compare(net: nn.Module, image: Tensor, mask: Tensor) -> Tensor:
        if loss.at == "scores":
            logits = net.scores(image)
            mask = at_scores(mask, (logits.shape[-2], logits.shape[-1]))
        else:
            logits = net(image)
        on_device = None if weights is None else weights.to(logits.device)
        return cross_entropy(logits.float(), mask, on_device, loss.average, loss.smoothing)

    return compare


def augmentation(settings: Augment) -> Augmentation:
    """The recipe's random changes, at the resolution that its schedule has for the share of training done."""
    geometry = Geometry(settings.flip, settings.scale, settings.rotate, settings.translate)
    colour = Colour(
        settings.gate,
        settings.brightness,
        settings.contrast,
        settings.saturation,
        settings.hue,
        settings.jpeg,
        settings.jpeg_quality,
    )

    def augment(image: Tensor, mask: Tensor, done: float) -> tuple[Tensor, Tensor]:
        canvas, zoom = settings.crop or (image.shape[-2], image.shape[-1]), 1.0
        for stretch in settings.zooms:
            if done < stretch.until:
                canvas, zoom = stretch.crop, stretch.zoom
                break
        image, mask = geometry(image, mask, canvas, zoom)
        return colour(image), mask

    return augment
