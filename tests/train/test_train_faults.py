"""Trainings that go wrong: one line that says why, nothing that was good lost, nothing that is bad kept."""

import io
import os
import shutil
import signal
import subprocess
import sys
import types
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import numpy as np
import pytest
import safetensors.torch
import torch
from cuts import StopAfter
from lightning.pytorch.callbacks import Callback
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch.utils.data import DataLoader

import kerbseg.models as models
from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.distributed import SINGLE
from kerbseg.core.errors import DataError, Interrupted, KerbsegError, KerbsegWarning, RecipeError
from kerbseg.core.labels import label_set
from kerbseg.core.strict_yaml import load_yaml
from kerbseg.data import open_dataset
from kerbseg.data.loading import ConcatDataset, OnDisk, validation_loader
from kerbseg.models import classifiers
from kerbseg.train import recipe_sense, workers
from kerbseg.train.board import CELL, _confusion
from kerbseg.train.checkpoint import read_checkpoint, threads_of
from kerbseg.train.engine import plain_errors, threads_as_before
from kerbseg.train.finite import StopWhereNotFinite
from kerbseg.train.fit import fit
from kerbseg.train.machine import Machine
from kerbseg.train.recipe_file import _apart, read, resume_recipe
from kerbseg.train.run_folder import claim
from kerbseg.train.segmentation import Segmentation
from kerbseg.train.split import CachedSplit
from kerbseg.train.workers import STALL_S, check_workers

TINY = (
    "epochs=2",
    "batch_size=2",
    "data.size=[32, 64]",
    "data.limit=4",
    "augment.progressive=[]",
    "ema=0.9",
    "validate_every=1",
)


def tiny(*more: str):
    return read("smoke/scenes", [*TINY, *more])


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("faults") / "finished"
    fit(tiny(), run, device="cpu")
    return run


@pytest.fixture(scope="module")
def cut(tmp_path_factory) -> Path:
    """A run that was cut off after the first of two epochs."""
    run = tmp_path_factory.mktemp("faults") / "cut"
    with pytest.raises(InterruptedError):
        fit(tiny(), run, device="cpu", callbacks=[StopAfter(1)])
    return run


@pytest.fixture
def run(cut, tmp_path) -> Path:
    """A copy of it."""
    return Path(shutil.copytree(cut, tmp_path / "run"))


# what is no number


def test_a_rate_that_blows_up_ends_in_one_line_and_leaves_nothing(tmp_path, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["train", "smoke/scenes", *TINY, "optim.lr=1e30", "--device", "cpu", "--out", str(tmp_path / "run")])
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "training stopped: the loss is " in said
    assert "step 2" in said
    assert "learning rate" in said
    assert "lower optim.lr" in said
    assert not (tmp_path / "run").exists()


class Spoil(Callback):
    """Puts NaN somewhere at a step."""

    def __init__(self, step: int, where: Callable[[Any, Any], torch.Tensor]) -> None:
        self.step, self.where = step, where

    def on_train_batch_end(self, trainer, task, outputs, batch, index):
        if trainer.global_step == self.step:
            with torch.no_grad():
                self.where(trainer, task).fill_(torch.nan)


def a_statistic(trainer, task):
    return next(value for key, value in task.named_buffers() if key.endswith("running_var"))


def of_the_optimizer(trainer, task):
    return next(iter(trainer.optimizers[0].state.values()))["exp_avg_sq"]


@pytest.mark.parametrize("where", [a_statistic, of_the_optimizer])
def test_weights_that_are_no_numbers_are_never_saved(where, tmp_path, run, cut):
    with pytest.raises(KerbsegError, match=r"training stopped: .* holds NaN or infinite values after step 4"):
        fit(tiny(), run, device="cpu", resume=True, callbacks=[Spoil(4, where)])
    load(run / "best.safetensors")  # refuses what is no number
    for name in ("last.ckpt", "metrics.csv"):
        assert (run / name).read_bytes() == (cut / name).read_bytes(), name
    assert not (run / "last.safetensors").exists()


