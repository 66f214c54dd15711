"""What ends a training early: patience and a time limit; what is there then, and that a resumed run knows."""

import csv
import math
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cuts import StopAfter

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.train import ending
from kerbseg.train.ending import TimeLimit
from kerbseg.train.recipe_file import read
from kerbseg.train.recipe_sense import remarks
from kerbseg.train.run import train
from kerbseg.train.segmentation import Segmentation

TINY = ("batch_size=2", "data.size=[32, 64]", "data.limit=4", "augment.progressive=[]", "ema=0.9", "validate_every=1")
FIGURES = (0.1, 0.3, 0.2, 0.3, 0.9, 0.9)  # of each epoch: none better than the second until the fifth
PATIENT = (*TINY, "epochs=6", "patience=2")


def rows(run: Path) -> list[dict[str, str]]:
    with (run / "metrics.csv").open() as file:
        return list(csv.DictReader(file))


def weights(run: Path, name: str = "last") -> dict[str, torch.Tensor]:
    return load(run / f"{name}.safetensors").model.state_dict()


def assert_alike(run: Path, expected: Path, *names: str) -> None:
    for name in names:
        theirs = weights(expected, name)
        assert all(torch.equal(value, theirs[key]) for key, value in weights(run, name).items()), name


@contextmanager
def scripted(figures: Sequence[float]) -> Iterator[None]:
    """Within it the deciding figure of each epoch's validation is known."""
    measure = Segmentation.measure
    with pytest.MonkeyPatch.context() as patch:
        known = lambda self, task: replace(measure(self, task), value=figures[task.current_epoch])  # noqa: E731
        patch.setattr(Segmentation, "measure", known)
        yield


@pytest.fixture(scope="module")
def impatient(tmp_path_factory) -> tuple[Path, str]:
    run, told = tmp_path_factory.mktemp("runs") / "impatient", StringIO()
    with scripted(FIGURES), redirect_stdout(told):
        train(read("smoke/scenes", PATIENT), run, device="cpu")
    return run, told.getvalue()


def test_a_run_ends_when_nothing_becomes_better_and_stays_so(impatient, capsys):
    impatient, told = impatient
    said = (
        "ended early after epoch 4 of 6: no better figure in 2 validations (patience); the best is 0.3000 after epoch 2"
    )
    assert said in told.splitlines()
    assert [row["epoch"] for row in rows(impatient)] == ["1", "2", "3", "4"]
    cards = {name: load(impatient / f"{name}.safetensors").card.scores["epoch"] for name in ("best", "last")}
    assert cards == {"best": 2, "last": 4}
    averaged = torch.load(impatient / "last.ckpt", weights_only=True)["state_dict"]
    for key, value in weights(impatient).items():
        assert torch.equal(value, averaged[f"outputs.net.{key}"]), "the averaged weights are the result"

    before = {path: path.read_bytes() for path in impatient.iterdir() if path.is_file()}
    best = train(None, impatient, resume=True, device="cpu")
    assert best == impatient / "best.safetensors"
    assert said in capsys.readouterr().out.splitlines()
    assert {path: path.read_bytes() for path in impatient.iterdir() if path.is_file()} == before


def test_a_run_that_was_cut_off_goes_on_with_its_count(impatient, tmp_path):
    run = tmp_path / "run"
    with scripted(FIGURES):
        with pytest.raises(InterruptedError):
            train(read("smoke/scenes", PATIENT), run, device="cpu", callbacks=[StopAfter(3)])
        train(None, run, resume=True, device="cpu")
    assert [row["epoch"] for row in rows(run)] == ["1", "2", "3", "4"]
    assert_alike(run, impatient[0], "last", "best")


