"""Training: what a run leaves behind, and that a killed run ends as an unbroken one."""

import csv
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
import yaml
from lightning.pytorch.callbacks import Callback
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError, RecipeError
from kerbseg.train.fit import fit
from kerbseg.train.recipe_file import read
from kerbseg.train.run import train
from kerbseg.train.task import SegmentationTask

TINY = (
    "epochs=3",
    "batch_size=2",
    "data.size=[64, 128]",
    "data.limit=6",
    "augment.rotate=5",
    "augment.jpeg=0.5",
    "augment.gamma=0.4",
    "augment.channel_balance=0.12",
    "augment.gray_p=0.2",
    "augment.gray=1",
    "augment.blur=1",
    "augment.noise=0.1",
    "augment.noise_p=0.5",
    "augment.turn=5",
    "augment.offset=0.05",
    "augment.mid_contrast=[0.9, 1.1]",
    "augment.jpeg_first=true",
    "augment.border=mirror",
    "augment.place=center",
    "augment.shift=[1, 2]",
    "augment.progressive=[]",
    "ema=0.9",
    "validate_every=1",
)


def tiny(*more: str):
    return read("smoke/scenes", [*TINY, *more])


def command(out: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "kerbseg.cli", "train", "smoke/scenes", *TINY, *more, "--out", str(out)]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("runs") / "unbroken"
    fit(tiny(), run, device="cpu")
    return run


def test_a_run_leaves_every_file_of_the_contract(unbroken):
    for name in ("recipe.yaml", "metrics.csv", "last.ckpt", "best.safetensors", "last.safetensors"):
        assert (unbroken / name).stat().st_size > 0
    with (unbroken / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["epoch"] for row in rows] == ["1", "2", "3"]
    assert [row["step"] for row in rows] == ["3", "6", "9"]
    best = max(rows, key=lambda row: float(row["val_miou"]))
    card = load(unbroken / "best.safetensors").card
    assert card.scores["epoch"] == int(best["epoch"])
    assert card.scores["miou"] == pytest.approx(float(best["val_miou"]))
    assert card.scores["protocol"]["split"] == "val"
    assert read(unbroken / "recipe.yaml") == tiny()
    events = EventAccumulator(str(unbroken / "tensorboard"))
    events.Reload()
    assert {"loss", "val_loss", "val_miou"} <= set(events.Tags()["scalars"])


OTHERWISE = (
    "schedule={name: plateau, patience: 1}",
    "optim.name=sgd",
    "batch_size=4",  # of 6 pictures
    "drop_last=false",
    "augment.rotate=0",
    "augment.resample=lanczos",
    "model.outputs=20",
    "model.initialization=xavier_uniform",
)


KILLED = """
import os, signal, sys
from kerbseg.cli import main
from kerbseg.train.task import SegmentationTask

training_step, steps = SegmentationTask.training_step, []

def step(self, *arguments):
    steps.append(1)
    if len(steps) == 4:  # in the second epoch: one has two steps or three
        os.kill(os.getpid(), signal.SIGKILL)
    return training_step(self, *arguments)

SegmentationTask.training_step = step
main(sys.argv[1:])
"""


@pytest.mark.parametrize("more", [(), pytest.param(OTHERWISE, marks=pytest.mark.slow)])
def test_a_run_killed_in_its_middle_ends_with_the_same_weights(tmp_path, more, unbroken):
    whole = unbroken
    if more:
        whole = tmp_path / "whole"
        fit(tiny(*more), whole, device="cpu")
    run = tmp_path / "run"
    killed = [sys.executable, "-c", KILLED, *command(run, *more)[3:], "--device", "cpu"]
    assert subprocess.run(killed, stdout=subprocess.DEVNULL, check=False).returncode == -signal.SIGKILL
    assert not (run / "last.safetensors").exists()
    load(run / "best.safetensors")  # whole, though the process died
    main([*command(run, *more)[3:], "--device", "cpu", "--resume"])
    assert not list(run.glob(".*.tmp*"))  # where it died while it wrote
    for name in ("last.safetensors", "best.safetensors"):
        resumed, expected = weights(run / name), weights(whole / name)
        assert resumed.keys() == expected.keys()
        for key in expected:
            assert torch.equal(resumed[key], expected[key]), (name, key)
    with (run / "metrics.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2", "3"]


def go_on_after(run: Path, stderr: str) -> None:
    """What a run of 50 epochs says and keeps that was interrupted, and that it goes on from there."""
    way_on = f"kerbseg train --resume --out {run}"
    assert stderr.strip().splitlines()[-1] == f"kerbseg: interrupted; what was finished is kept: {way_on}"
    assert "Traceback" not in stderr
    load(run / "best.safetensors")
    done = torch.load(run / "last.ckpt", weights_only=False)["epoch"]

    class Watch(Callback):
        def on_train_epoch_start(self, trainer, task):
            assert trainer.current_epoch == done + 1
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(tiny("epochs=50"), run, device="cpu", resume=True, callbacks=[Watch()])


