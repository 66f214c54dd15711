"""What depends on the machine and not on the recipe: where pictures are kept, compiling, disks that are full."""

import csv
import dataclasses
import errno
import itertools
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import safetensors.torch
import torch
from cuts import StopAfter

import kerbseg.train.split as split_module
from kerbseg.bundle import load, read_card
from kerbseg.cli import main
from kerbseg.core.distributed import Rank
from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.data import open_dataset
from kerbseg.data.loading import InMemory, OnDisk
from kerbseg.train.engine import check_compiling
from kerbseg.train.fit import fit
from kerbseg.train.recipe_file import read
from kerbseg.train.segmentation import Segmentation
from kerbseg.train.split import CachedSplit

TINY = (
    "epochs=2",
    "batch_size=3",
    "data.size=[64, 128]",
    "data.limit=5",
    "data.rare={classes: [car], extra: 1}",
    "augment={scale: [0.75, 1.5], crop: [48, 96], brightness: 0.3}",
    "ema=null",
    "validate_every=1",
)
CPU = torch.device("cpu")


def tiny(*more: str):
    return read("smoke/scenes", [*TINY, *more])


def weights(path: Path) -> dict[str, torch.Tensor]:
    return safetensors.torch.load_file(path)


@pytest.fixture(scope="module")
def in_ram(tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("machine") / "ram"
    fit(tiny(), run, device="cpu", cache="ram")
    return run


@pytest.mark.parametrize("cache", ["device", "none"])
def test_where_pictures_are_kept_changes_nothing_also_after_a_cut(cache, in_ram, tmp_path):
    with pytest.raises(InterruptedError):
        fit(tiny(), tmp_path / "run", device="cpu", cache=cache, callbacks=[StopAfter(1)])
    fit(tiny(), tmp_path / "run", device="cpu", cache=cache, resume=True)
    kept, expected = weights(tmp_path / "run" / "last.safetensors"), weights(in_ram / "last.safetensors")
    assert kept.keys() == expected.keys()
    assert all(torch.equal(kept[key], expected[key]) for key in expected)


@pytest.mark.parametrize(
    ("cache", "gpu_free", "ram_free", "place"),
    [
        ("auto", 1e9, 1e9, "meta"),
        ("auto", 1e3, 1e9, "cpu"),
        ("auto", 1e3, 1e3, None),
        ("ram", 1e9, 1e3, "cpu"),
        ("device", 1e6, 1e3, "meta"),
        ("none", 1e9, 1e9, None),
    ],
)
def test_pictures_are_kept_where_they_need_little_of_what_is_free(cache, gpu_free, ram_free, place, monkeypatch):
    # the meta device stands for a GPU; ten pictures of 384x192 take 2.9 MB
    free = {"meta": gpu_free, "cpu": ram_free}
    monkeypatch.setattr(split_module, "_free_bytes", lambda device: free[device.type])
    monkeypatch.setattr(split_module, "_most_bytes", lambda device: 1e9)
    data = Short(10)
    batches = CachedSplit(data, cache, torch.device("meta")).batches
    assert isinstance(batches, InMemory if place else OnDisk)
    assert batches.device.type == (place or "cpu")


@pytest.mark.parametrize(
    ("cache", "says"),
    [
        ("device", r"10 pictures take 0.0 GB, and meta has 0.0 GB; use --cache ram, or none"),
        ("ram", r"10 pictures take 0.0 GB, and cpu has 0.0 GB; use --cache none"),
    ],
)
def test_pictures_that_do_not_fit_are_refused_with_the_way_out(cache, says, monkeypatch):
    monkeypatch.setattr(split_module, "_most_bytes", lambda device: 1e6)
    with pytest.raises(DataError, match=says):
        CachedSplit(Short(10), cache, torch.device("meta"))


class Short:
    """The first pictures of the drawn scenes."""

    def __init__(self, length: int) -> None:
        self._whole, self._length = open_dataset("scenes", "val"), length
        self.name, self.split, self.labels = "scenes", "val", self._whole.labels

    def __len__(self):
        return self._length

    def __getitem__(self, index):
        return self._whole[index]


def test_a_missing_compiler_is_one_line(monkeypatch):
    def broken(function):
        def call(*arguments):
            raise RuntimeError("InvalidCxxCompiler: No working C++ compiler found\nlong story")

        return call

    monkeypatch.setattr(torch, "compile", broken)
    with pytest.raises(KerbsegError, match=r"finds no compiler \(InvalidCxx.*found\); install a C\+\+ compiler"):
        check_compiling(CPU, Rank())
    with pytest.raises(KerbsegError, match="one device, not on 2"):
        check_compiling(CPU, Rank(0, 2))


@pytest.mark.slow
def test_a_compiled_network_leaves_the_same_files(in_ram, tmp_path):
    bundle = fit(tiny("epochs=1"), tmp_path / "run", device="cpu", compile=True)
    assert weights(tmp_path / "run" / "last.safetensors").keys() == weights(in_ram / "last.safetensors").keys()
    state = torch.load(tmp_path / "run" / "last.ckpt", weights_only=False)["state_dict"]
    assert not [key for key in state if "_orig_mod" in key]
    assert all(torch.isfinite(value).all() for value in bundle.model.state_dict().values())


@pytest.mark.parametrize("file", ["best.safetensors", "last.ckpt", "metrics.csv"])
def test_a_full_disk_keeps_what_was_there_and_is_one_line(file, tmp_path, monkeypatch, capsys):
    run, before, better = tmp_path / "run", {}, itertools.count()
    replace, measure = Path.replace, Segmentation.measure

    def full(self, target):
        if Path(target) == run / file and before:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(self, target)
        if Path(target).name == "last.ckpt":  # the first epoch is done
            before.update({path.name: path.read_bytes() for path in run.iterdir() if path.is_file()})

    monkeypatch.setattr(Path, "replace", full)
    monkeypatch.setattr(Segmentation, "measure", lambda *of: dataclasses.replace(measure(*of), value=next(better)))
    with pytest.raises(SystemExit) as left:
        main(["train", "smoke/scenes", *TINY, "--device", "cpu", "--out", str(run)])
    assert left.value.code == 2
    said = capsys.readouterr().err.strip().splitlines()
    assert said[-1].startswith(f"kerbseg: cannot write {run / file}: No space left on device; free space")
    assert (run / file).read_bytes() == before[file]
    assert not list(run.glob(".*.tmp*"))
    load(run / "best.safetensors")


def test_a_checkpoint_that_finds_no_room_is_one_line(in_ram, tmp_path, capsys):
    """No file may become larger than a third of a checkpoint, as with `ulimit -f`: the writing itself fails."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, ((in_ram / "last.ckpt").stat().st_size // 3, limits[1]))
    try:
        with pytest.raises(SystemExit) as left:
            main(["train", "smoke/scenes", *TINY, "--device", "cpu", "--out", str(tmp_path / "run")])
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert left.value.code == 2
    assert f"kerbseg: cannot write {tmp_path / 'run'}" in capsys.readouterr().err
    assert not (tmp_path / "run" / "last.ckpt").exists()
    assert not list((tmp_path / "run").glob(".*.tmp*"))


def test_a_log_that_finds_no_room_is_one_line(tmp_path, monkeypatch):
    def full(self, metrics, step):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kerbseg.train.loggers.TensorBoardLogger.log_metrics", full)
    with pytest.raises(KerbsegError, match=r"cannot write into .*: No space left on device; free space, then go on"):
        fit(tiny(), tmp_path / "run", device="cpu")


@pytest.mark.parametrize(
    ("every", "validated"),
    [(2, [False, True, True]), pytest.param(5, [False, False, True], marks=pytest.mark.slow)],
)
def test_the_last_epoch_is_always_validated(tmp_path, every, validated):
    run = tmp_path / "run"
    fit(tiny("epochs=3", f"validate_every={every}"), run, device="cpu")
    with (run / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["val_miou"] != "" for row in rows] == validated
    assert read_card(run / "last.safetensors").scores["miou"] == float(rows[-1]["val_miou"])


def test_what_a_killed_run_was_writing_is_removed_by_the_next(in_ram, tmp_path):
    run = tmp_path / "run"
    with pytest.raises(InterruptedError):
        fit(tiny(), run, device="cpu", callbacks=[StopAfter(1)])
    killed = "import os\nfrom kerbseg.core.files import atomic_write\nwith atomic_write({!r}): os._exit(9)"
    for name in ("last.ckpt", "best.safetensors"):
        subprocess.run([sys.executable, "-c", killed.format(str(run / name))], check=False)
    assert len(list(run.glob(".*.tmp.*"))) == 2
    (run / ".notes.tmp.txt").write_text("mine")
    fit(tiny(), run, device="cpu", resume=True)
    assert [path.name for path in run.glob(".*")] == [".notes.tmp.txt"]


def test_a_run_folder_that_cannot_be_written_is_one_line(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as left:
        main(["train", "smoke/scenes", *TINY, "--device", "cpu", "--out", str(tmp_path / "file" / "run")])
    assert left.value.code == 2
    assert "cannot write" in capsys.readouterr().err
