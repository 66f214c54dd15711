"""What one step of training and of validation does; what changes over time is a callback."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import lightning as L
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from kerbseg.core.normalize import Normalize
from kerbseg.core.types import VOID, Preprocessing
from kerbseg.data.loading import Batch
from kerbseg.losses import cross_entropy
from kerbseg.metrics import confusion_metric
from kerbseg.models import pad_to_stride
from kerbseg.train.network_loss import NetworkLoss
from kerbseg.train.optim import Movement
from kerbseg.train.outputs import NetworkOutputs
from kerbseg.train.recorder import Shown


class Augmented(NamedTuple):
    """A batch that has been changed at random."""

    image: Float[Tensor, "b 3 h w"]  # in 0..1
    mask: UInt8[Tensor, "b h w"]
    edge: UInt8[Tensor, "b h w"] | None = None  # 1 where classes meet, if the batch has such lines


Augmentation = Callable[[Batch, int], Augmented]  # of a batch of uint8, in an epoch


class TrainingTask(L.LightningModule):
    """What every kind of training shares: pixels become network input, and the recipe's optimizer moves the weights."""

    def __init__(self, preprocessing: Preprocessing, movement: Movement) -> None:
        super().__init__()
        self.normalize = Normalize(preprocessing)
        self._movement = movement

    def configure_optimizers(self) -> dict[str, object]:
        """The recipe's optimizer, the learning rate of each of its groups a function of the step."""
        optimizer = self._movement.optimizer()
        schedules = list(self._movement.schedules)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, schedules), "interval": "step"},
        }


class SegmentationTask(TrainingTask):
    """Trains a network on batches of uint8 pictures; validation fills one confusion matrix over the whole set."""

    def __init__(
        self,
        outputs: NetworkOutputs,
        *,
        classes: int,
        stride: int,
        preprocessing: Preprocessing,
        augment: Augmentation,
        network_loss: NetworkLoss,
        movement: Movement,
    ) -> None:
        super().__init__(preprocessing, movement)
        self.outputs = outputs
        self.confusion = confusion_metric(classes)
        self.val_loss = MeanMetric(nan_strategy="disable")  # a loss that is no number shall be seen
        self.classes, self.stride = classes, stride
        self.network_loss, self._augment = network_loss, augment
        self.shown: list[Shown] = []
        self._show: set[int] = set()

    @property
    def net(self) -> nn.Module:
        """The network that trains."""
        return self.outputs.net

    def training_step(self, batch: Batch, index: int) -> Float[Tensor, ""]:
        """The loss of one augmented batch."""
        image, mask, edge = self._augment(batch, self.current_epoch)
        image = self.normalize(image).contiguous(memory_format=torch.channels_last)
        loss: Tensor = self.network_loss(self.outputs.of(image), image, mask, self.current_epoch, edge)
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Adds one batch to the confusion matrix, and its plain cross entropy to the mean over all pixels."""
        logits = self.logits(batch["image"])
        self.val_loss.update(cross_entropy(logits, batch["mask"]), (batch["mask"] != VOID).sum())
        self.log("val_loss", self.val_loss, on_epoch=True, batch_size=len(logits))
        ids = logits.argmax(1)
        self.confusion.update(ids, batch["mask"].long())
        if index in self._show:
            self.shown.append(Shown(batch["name"][0], batch["image"][0], batch["mask"][0], ids[0]))

    def on_validation_start(self) -> None:
        """The first picture of the first, a middle and the last batch is kept, to be shown."""
        batches = self.trainer.num_val_batches
        last = int(sum(batches) if isinstance(batches, list) else batches) - 1
        self.shown, self._show = [], {0, last // 2, last}

    def logits(self, image: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Logits of the classes for raw pictures of any size."""
        height, width = image.shape[-2:]
        padded = pad_to_stride(image.float() / 255, self.stride)
        padded = self.normalize(padded).contiguous(memory_format=torch.channels_last)
        return self.outputs.of(padded).upsampled[:, : self.classes, :height, :width].float()