def test_in_float16_some_steps_may_be_skipped():
    task = types.SimpleNamespace()
    optimizer = types.SimpleNamespace(param_groups=[{"lr": 0.5}])
    trainer = types.SimpleNamespace(optimizers=[optimizer], global_step=0, current_epoch=3)
    watch = StopWhereNotFinite(2, SINGLE)

    def step(loss: float) -> None:
        watch.on_train_batch_start(trainer, task, None, 0)
        trainer.global_step += 1
        watch.on_train_batch_end(trainer, task, {"loss": torch.tensor(loss)}, None, 0)

    for loss in (1.0, torch.inf, torch.nan, 2.0, torch.inf, torch.inf):  # never three in a row
        step(loss)
    with pytest.raises(KerbsegError, match=r"the loss is inf at step 5 \(and in 2 .*epoch 4, learning rate 0.5;"):
        step(torch.inf)


@pytest.mark.parametrize("ends", ["on_validation_start", "on_train_epoch_end"])
def test_an_epoch_without_a_labelled_pixel_is_no_training(ends):
    task = types.SimpleNamespace(state_dict=dict, named_parameters=dict)
    optimizer = types.SimpleNamespace(param_groups=[{"lr": 0.5}], state={})
    trainer = types.SimpleNamespace(optimizers=[optimizer], global_step=2, current_epoch=1)

    def epoch(*losses: float) -> StopWhereNotFinite:
        watch = StopWhereNotFinite(0, SINGLE)
        for loss in losses:
            watch.on_train_batch_end(trainer, task, {"loss": torch.tensor(loss)}, None, 0)
        return watch

    getattr(epoch(0.0, 0.1, 0.0), ends)(trainer, task)
    with pytest.raises(KerbsegError, match=r"every loss of epoch 2 is 0, .* lower augment.shift"):
        getattr(epoch(0.0, 0.0), ends)(trainer, task)


def test_a_validation_without_numbers_is_no_best(tmp_path):
    class Huge(Callback):
        """Finite weights, from which infinite logits come: of the averaged network, so training goes on."""

        def on_validation_start(self, trainer, task):
            with torch.no_grad():
                for parameter in task.net.parameters():
                    parameter.fill_(3e38)

    with (
        pytest.warns(KerbsegWarning, match="epoch 1: the validation loss is nan; its weights are not kept"),
        pytest.raises(KerbsegError, match=r"no validation of .* had a finite loss"),
    ):
        fit(tiny("epochs=1", "ema=null"), tmp_path / "run", device="cpu", callbacks=[Huge()])
    assert not (tmp_path / "run" / "best.safetensors").exists()
    text = (tmp_path / "run" / "metrics.csv").read_text()
    assert "nan" not in text.lower()


# the folder


def test_one_training_holds_a_folder(tmp_path):
    seen = []

    class Second(Callback):
        def on_train_start(self, trainer, task):
            temporary = tmp_path / "run" / f".best.{os.getpid()}.tmp.safetensors"
            temporary.write_text("half")
            before = tree(tmp_path / "run")
            for options in ({}, {"resume": True}):
                if options:
                    shutil.copy(temporary, tmp_path / "run" / "last.ckpt")
                with pytest.raises(KerbsegError) as caught:
                    fit(tiny("epochs=1"), tmp_path / "run", device="cpu", **options)
                seen.append(str(caught.value))
                (tmp_path / "run" / "last.ckpt").unlink(missing_ok=True)
            after = tree(tmp_path / "run")
            assert {name: after[name] for name in before if "events" not in name} == {  # its writer is a thread
                name: content for name, content in before.items() if "events" not in name
            }
            assert after.keys() == before.keys()
            temporary.unlink()

    fit(tiny("epochs=1"), tmp_path / "run", device="cpu", callbacks=[Second()])
    assert len(seen) == 2
    for said in seen:
        assert f"process {os.getpid()} is training into {tmp_path / 'run'}; wait for its end" in said


