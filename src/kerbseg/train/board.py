"""What loggers show of a run besides its losses: rate, IoU by class, pictures, confusion, recipe.

Nothing is computed for it that a validation has not computed already, and it is written between epochs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from jaxtyping import Int, UInt8
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import Logger, MLFlowLogger, TensorBoardLogger, WandbLogger
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

from kerbseg.core.labels import LabelSet
from kerbseg.core.types import VOID
from kerbseg.train.recorder import RunRecorder, Shown

RATES = 1000  # of a run, at most
SHOWINGS = 6  # pictures and confusion in a run, spread evenly: a log of a few megabytes
WIDTH = 256  # pixels of a picture
CELL = 26  # pixels of one of the confusion's numbers


class Board(Callback):
    """Writes into the logs of the first process. Stands behind the recorder, whose figures it shows."""

    def __init__(self, recorder: RunRecorder, recipe: Mapping[str, Any]) -> None:
        self._recorder, self._recipe = recorder, recipe
        self._every = 1

    def on_train_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """The recipe as hyper-parameters."""
        self._every = max(10, int(trainer.estimated_stepping_batches) // RATES)
        if not trainer.is_global_zero:
            return
        figure = "val_accuracy" if self._recipe.get("task") == "classification" else "val_miou"
        for logger in trainer.loggers:
            _write_recipe(logger, _flat(self._recipe), figure)

    def on_train_batch_start(self, trainer: L.Trainer, task: L.LightningModule, batch: Any, index: int) -> None:
        """The rate of each group of weights."""
        if trainer.is_global_zero and trainer.global_step % self._every == 0:
            groups = enumerate(trainer.optimizers[0].param_groups)
            rates = {f"lr/{number}" if number else "lr": group["lr"] for number, group in groups}
            for logger in trainer.loggers:
                logger.log_metrics(rates, trainer.global_step)

    def on_validation_epoch_end(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """IoU by class, and now and then pictures."""
        result, step = self._recorder.latest, trainer.global_step
        if not trainer.is_global_zero or trainer.sanity_checking or result is None:
            return
        by_class = {k: v for k, v in result.row.items() if k.startswith("val_iou/") and v is not None}
        for logger in trainer.loggers:
            logger.log_metrics(by_class, step)
        if result.labels is None or not self._due(trainer):
            return
        pictures = {f"validation/{shown.name}": _beside(shown, result.labels) for shown in result.pictures}
        if result.confusion is not None:
            pictures["confusion"] = _confusion(result.confusion, result.labels)
        for logger in trainer.loggers:
            for name, picture in pictures.items():
                _write_picture(logger, name, picture, step)

    def _due(self, trainer: L.Trainer) -> bool:
        """A function of the epoch, so a resumed run needs no memory of it."""
        epochs, now = trainer.max_epochs or 1, trainer.current_epoch + 1
        before = now - (trainer.check_val_every_n_epoch or 1)
        return now == epochs or now * SHOWINGS // epochs > max(0, before) * SHOWINGS // epochs


def _write_recipe(logger: Logger, recipe: Mapping[str, Any], figure: str) -> None:
    """TensorBoard lists hyper-parameters beside a figure, which must be named with them."""
    if not isinstance(logger, TensorBoardLogger):
        logger.log_hyperparams(dict(recipe))
        return
    from torch.utils.tensorboard.summary import hparams

    for summary in hparams(dict(recipe), {figure: None}):
        logger.experiment.file_writer.add_summary(summary)


def _write_picture(logger: Logger, name: str, picture: UInt8[np.ndarray, "h w 3"], step: int) -> None:
    if isinstance(logger, TensorBoardLogger):
        logger.experiment.add_image(name, picture, step, dataformats="HWC")
    elif isinstance(logger, WandbLogger):
        logger.log_image(name, [picture], step)
    elif isinstance(logger, MLFlowLogger):
        logger.experiment.log_image(logger.run_id, picture, f"{name}_{step:07}.png")


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Keys as they are typed, with values that TensorBoard takes."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, bool | int | float | str) else str(value)
    return flat


def _beside(shown: Shown, labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """Picture, truth and prediction from left to right; VOID is black."""
    colors = torch.zeros(256, 3, dtype=torch.uint8)
    colors[: len(labels)] = torch.tensor(labels.colors, dtype=torch.uint8)
    truth = shown.mask.cpu().long()
    ids = torch.where(truth == VOID, VOID, shown.ids.cpu().long())
    step = max(1, -(-truth.shape[1] // WIDTH))
    size = (truth.shape[0] // step or 1, truth.shape[1] // step or 1)
    picture = F.interpolate(shown.image.cpu()[None].float(), size, mode="area")[0].round().byte().permute(1, 2, 0)
    painted = [colors[_nearest(each, size)] for each in (truth, ids)]
    beside: np.ndarray = torch.cat([picture, *painted], 1).numpy()
    return beside


def _nearest(ids: Int[Tensor, "h w"], size: tuple[int, int]) -> Int[Tensor, "H W"]:
    return F.interpolate(ids[None, None].float(), size, mode="nearest-exact")[0, 0].long()


def _confusion(confusion: Int[Tensor, "k k"], labels: LabelSet) -> UInt8[np.ndarray, "h w 3"]:
    """Where each class's pixels went, in percent of the row: rows are the truth, columns the prediction, in order.

    Drawn by hand: a plotting library would take half a second each time.
    """
    rows = confusion.double()
    percent = (100 * rows / rows.sum(1, keepdim=True).clamp(min=1)).tolist()
    font = ImageFont.load_default(11)
    names = [f"{name} {number}" for number, name in enumerate(labels.classes)]
    left = int(max(font.getlength(name) for name in names)) + 8
    sheet = Image.new("RGB", (left + CELL * len(labels), CELL * (len(labels) + 1)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((left - 4, CELL / 2), "% of the truth", "black", font, "rm")
    for row, name in enumerate(names):
        y = CELL * (row + 1)
        draw.text((left - 4, y + CELL / 2), name, "black", font, "rm")
        draw.text((left + CELL * (row + 0.5), CELL / 2), str(row), "black", font, "mm")
        for column, value in enumerate(percent[row]):
            x, pale = left + CELL * column, round(255 - 2 * value)
            draw.rectangle(
                (x, y, x + CELL - 2, y + CELL - 2), (pale, pale, 255) if row == column else (255, pale, pale)
            )
            if value >= 0.5:
                draw.text((x + CELL / 2 - 1, y + CELL / 2 - 1), f"{value:.0f}", "black", font, "mm")
    return np.asarray(sheet)