def test_ctrl_c_keeps_what_is_finished_and_the_run_can_go_on(tmp_path, monkeypatch, capsys):
    steps, training_step = [], SegmentationTask.training_step

    def pressed(self, *arguments):
        steps.append(1)
        if len(steps) == 5:  # of three an epoch
            os.kill(os.getpid(), signal.SIGINT)
        return training_step(self, *arguments)

    monkeypatch.setattr(SegmentationTask, "training_step", pressed)
    with pytest.raises(SystemExit) as left:
        main([*command(tmp_path / "run", "epochs=50")[3:], "--device", "cpu"])
    assert left.value.code == 130
    assert len(steps) == 5
    monkeypatch.undo()
    go_on_after(tmp_path / "run", capsys.readouterr().err)


@pytest.mark.slow
def test_ctrl_c_ends_the_process_of_the_command(tmp_path):
    process = subprocess.Popen(
        [*command(tmp_path / "run", "epochs=50"), "--device", "cpu"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stdout:
        if line.startswith("epoch 1/50"):
            break
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    go_on_after(tmp_path / "run", stderr)


def test_ctrl_c_waits_for_the_end_of_a_step(tmp_path):
    """In the middle of one it could leave a lock of the log taken, which nobody would ever release."""
    steps = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, index):
            os.kill(os.getpid(), signal.SIGINT)
            steps.append(trainer.global_step)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        fit(tiny("epochs=50"), tmp_path / "run", device="cpu", callbacks=[Watch()])
    assert steps == [1]
    assert signal.getsignal(signal.SIGINT) is before


def test_a_second_ctrl_c_ends_at_once(tmp_path):
    steps = []

    class Watch(Callback):
        def on_train_batch_end(self, trainer, task, outputs, batch, index):
            for _ in range(2):
                os.kill(os.getpid(), signal.SIGINT)
            steps.append(trainer.global_step)

    with pytest.raises(KeyboardInterrupt):
        fit(tiny("epochs=50"), tmp_path / "run", device="cpu", callbacks=[Watch()])
    assert steps == []


def test_a_run_is_never_overwritten(unbroken):
    with pytest.raises(KerbsegError, match="holds a run already; go on with --resume"):
        fit(tiny(), unbroken, device="cpu")


def test_another_recipe_does_not_resume_a_run(unbroken):
    with pytest.raises(RecipeError, match=r"is not the recipe asked for: seed is 0 there and 1 here; resume with the"):
        fit(tiny("seed=1"), unbroken, device="cpu", resume=True)


def test_a_run_that_began_before_a_key_existed_is_resumed(unbroken, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    written = yaml.safe_load((run / "recipe.yaml").read_text())
    del written["loss"]["smoothing"], written["distill"]
    (run / "recipe.yaml").write_text(yaml.safe_dump(written))
    fit(tiny(), run, device="cpu", resume=True)
    assert read(run / "recipe.yaml") == tiny()


def test_the_folder_alone_is_enough_to_resume(unbroken, tmp_path, capsys):
    run = tmp_path / "run"
    shutil.copytree(unbroken, run)
    main(["train", "--resume", "--out", str(run), "--device", "cpu"])
    assert "best validation mIoU" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        main(["train", "--resume"])
    assert "missing RECIPE" in capsys.readouterr().err


def test_a_recipe_is_given_by_name_with_overrides_or_as_it_is(unbroken, tmp_path):
    with pytest.raises(RecipeError, match="did you mean 'epochs'"):
        train("smoke/scenes", tmp_path / "run", overrides=["epocs=1"])
    with pytest.raises(KerbsegError, match="replace its fields instead"):
        train(tiny(), tmp_path / "run", overrides=["epochs=1"])
    with pytest.raises(KerbsegError, match="nothing to resume"):
        train(None, tmp_path / "run", resume=True)
    with pytest.raises(KerbsegError, match="holds a run already"):
        train("smoke/scenes", unbroken, overrides=TINY, device="cpu")


def test_a_run_starts_from_the_folder_of_another(unbroken, tmp_path):
    class Look(Callback):
        def on_train_start(self, trainer, task):
            expected = weights(unbroken / "best.safetensors")
            assert all(torch.equal(value, expected[key]) for key, value in task.net.state_dict().items())
            raise InterruptedError

    with pytest.raises(InterruptedError):
        fit(tiny(), tmp_path / "run", device="cpu", initial=unbroken, callbacks=[Look()])


def test_nothing_to_resume_is_said(tmp_path):
    with pytest.raises(KerbsegError, match="nothing to resume"):
        fit(tiny(), tmp_path / "none", device="cpu", resume=True)


def test_weights_whose_checkpoint_was_deleted_are_not_lost(tmp_path):
    run = tmp_path / "run"
    run.mkdir()
    (run / "best.safetensors").write_bytes(b"hours of work")
    with pytest.raises(KerbsegError, match=r"would be lost.*choose another --out"):
        fit(tiny(), run, device="cpu")
    with pytest.raises(KerbsegError, match=r"nothing to resume.*--init .*best\.safetensors"):
        fit(tiny(), run, device="cpu", resume=True)
    assert (run / "best.safetensors").read_bytes() == b"hours of work"


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(KerbsegError, match="cannot write"):
        fit(tiny(), tmp_path / "file" / "run", device="cpu")


def test_weights_of_another_network_do_not_start_a_run(tmp_path, unbroken):
    with pytest.raises(BundleError, match="is it another network"):
        fit(
            tiny("model.name=erfnet", "model.options={}"),
            tmp_path / "run",
            device="cpu",
            initial=unbroken / "best.safetensors",
        )


def test_a_second_stage_takes_the_encoder_of_the_first(tmp_path):
    first = fit(
        tiny("model.name=erfnet_encoder", "model.options={}", "epochs=1", "ema=null"), tmp_path / "1", device="cpu"
    )
    seen = {}

    def spy(net, source, prefixes):
        load_initial_weights(net, source, prefixes)
        seen.update({key: value.clone() for key, value in net.state_dict().items()})

    import kerbseg.train.run as module

    load_initial_weights = module.load_initial_weights
    module.load_initial_weights = spy
    try:
        recipe = tiny("model.name=erfnet", "model.options={}", "model.init=encoder.", "epochs=1", "ema=null")
        fit(recipe, tmp_path / "2", device="cpu", initial=tmp_path / "1" / "best.safetensors")
    finally:
        module.load_initial_weights = load_initial_weights
    encoder = {key: value for key, value in first.model.state_dict().items() if key.startswith("encoder.")}
    assert encoder
    for key, value in encoder.items():
        assert torch.equal(seen[key], value), key


def test_precision_that_a_cpu_lacks_is_refused(tmp_path):
    with pytest.raises(KerbsegError, match="precision=bfloat16"):
        fit(tiny("precision=float16"), tmp_path / "run", device="cpu")


def test_a_drive_that_is_left_out_is_validated_on(tmp_path):
    seen = []

    class Watch(Callback):
        def on_train_batch_start(self, trainer, task, batch, index):
            seen.extend(batch["name"])

        def on_validation_batch_start(self, trainer, task, batch, index):
            validated.extend(batch["name"])

    validated: list[str] = []
    names = ("data.val=train", "data.train_names=['train_0000?', '!*[13]']", "data.val_names=['train_0000[13]']")
    bundle = fit(tiny(*names, "epochs=1", "data.limit=4"), tmp_path / "run", device="cpu", callbacks=[Watch()])
    assert sorted(seen) == [f"train_0000{i}" for i in (0, 2, 4, 5)], "the limit counts what is left"
    assert validated == ["train_00001", "train_00003"]
    assert bundle.card.scores["protocol"]["names"] == ["train_0000[13]"], "a figure says of which pictures it is"


def test_bfloat16_trains(tmp_path):
    bundle = fit(
        tiny("precision=bfloat16", "epochs=1", "optim.clip=1.0", "data.size=[32, 64]"), tmp_path / "run", device="cpu"
    )
    assert all(torch.isfinite(value).all() for value in bundle.model.state_dict().values())


@pytest.mark.slow
@pytest.mark.camvid
def test_four_real_pictures_can_be_learned_by_heart(tmp_path, camvid_data):
    recipe = read(
        "camvid/mininet_v2_cpu",
        [
            "epochs=60", "batch_size=4", "data.limit=4", "data.size=[176, 240]", "data.val=train",
            "validate_every=60", "norm_momentum=0.1", "model.options.dropout=0", "augment={}", "ema=null",
            "optim.lr=5e-3", "optim.weight_decay=0",
        ],
    )  # fmt: skip
    bundle = fit(recipe, tmp_path / "run", data_root=camvid_data, device="cpu")
    # 0.911 and 0.889 (seeds 0 and 1) with torch's kernels that are not fused, 0.899 and 0.886 with the fused ones
    assert bundle.card.scores["pixel_accuracy"] > 0.87