def test_the_lock_dies_with_its_training(run):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run)], stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True
    )
    child = int(holder.stdout.readline())  # forked while the lock was held, as a process that reads pictures is
    try:
        with pytest.raises(KerbsegError, match=f"process {holder.pid} is training into"), claim(run, SINGLE):
            pass
        holder.kill()
        holder.wait()
        with claim(run, SINGLE):
            assert (run / ".lock").read_text() == f"{os.getpid()}\n"
    finally:
        os.kill(child, signal.SIGKILL)
        holder.stdin.close()
        holder.stdout.close()


HOLD = """
import os, sys, time
from pathlib import Path
from kerbseg.core.distributed import SINGLE
from kerbseg.train.run_folder import claim
with claim(Path(sys.argv[1]), SINGLE):
    child = os.fork()
    if child:
        print(child, flush=True)
    time.sleep(600)
"""


def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch):
    import fcntl

    def refuse(file, how):
        raise OSError(95, "Operation not supported")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.warns(KerbsegWarning, match="knows no locks; start no second"), claim(tmp_path / "run", SINGLE):
        assert (tmp_path / "run").is_dir()


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({"initial": "no-such-weights"}, ()),
        ({}, ("model.options={dropout: 7}",)),
        ({}, ("batch_size=100",)),
        ({}, ("auxiliary=[{at: nosuch}]",)),
        ({}, ("optim.groups=[{prefix: nosuch, lr: 1e-3}]",)),
    ],
)
def test_what_fails_before_the_first_step_leaves_no_folder(options, more, tmp_path):
    with pytest.raises(KerbsegError):
        fit(tiny(*more), tmp_path / "runs" / "run", device="cpu", **options)
    assert not list(tmp_path.iterdir())


def test_a_folder_of_the_user_stays(tmp_path):
    (tmp_path / "tensorboard").mkdir()
    (tmp_path / "tensorboard" / "mine").write_text("mine")
    with pytest.raises(KerbsegError):
        fit(tiny(), tmp_path, device="cpu", initial="no-such-weights")
    assert tree(tmp_path) == {"tensorboard/mine": b"mine"}


