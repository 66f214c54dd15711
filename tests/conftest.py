"""What several tests need: the real CamVid where it is, and one thread a process."""

import gc
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from jaxtyping import config

import drawn_once
import shapes
import traced_once
from made_camvid import noise, write, write_camvid
from workers import pytest_xdist_make_scheduler  # noqa: F401  a hook

shapes.install()  # before anything of kerbseg is imported

from here import timed_here  # noqa: E402, F401  a fixture
from kerbseg.bundle import Bundle, BundleCard, save  # noqa: E402
from kerbseg.core.labels import label_set  # noqa: E402
from kerbseg.core.types import Preprocessing  # noqa: E402
from kerbseg.data import scenes  # noqa: E402
from kerbseg.models import create_model  # noqa: E402

torch.set_num_threads(1)  # tests run side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
gc.disable()  # until all tests are collected: hundreds of modules are imported, and none of them is garbage
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with Ctrl-C ignored


def pytest_collection_finish() -> None:
    """What is there now stays: the collector need not look through it over and over."""
    gc.collect()
    gc.freeze()
    gc.enable()


@pytest.fixture
def shapes_unchecked() -> Iterator[None]:
    """For what a compiler looks into: it cannot follow the checks."""
    config.update("jaxtyping_disable", True)
    yield
    config.update("jaxtyping_disable", False)


@pytest.fixture(scope="session", autouse=True)
def traced_graphs(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Where a module exports, each network is traced once a run."""
    export = sys.modules.get("kerbseg.export.onnx")
    if export is not None:
        export._traced = traced_once.kept_in(_of_all_workers("traced_graphs", tmp_path_factory), export._traced)


@pytest.fixture(scope="session", autouse=True)
def drawn_scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Each scene is drawn once a run; the folder where it is kept."""
    folder = _of_all_workers("drawn_scenes", tmp_path_factory)
    scenes.frame = drawn_once.kept_in(folder, scenes.frame)
    return folder


def _of_all_workers(name: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that all workers of this run share."""
    own = tmp_path_factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    folder.mkdir(exist_ok=True)
    return folder


@pytest.fixture(scope="session")
def kerbseg_data() -> Path:
    """The folder of the real data sets."""
    if "KERBSEG_DATA" not in os.environ:
        pytest.skip(
            "needs the real CamVid or the authors' weights: KERBSEG_DATA names the folder above camvid/ and published/"
        )
    return Path(os.environ["KERBSEG_DATA"])


@pytest.fixture(scope="session")
def camvid_data(kerbseg_data: Path) -> Path:
    """The real CamVid."""
    root = kerbseg_data / "camvid"
    if not root.is_dir():
        pytest.skip("needs the real CamVid: KERBSEG_DATA holds no camvid/")
    return root


@pytest.fixture
def camvid_root(tmp_path: Path) -> Path:
    """A made-up CamVid in SegNet's layout: 4 / 2 / 2 pictures of 32x48 with all ids, void included."""
    root = tmp_path / "camvid"
    write_camvid(root)
    return root


@pytest.fixture
def cityscapes_root(tmp_path: Path) -> Path:
    """A made-up Cityscapes: two cities a split, 32x64; train with fine and coarse labels, test without any."""
    root = tmp_path / "cityscapes"
    label_ids = [*range(34), 255]
    for seed, split in enumerate(("train", "val", "test", "train_extra")):
        kinds = {"train": ["gtFine", "gtCoarse"], "train_extra": ["gtCoarse"], "test": []}.get(split, ["gtFine"])
        for i in range(4):
            city = ("aachen", "bochum")[i // 2] if split == "train" else (f"{split}a", f"{split}b")[i // 2]
            name = f"{city}_{i:06}_000019"
            picture, ids = noise(seed * 100 + i, (32, 64), label_ids)
            write(root / "leftImg8bit" / split / city / f"{name}_leftImg8bit.png", picture)
            for kind in kinds:
                write(root / kind / split / city / f"{name}_{kind}_labelIds.png", ids)
                # these lie beside the labels in the download, and must not be read
                write(root / kind / split / city / f"{name}_{kind}_instanceIds.png", ids)
                write(root / kind / split / city / f"{name}_{kind}_color.png", picture)
    return root


@pytest.fixture
def folder_root(tmp_path: Path) -> Path:
    """A user's own data set of three classes: 4 / 2 pictures of 32x48, some in a subfolder."""
    root = tmp_path / "park"
    for seed, (split, n) in enumerate({"train": 4, "val": 2}.items()):
        for i in range(n):
            picture, ids = noise(seed * 100 + i, (32, 48), (1, 2, 4, 7, 0))
            inside = Path(split, "walk" if i % 2 else "", f"{i:03}")
            write(root / "images" / inside.with_suffix(".jpg"), picture)
            write(root / "masks" / inside.with_suffix(".png"), ids)
    (root / "dataset.yaml").write_text(
        "name: park\nclasses:\n  - {name: path, color: [128, 64, 128], ids: [1, 4]}\n"
        "  - {name: grass, ids: [2]}\n  - {name: water, ids: [7]}\nignore: [0, 255]\n"
    )
    return root


@pytest.fixture(scope="session")
def camvid_bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of MiniNet-v2-cpu for CamVid's classes at 32x48; its weights are random, and always the same."""
    torch.manual_seed(0)
    labels = label_set("camvid")
    card = BundleCard("mininet_v2_cpu", labels, Preprocessing(), (32, 48), len(labels))
    path = tmp_path_factory.mktemp("bundles") / "mininet.safetensors"
    save(Bundle(create_model("mininet_v2_cpu", len(labels)).eval(), card), path)
    return path