def test_a_time_limit_ends_between_epochs_and_changes_nothing_of_the_whole_run(tmp_path, capsys):
    # patience and the plateau must not count the validation that only the limit asks for
    plateau = "schedule={name: plateau, patience: 1}"
    recipe = read("smoke/scenes", [*TINY, "epochs=6", "patience=3", "validate_every=2", plateau])
    whole, run = tmp_path / "whole", tmp_path / "a run"
    with scripted((0.9, 0.1, 0.1, 0.1, 0.1, 0.1)):
        train(recipe, whole, device="cpu")
        capsys.readouterr()
        train(recipe, run, device="cpu", hours=1e-9)
    assert (
        "stopped after epoch 1 of 6: the time limit (--hours 1e-09) leaves no time for another epoch; go on with:"
        f" kerbseg train --resume --out '{run}'"
    ) in capsys.readouterr().out.splitlines()
    assert load(run / "last.safetensors").card.scores["epoch"] == 1
    assert rows(run)[0]["val_miou"] != ""
    waited = torch.load(run / "last.ckpt", weights_only=True)["callbacks"]["Patience"]
    assert waited == {"best": -math.inf, "best_epoch": 0, "waited": 0}
    with scripted((0.9, 0.1, 0.1, 0.1, 0.1, 0.1)):
        train(recipe, run, resume=True, device="cpu")
    assert_alike(run, whole, "last")
    assert [load(each / "best.safetensors").card.scores["epoch"] for each in (whole, run)] == [2, 1]


def test_the_limit_asks_whether_another_epoch_fits(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(ending, "time", SimpleNamespace(monotonic=lambda: now[0]))
    limit = TimeLimit(1.0, started=0.0, go_on="")
    decide = SimpleNamespace(reduce_boolean_decision=lambda over, all: over)
    trainer = SimpleNamespace(
        strategy=decide, num_training_batches=2, current_epoch=0, max_epochs=100, should_stop=False
    )
    trainer.check_val_every_n_epoch = 7
    ends = []
    for _ in range(5):  # each takes 600 s and 300 s of validation
        limit.on_train_epoch_start(trainer, None)
        limit.on_train_batch_end(trainer, None, None, None, 0)
        now[0] += 600
        limit.on_train_batch_end(trainer, None, None, None, 1)
        limit.on_validation_start(trainer, None)
        now[0] += 300
        limit.on_validation_end(trainer, None)
        limit.on_train_epoch_end(trainer, None)
        ends.append(trainer.should_stop)
        if trainer.should_stop:
            break
        assert trainer.check_val_every_n_epoch == 7
    assert ends == [False, False, False, True], "four epochs are an hour"
    assert trainer.check_val_every_n_epoch == 1


@pytest.mark.parametrize("hours", [0, -1, math.nan, math.inf])
def test_a_limit_that_is_none_is_refused(hours, tmp_path):
    with pytest.raises(KerbsegError, match=r"hours=.* is no time limit"):
        train(read("smoke/scenes", TINY), tmp_path / "run", hours=hours)
    assert not (tmp_path / "run").exists()


def test_the_command_takes_the_limit(tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["train", "smoke/scenes", "--hours", "-2", "--out", str(tmp_path / "run")])
    assert left.value.code == 2
    assert "hours=-2 is no time limit" in capsys.readouterr().err


def test_patience_that_never_comes_is_noted():
    note = "patience=3 (a validation each 2 epochs) outlasts the 8 epochs of training"
    assert note in list(remarks(read("smoke/scenes", ["epochs=8", "patience=3", "validate_every=2"])))
    assert not list(remarks(read("smoke/scenes", ["epochs=9", "patience=3", "validate_every=2"])))


def test_a_count_that_cannot_be_is_named(impatient, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(impatient[0], run)
    content = torch.load(run / "last.ckpt", weights_only=True)
    content["callbacks"]["Patience"]["waited"] = 9
    torch.save(content, run / "last.ckpt")
    with pytest.raises(KerbsegError, match="its count of validations is not that of its epochs"):
        train(None, run, resume=True, device="cpu")


def test_with_quiet_nothing_is_said_even_of_an_early_end(tmp_path, capsys):
    run = tmp_path / "run"
    with scripted(FIGURES):
        main(["-q", "train", "smoke/scenes", *PATIENT, "--out", str(run), "--device", "cpu"])
    assert len(rows(run)) == 4  # its patience has ended it
    main(["-q", "train", "--resume", "--out", str(run), "--device", "cpu"])
    main(["-q", "train", "smoke/scenes", *TINY, "epochs=3", "--hours", "1e-9", "--out", f"{run}2", "--device", "cpu"])
    assert len(rows(tmp_path / "run2")) == 1
    assert capsys.readouterr().out == ""