@pytest.mark.parametrize("name", ["metrics.csv", "last.safetensors", "recipe.yaml", "tensorboard"])
def test_what_is_no_file_in_a_runs_place_is_refused_before_anything_waits(name, run):
    (run / "aside").mkdir()
    if (run / name).exists():
        (run / name).rename(run / "aside" / name)
    os.mkfifo(run / name)
    with pytest.raises(KerbsegError, match=rf"{name} is not what a training writes there; move it away"):
        fit(tiny(), run, device="cpu", resume=True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_in_the_first_epoch_leaves_nothing_and_is_told(signum, tmp_path):
    class Press(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, index):
            os.kill(os.getpid(), signum)

    with pytest.raises(Interrupted, match="before the end of the first epoch; nothing is kept") as interrupt:
        fit(tiny(), tmp_path / "run", device="cpu", callbacks=[Press()])
    assert interrupt.value.signum == signum
    assert not (tmp_path / "run").exists()


# a checkpoint


def rewritten(path: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    """The checkpoint with a change in its content, written as torch writes it."""
    content = torch.load(path, weights_only=True)
    changed = change(content)
    torch.save(content if changed is None else changed, path)


def put(*keys: Any, value: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        content[keys[-1]] = value

    return change


def drop(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys[:-1]:
            content = content[key]
        del content[keys[-1]]

    return change


def spoil(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(content: dict[str, Any]) -> None:
        for key in keys:
            content = content[key]
        next(value for value in content.values() if value.ndim)[0] = torch.nan

    return change


def store(change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, Any]], None]:
    """The same numbers of the first weight, stored in another way."""

    def changed(content: dict[str, Any]) -> None:
        state = content["state_dict"]
        key = next(key for key, value in state.items() if value.numel() > 1)
        state[key] = change(state[key])

    return changed


RECORDER = ("callbacks", "RunRecorder")
CHANGES = {
    "a list": lambda content: [1, 2],
    "nothing": lambda content: {},
    "epoch -1": put("epoch", value=-1),
    "epoch 7": put("epoch", value=7),
    "epoch a word": put("epoch", value="one"),
    "another step": put("global_step", value=1),
    "no version": drop("pytorch-lightning_version"),
    "no loops": drop("loops"),
    "no batch progress": drop("loops", "fit_loop", "epoch_loop.batch_progress"),
    "no callbacks": put("callbacks", value={}),
    "no rows": drop(*RECORDER, "rows"),
    "rows of nothing": put(*RECORDER, "rows", value=[]),
    "best nan": put(*RECORDER, "best", value=float("nan")),
    "no threads at all": put(*RECORDER, "threads", value=0),
    "another recipe": put(*RECORDER, "recipe", "seed", value=3),
    "a recipe that is none": put(*RECORDER, "recipe", value={"epochs": 2}),
    "no weights": drop("state_dict"),
    "weights a list": put("state_dict", value=[]),
    "a weight less": lambda content: content["state_dict"].popitem() and None,
    "a weight more": put("state_dict", "more", value=torch.zeros(1)),
    "a weight NaN": spoil("state_dict"),
    "a current weight NaN": spoil("current_model_state"),
    "no current weights": drop("current_model_state"),
    "no averages": drop("averaging_state"),
    "no optimizer": put("optimizer_states", value=[]),
    "no groups": put("optimizer_states", 0, "param_groups", value=[]),
    "a NaN in the optimizer": spoil("optimizer_states", 0, "state", 0),
    "a moment less": drop("optimizer_states", 0, "state", 23),
    "nothing of a moment": put("optimizer_states", 0, "state", 23, value={}),
    "a moment that is a word": put("optimizer_states", 0, "state", 41, "exp_avg_sq", value="x"),
    "a step that is none": put("optimizer_states", 0, "state", 41, "step", value=torch.zeros(())),
    "no moment": put("optimizer_states", 0, "state", 41, "exp_avg_sq", value=None),
    "a sparse weight": store(lambda value: value.to_sparse()),
    "one number for many": store(lambda value: value.flatten()[0].clone().expand(value.shape)),
    "a wrong state": put("optimizer_states", 0, "state", value={5000: {}}),
    "moments of other weights": put("optimizer_states", 0, "param_groups", 0, "params", 34, value=10**9),
    "other betas": put("optimizer_states", 0, "param_groups", 0, "betas", value=(0.1, 0.2)),
    "a kernel that is none": put("optimizer_states", 0, "param_groups", 0, "fused", value="x"),
    "a rate NaN": put("lr_schedulers", 0, "base_lrs", value=[float("nan")]),
    "no schedule": put("lr_schedulers", value=[]),
    "a schedule elsewhere": put("lr_schedulers", 0, "last_epoch", value=50),
}


@pytest.fixture(scope="module")
def task():
    """What the run trains."""
    problem = Segmentation(tiny(), Machine(torch.device("cpu")))
    return problem.task(problem.create(), STEPS)


STEPS = 2  # an epoch


def test_a_checkpoint_that_is_whole_is_taken(cut, task):
    read_checkpoint(cut / "last.ckpt", tiny(), task, STEPS)


@pytest.mark.parametrize("name", CHANGES)
def test_a_checkpoint_that_is_none_is_named(name, cut, tmp_path, task):
    path = Path(shutil.copy(cut / "last.ckpt", tmp_path))
    rewritten(path, CHANGES[name])
    with pytest.raises(KerbsegError, match=r"last\.ckpt is damaged or of another training \(.+copy it again") as caught:
        read_checkpoint(path, tiny(), task, STEPS)
    assert len(str(caught.value)) < 700


def test_what_lightning_cannot_read_is_named_and_loses_nothing(run):
    rewritten(run / "last.ckpt", put("pytorch-lightning_version", value="x.y"))
    before = tree(run)
    with pytest.raises(KerbsegError, match=r"last\.ckpt is damaged or of another training \(.+copy it again"):
        fit(tiny(), run, device="cpu", resume=True)
    assert {key: value for key, value in tree(run).items() if key in before} == before


@pytest.mark.parametrize("share", [0.0, 0.001, 0.5, 0.999])
def test_a_checkpoint_that_is_cut_off_is_named(share, run, task):
    content = (run / "last.ckpt").read_bytes()
    (run / "last.ckpt").write_bytes(content[: int(share * len(content))])
    with pytest.raises(KerbsegError, match=r"last\.ckpt is damaged"):
        read_checkpoint(run / "last.ckpt", tiny(), task, STEPS)


def test_one_bit_of_a_checkpoint_is_noticed(run, task):
    """In the middle of a weight, where torch itself reads on."""
    content = bytearray((run / "last.ckpt").read_bytes())
    with ZipFile(run / "last.ckpt") as file:
        largest = max(file.infolist(), key=lambda entry: entry.file_size)
        weight = file.read(largest)
    content[content.index(weight) + len(weight) // 2] ^= 1
    (run / "last.ckpt").write_bytes(content)
    torch.load(run / "last.ckpt", weights_only=True)
    with pytest.raises(KerbsegError, match=r"is not what was written"):
        read_checkpoint(run / "last.ckpt", tiny(), task, STEPS)


def test_pictures_that_are_others_than_before_are_named(run, task):
    with pytest.raises(KerbsegError, match=r"has taken 2 batches in 1 epochs, and an epoch has 3 now: have the pict"):
        read_checkpoint(run / "last.ckpt", tiny(), task, 3)


def test_a_checkpoint_of_before_these_checks_still_resumes(run, finished):
    rewritten(run / "last.ckpt", lambda content: [content["callbacks"]["RunRecorder"].pop(k) for k in NEW] and None)
    fit(tiny(), run, device="cpu", resume=True)
    kept, expected = (safetensors.torch.load_file(each / "last.safetensors") for each in (run, finished))
    assert all(torch.equal(kept[key], expected[key]) for key in expected)


def test_a_run_that_began_with_many_kernels_goes_on_with_them(run):
    rewritten(run / "last.ckpt", put("optimizer_states", 0, "param_groups", 0, "fused", value=None))
    fit(tiny(), run, device="cpu", resume=True)
    content = torch.load(run / "last.ckpt", weights_only=True)
    assert content["optimizer_states"][0]["param_groups"][0]["fused"] is None


NEW = ("threads", "moments", "recipe")


def test_a_best_that_is_gone_is_said_and_kept_anew(run):
    (run / "best.safetensors").unlink()
    with pytest.warns(KerbsegWarning, match="best.safetensors is gone; the best from here on takes its place"):
        fit(tiny(), run, device="cpu", resume=True)
    assert load(run / "best.safetensors").card.scores["epoch"] == 2


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"[", b"epochs: 2\n", b"- 1\n", b"model: {name: \xe9}\n", b"a: &a [*a]\n", b"[" * 3000],
)
def test_a_recipe_of_a_run_that_is_none_is_named(content, run):
    (run / "recipe.yaml").write_bytes(content)
    with pytest.raises(KerbsegError) as caught:
        fit(tiny(), run, device="cpu", resume=True)
    assert "recipe.yaml" in str(caught.value)
    with pytest.raises(KerbsegError):
        fit(None, run, device="cpu", resume=True)


# threads


def test_the_number_of_threads_is_kept_and_said(run, task, monkeypatch, capsys):
    assert threads_of(read_checkpoint(run / "last.ckpt", tiny(), task, STEPS)) == torch.get_num_threads() == 1
    machine = Machine(torch.device("cpu"))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    with threads_as_before(2, machine):
        assert torch.get_num_threads() == 2
    assert torch.get_num_threads() == 1
    assert "had 2 CPU thread(s), and here are 1: it goes on with 2, for the same bits" in capsys.readouterr().out
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    with (
        pytest.warns(KerbsegWarning, match="not those of an unbroken run; for these set OMP_NUM_THREADS=2"),
        threads_as_before(2, machine),
    ):
        assert torch.get_num_threads() == 1
    for threads in (1, None):
        with threads_as_before(threads, machine):
            assert capsys.readouterr().out == ""


# processes that read pictures


def loader(**more: Any) -> DataLoader:
    pictures = OnDisk(ConcatDataset([open_dataset("scenes", "val")], 4))
    return validation_loader(pictures, 2, **more)


def test_too_little_shared_memory_is_said_before_anything_hangs(monkeypatch):
    check_workers([loader(workers=0)])
    check_workers([loader(workers=1)])
    batch = sum(part.nbytes for part in next(iter(loader(workers=0))).values() if isinstance(part, torch.Tensor))
    monkeypatch.setattr(workers, "_free_bytes", lambda folder: 10 * batch)
    check_workers([loader(workers=0)])
    check_workers([loader(workers=2), loader(workers=2)])  # 2 x (2 x 2 + 1)
    with pytest.raises(KerbsegError, match=r"MB of shared memory .* use fewer --workers, or give a container more"):
        check_workers([loader(workers=3), loader(workers=2)])


def test_a_worker_that_stalls_or_dies_ends_the_training_in_one_line(tmp_path):
    for told in ("DataLoader timed out after 600 seconds", "DataLoader worker (pid 7) is killed by signal: Bus error."):
        with pytest.raises(KerbsegError, match=r"fewer --workers, or 0"), plain_errors():
            raise RuntimeError(told)
    assert all(each.timeout == STALL_S for each in ready(loader(workers=1)))
    with pytest.raises(RuntimeError, match="ours"), plain_errors():
        raise RuntimeError("ours")


def ready(*loaders: DataLoader) -> tuple[DataLoader, ...]:
    check_workers(loaders)
    return loaders


class Broken:
    """A data set whose second picture is damaged."""

    def __init__(self) -> None:
        self._scenes = open_dataset("scenes", "val")
        self.name, self.split, self.labels, self.names = "broken", "val", self._scenes.labels, ("a", "b", "c", "d")

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int):
        if index == 1:
            raise DataError("picture b is damaged; copy it again")
        return self._scenes[index]


def test_a_damaged_picture_is_named_alike_with_workers():
    said = []
    for count in (0, 1):
        with pytest.raises(DataError) as caught, plain_errors():
            list(validation_loader(OnDisk(Broken()), 2, count))
        said.append(str(caught.value))
    assert said == ["picture b is damaged; copy it again"] * 2


@pytest.mark.parametrize(
    ("error", "says"),
    [
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "lower batch_size"),
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "lower batch_size"),
        (MemoryError(), "no memory: lower batch_size"),
        (ValueError("Expected more than 1 value per channel when training, got"), "raise batch_size"),
    ],
)
def test_too_little_memory_or_too_small_a_batch_is_one_line(error, says):
    with pytest.raises(KerbsegError, match=says) as caught, plain_errors():
        raise error
    assert "\n" not in str(caught.value)


