"""What cuts a run off in the tests of trainings."""

import lightning as L
from lightning.pytorch.callbacks import Callback


class StopAfter(Callback):
    """Ends a run after an epoch as a power cut would: nothing more is written."""

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def on_train_epoch_start(self, trainer: L.Trainer, task: L.LightningModule) -> None:
        """Raises InterruptedError before the first step of the next epoch."""
        if trainer.current_epoch == self.epoch:
            raise InterruptedError
