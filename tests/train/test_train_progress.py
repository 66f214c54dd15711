"""What a run tells while it trains: a bar that moves by every step, figures of this epoch alone, and the time left."""

import csv
import sys
from io import StringIO
from types import ModuleType, SimpleNamespace

import pytest
import torch
from rich.console import Console

from kerbseg.core.errors import KerbsegError, MissingExtra
from kerbseg.train import loggers, progress
from kerbseg.train.loggers import logger_names, plain_logger_errors
from kerbseg.train.progress import RunProgress, duration
from kerbseg.train.recipe_file import read
from kerbseg.train.recorder import ValidationResult
from kerbseg.train.run import train

TINY = ("batch_size=2", "data.size=[32, 64]", "data.limit=4", "augment.progressive=[]", "epochs=4")


@pytest.fixture
def clock(monkeypatch):
    """The time in seconds, as the bar sees it."""
    now = [1000.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: now[0]))
    return now


def run_of(step: int, epoch: int) -> SimpleNamespace:
    """100 epochs of 5 steps."""
    return SimpleNamespace(
        estimated_stepping_batches=500, max_epochs=100, is_global_zero=True, global_step=step, current_epoch=epoch,
        callback_metrics={"loss": torch.tensor(0.5)},
    )  # fmt: skip


def result(value: float) -> ValidationResult:
    return ValidationResult("val_miou", value, 0.1, {}, {})


def test_the_bar_moves_by_every_step_and_knows_the_time_left_after_a_resume(clock):
    recorder = SimpleNamespace(latest=None, latest_epoch=0)
    bar = RunProgress(recorder, Console(file=StringIO(), force_terminal=True))
    trainer = run_of(400, 80)  # 80 epochs were trained before
    bar.on_train_start(trainer, None)
    shown = []
    for index in range(3):
        clock[0] += 6
        trainer.global_step += 1
        bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.25)}, None, index)
        (task,) = bar.bar.tasks
        shown.append((task.completed, task.fields["left"]))
    assert shown == [(401, "10 min"), (402, "10 min"), (403, "10 min")], "99, 98 and 97 steps of 6 s"
    assert task.fields["loss"] == "0.250"
    recorder.latest, recorder.latest_epoch = result(0.4), 80
    bar.on_train_batch_end(trainer, None, {"loss": torch.tensor(0.25)}, None, 3)
    assert task.fields["result"] == "val mIoU 0.4000 (epoch 80)  "
    bar.teardown(trainer, None, "fit")


def test_a_line_has_the_figure_of_its_own_epoch_or_none(clock, capsys):
    recorder = SimpleNamespace(latest=result(0.4), latest_epoch=1)
    lines = RunProgress(recorder, Console(file=StringIO()))
    trainer = run_of(0, 0)
    lines.on_train_start(trainer, None)
    for trainer.current_epoch in (0, 1):
        clock[0] += 5
        trainer.global_step += 5
        lines.on_train_epoch_end(trainer, None)
    lines.teardown(trainer, None, "fit")
    assert capsys.readouterr().out.splitlines() == [
        "epoch 1/100  loss 0.5000  val mIoU 0.4000  5 s, about 8 min left",
        "epoch 2/100  loss 0.5000  10 s, about 8 min left",
    ]


def test_an_epoch_without_a_validation_has_no_figure_of_one(tmp_path, capsys):
    train(read("smoke/scenes", [*TINY, "validate_every=2"]), tmp_path / "run", device="cpu", loggers=["none"])
    with (tmp_path / "run" / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    figures = [name for name in rows[0] if name.startswith("val_")]
    assert {"val_loss", "val_miou", "val_iou/road"} <= set(figures)
    assert [any(row[name] for name in figures) for row in rows] == [False, True, False, True]
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("epoch")]
    assert ["val mIoU" in line for line in lines] == [False, True, False, True]
    assert not (tmp_path / "run" / "tensorboard").exists(), "no logger was wanted"


@pytest.mark.parametrize(
    ("seconds", "words"), [(0.4, "0 s"), (99, "99 s"), (100, "2 min"), (5900, "98 min"), (11100, "3 h 05 min")]
)
def test_times_are_spoken(seconds, words):
    assert duration(seconds) == words


# loggers


def test_loggers_are_listed_by_commas_or_one_by_one(monkeypatch):
    monkeypatch.setattr(loggers, "find_spec", lambda name: object())
    assert logger_names(["tensorboard, wandb", "mlflow", "wandb"]) == ("tensorboard", "wandb", "mlflow")
    assert logger_names(["none"]) == ()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["tensorbord"], r"unknown logger 'tensorbord'; did you mean 'tensorboard'\?"),
        (["none,wandb"], r"loggers none, wandb: none stands alone"),
    ],
)
def test_a_logger_that_is_none_is_named(words, says):
    with pytest.raises(KerbsegError, match=says):
        logger_names(words)


def test_a_missing_logger_is_named_before_anything_is_made(monkeypatch, tmp_path):
    monkeypatch.setattr(loggers, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match="wandb is not installed; run: pip install wandb"):
        train(read("smoke/scenes", TINY), tmp_path / "run", loggers=["wandb"])
    assert not (tmp_path / "run").exists()
    with pytest.raises(MissingExtra, match=r"tensorboard is not installed; .*\[train\]"):
        logger_names(["tensorboard"])


@pytest.mark.parametrize(
    ("name", "module", "kind", "remedy"),
    [
        ("wandb", "wandb.errors", "Error", "set WANDB_MODE=offline"),
        ("mlflow", "mlflow.exceptions", "MlflowException", "correct MLFLOW_TRACKING_URI"),
    ],
)
def test_what_a_service_answers_is_one_line(name, module, kind, remedy, monkeypatch):
    stand_in = ModuleType(module)
    setattr(stand_in, kind, type(kind, (Exception,), {}))
    monkeypatch.setitem(sys.modules, module.partition(".")[0], ModuleType(module.partition(".")[0]))
    monkeypatch.setitem(sys.modules, module, stand_in)
    with pytest.raises(KerbsegError) as caught, plain_logger_errors([name]):
        raise getattr(stand_in, kind)("nobody answers.\nlong story")
    assert str(caught.value).startswith(f"logger {name}: nobody answers; ")
    assert remedy in str(caught.value)
    with pytest.raises(ZeroDivisionError), plain_logger_errors([name]):
        _ = 1 / 0