# what is not there


def one_class(root: Path) -> Path:
    for split in ("train", "val"):
        for i in range(2):
            for kind, pixels in (("images", np.full((32, 32, 3), 9 * i)), ("masks", np.zeros((32, 32)))):
                (root / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(pixels.astype(np.uint8)).save(root / kind / split / f"{i}.png")
    (root / "dataset.yaml").write_text("name: one\nclasses: [{name: path, ids: [0]}]\n")
    return root


def test_one_class_alone_is_refused(tmp_path):
    root = one_class(tmp_path / "data")
    with pytest.raises(DataError, match=r"background"):
        fit(tiny("data={name: folder}"), tmp_path / "run", device="cpu", data_root=root)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("package", ["lightning", "kornia", pytest.param("tensorboard", marks=pytest.mark.slow)])
def test_a_missing_package_is_named_with_its_extra(package, tmp_path):
    code = f"import sys; sys.modules[{package!r}] = None\nfrom kerbseg.cli import main\nmain({COMMAND!r})"
    command = [sys.executable, "-c", code]
    ended = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ended.returncode == 2, ended.stderr
    assert ended.stderr.startswith(f"kerbseg: {package} is not installed; ")
    assert "[train]" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


COMMAND = ["train", "smoke/scenes", "--out", "run"]


def test_a_class_without_a_pixel_is_told_once_at_the_start(monkeypatch):
    monkeypatch.setattr(CachedSplit, "absent_classes", lambda self: ["bus", *"abcdef"])
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        Segmentation(tiny(), Machine(torch.device("cpu")))
    told = [str(each.message) for each in caught if issubclass(each.category, KerbsegWarning)]
    shown = "'bus', 'a', 'b', 'c', 'd' and 2 more"
    assert told == [f"no training pixel is of {shown}, which the network cannot learn; see kerbseg doctor"]


# what a run shows


def test_tensorboard_shows_rate_classes_pictures_confusion_and_recipe(finished):
    events = EventAccumulator(str(finished / "tensorboard"))
    events.Reload()
    scalars, images = set(events.Tags()["scalars"]), set(events.Tags()["images"])
    assert {"lr", "loss", "val_miou", "val_iou/road"} <= scalars
    assert "confusion" in images
    assert {name for name in images if name.startswith("validation/val_0")}
    shown = Image.open(io.BytesIO(events.Images("validation/val_00000")[-1].encoded_image_string))
    assert shown.size == (3 * 64, 32), "picture, truth and prediction"
    truth = np.asarray(open_dataset("scenes", "val")[0].mask)
    assert len(np.unique(np.asarray(shown)[:, 64:128].reshape(-1, 3), axis=0)) <= len(np.unique(truth))
    written = b"".join(path.read_bytes() for path in (finished / "tensorboard").glob("events*"))
    assert b"optim.lr" in written
    assert len(written) < 500_000
    assert events.Scalars("lr")[0].value == pytest.approx(0.04 * 5e-3, rel=0.1), "the first step's"


def test_a_confusion_is_drawn_in_the_colors_of_right_and_wrong():
    labels = label_set("camvid")
    confusion = torch.zeros(11, 11, dtype=torch.long)
    confusion[0, 0], confusion[1, 0] = 5, 5
    drawn = _confusion(confusion, labels)
    left = drawn.shape[1] - 11 * CELL
    corner = [tuple(drawn[CELL * (row + 1) + 2, left + 2]) for row in (0, 1, 2)]
    assert corner == [(55, 55, 255), (255, 55, 55), (255, 255, 255)]


# recipes


def test_names_that_recipes_know_are_those_that_exist():
    assert sorted(recipe_sense.NETWORKS) == sorted(models.list_models())
    assert sorted(recipe_sense.CLASSIFIERS) == sorted(classifiers.CLASSIFIERS)


@pytest.mark.parametrize(
    ("override", "says"),
    [
        ("model.name=mininet_v2_cpuu", "did you mean 'mininet_v2_cpu'"),
        ("data.name=scene", "did you mean 'scenes'"),
        ("distill={teacher: mininet_v2_cpu-camvit}", "did you mean 'mininet_v2_cpu-camvid'"),
        ("model.options={width: .nan}", "NaN and infinite values are no options"),
        ("model.options={1: 2}", "key 1 is no word"),
        ("optim.lr=abc", "valid number"),
        ("optim.betas=[1]", "less than 1"),
        ("data.size=[99999, 32]", "8192"),
        ("augment.blur=1e6", "100"),
        ("data.rare={classes: [car], extra: 1000000000}", "10000"),
        ("=3", "no key before its ="),
        ('model.name="\\ud800"', "surrogates"),
        (f"optim.lr={'9' * 3000}", "finite"),
        (f"model.name={'x' * 3000}", "does not exist"),
        ("data.val=" + "[" * 200, "deep"),
    ],
)
def test_a_recipe_that_makes_no_sense_is_refused_without_torch(override, says, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "kerbseg.models", None)  # importing it would fail
    with pytest.raises(SystemExit) as caught:
        main(["recipe", "smoke/scenes", override])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert says in said
    assert said.count("\n") == 1
    assert len(said) < 1500


@pytest.mark.parametrize("name", ["x" * 300, "/", "no/such", "\0"])
def test_a_recipe_that_is_not_there_is_one_line(name):
    with pytest.raises(RecipeError):
        read(name)


@pytest.mark.parametrize(
    ("overrides", "says"),
    [
        (["schedule.warmup=16"], "schedule.warmup=16 is no shorter than the 16 epochs of training"),
        (["epochs=1", "schedule.warmup=1"], "the 1 epoch of training"),
        (["schedule={name: step, milestones: [8, 16, 20]}"], "schedule.milestones=[16, 20] lie beyond"),
        (["schedule={name: exponential, after: 16}"], "schedule.after=16 lies beyond"),
        (["optim.weight_decay_until=30"], "optim.weight_decay_until=30 lies beyond"),
    ],
)
def test_what_never_comes_is_noted_and_the_recipe_is_still_yaml(overrides, says, capsys):
    main(["recipe", "smoke/scenes", *overrides])
    said = capsys.readouterr().out
    assert f"# note: {says}" in said or says in said.splitlines()[0]
    assert load_yaml(said, "it") == read("smoke/scenes", overrides).to_dict()


def test_an_override_changes_one_section_of_two_that_share_an_anchor(tmp_path):
    (tmp_path / "mine.yaml").write_text(
        "model: {name: mininet_v2_cpu, options: &o {dropout: 0.1}}\ndata: {name: scenes}\nepochs: 1\nbatch_size: 2\n"
        "grouping: {until: 0, select: &s [a]}\nloss: {weights: list, values: &v [1, 1], boundary: &b {radius: 3}}\n"
        "auxiliary: [{at: features, channels: 8}]\naugment: {crop: &c [32, 64], cycle: [{crop: *c}, {crop: *c}]}\n"
    )
    crop = read(tmp_path / "mine.yaml", ["augment.crop=[8, 8]"]).augment
    assert (crop.crop, crop.cycle[0].crop) == ((8, 8), (32, 64))
    raw = {"a": (shared := {"x": 1}), "b": shared}
    apart = _apart(raw, "it")
    assert apart == raw
    assert apart["a"] is not apart["b"]


def test_a_place_of_a_head_that_does_not_exist_is_answered_briefly(tmp_path):
    with pytest.raises(RecipeError) as caught:
        fit(tiny("auxiliary=[{at: nosuch}]"), tmp_path / "run", device="cpu")
    assert "no module 'nosuch'; choose from: downsample, " in str(caught.value)
    assert len(str(caught.value)) < 200


def test_the_command_that_goes_on_names_the_pictures_it_was_given(tmp_path):
    run = tmp_path / "run"

    def interrupted():
        with claim(run, SINGLE, "my streets"):
            (run / "last.ckpt").touch()
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt, match=r"train --resume --out \S*run --data-root 'my streets'$"):
        interrupted()


def test_a_lost_recipe_is_written_again_as_it_is_said(finished, tmp_path):
    run = shutil.copytree(finished, tmp_path / "run")
    written = (run / "recipe.yaml").read_text()
    (run / "recipe.yaml").unlink()
    with pytest.raises(
        KerbsegError, match=r"write there what it was begun with: kerbseg recipe RECIPE .* > \S+recipe\.yaml$"
    ):
        resume_recipe(run)
    (run / "recipe.yaml").write_text(written)
    assert resume_recipe(run) == tiny()
