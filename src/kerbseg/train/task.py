"""What one step of training and of validation does; what changes over time is a callback."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import lightning as L
import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR
from torchmetrics import MeanMetric

from kerbseg.core.normalize import Normalize
from kerbseg.core.types import VOID, Preprocessing
from kerbseg.data.loading import Batch
from kerbseg.losses import cross_entropy
from kerbseg.metrics import confusion_metric
from kerbseg.models import pad_to_stride

Augmentation = Callable[[Batch, int], tuple[Tensor, Tensor]]  # batch of uint8, epoch -> pictures in 0..1, masks
NetworkLoss = Callable[[nn.Module, Tensor, Tensor], Tensor]  # network, its input, masks -> loss


class SegmentationTask(L.LightningModule):
    """Trains a network on batches of uint8 pictures; validation fills one confusion matrix over the whole set."""

    def __init__(
        self,
        net: nn.Module,
        *,
        classes: int,
        stride: int,
        preprocessing: Preprocessing,
        augment: Augmentation,
        network_loss: NetworkLoss,
        optimizer: Callable[[nn.Module], Optimizer],
        schedules: Sequence[Callable[[int], float]],
    ) -> None:
        super().__init__()
        self.net = net
        self.normalize = Normalize(preprocessing)
        self.confusion = confusion_metric(classes)
        self.val_loss = MeanMetric(nan_strategy="disable")  # a loss that is no number shall be seen
        self.classes, self.stride = classes, stride
        self._augment, self._network_loss = augment, network_loss
        self._optimizer, self._schedules = optimizer, list(schedules)

    def training_step(self, batch: Batch, index: int) -> Float[Tensor, ""]:
        """The loss of one augmented batch."""
        image, mask = self._augment(batch, self.current_epoch)
        image = self.normalize(image).contiguous(memory_format=torch.channels_last)
        loss = self._network_loss(self.net, image, mask)
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, batch_size=len(image), sync_dist=True)
        return loss

    def validation_step(self, batch: Batch, index: int) -> None:
        """Adds one batch to the confusion matrix, and its plain cross entropy to the mean over all pixels."""
        logits = self.logits(batch["image"])
        self.val_loss.update(cross_entropy(logits, batch["mask"]), (batch["mask"] != VOID).sum())
        self.log("val_loss", self.val_loss, on_epoch=True, batch_size=len(logits))
        self.confusion.update(logits.argmax(1), batch["mask"].long())

    def logits(self, image: UInt8[Tensor, "b 3 h w"]) -> Float[Tensor, "b k h w"]:
        """Scores of the classes for raw pictures of any size."""
        height, width = image.shape[-2:]
        padded = pad_to_stride(image.float() / 255, self.stride)
        padded = self.normalize(padded).contiguous(memory_format=torch.channels_last)
        return self.net(padded)[:, : self.classes, :height, :width].float()

    def configure_optimizers(self) -> dict[str, object]:
        """The recipe's optimiser, the learning rate of each of its groups a function of the step."""
        optimizer = self._optimizer(self.net)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": LambdaLR(optimizer, self._schedules), "interval": "step"},
        }
