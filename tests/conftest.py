"""What several tests need: the real CamVid where it is, and one thread a process."""

import os
import signal
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from jaxtyping import config
from PIL import Image

import shapes
import traced_once
from workers import pytest_xdist_make_scheduler  # noqa: F401  a hook

shapes.install()  # before anything of kerbseg is imported

from kerbseg.bundle import Bundle, BundleCard, save  # noqa: E402
from kerbseg.core.labels import label_set  # noqa: E402
from kerbseg.core.types import Preprocessing  # noqa: E402
from kerbseg.models import create_model  # noqa: E402

torch.set_num_threads(1)  # tests run side by side
os.environ.setdefault("OMP_NUM_THREADS", "1")  # of the processes that tests start
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background jobs begin with Ctrl-C ignored


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
        own = tmp_path_factory.getbasetemp()
        folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / "traced_graphs"
        folder.mkdir(exist_ok=True)
        export._traced = traced_once.kept_in(folder, export._traced)


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
    for seed, (split, n) in enumerate({"train": 4, "val": 2, "test": 2}.items()):
        for i in range(n):
            picture, ids = noise(seed * 100 + i, (32, 48), range(12))
            write(root / split / f"{split}_{i:03}.png", picture)
            write(root / f"{split}annot" / f"{split}_{i:03}.png", ids)
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


def noise(seed: int, size: tuple[int, int], ids: Iterable[int]) -> tuple[np.ndarray, np.ndarray]:
    """A random picture, and a mask of 4x4 blocks that holds each id at least once."""
    generator = np.random.default_rng(seed)
    height, width = size
    blocks = generator.choice(np.array(list(ids)), height * width // 16)
    blocks[: len(list(ids))] = list(ids)
    mask = blocks.reshape(height // 4, width // 4).repeat(4, 0).repeat(4, 1)
    return generator.integers(0, 256, (height, width, 3), np.uint8), mask.astype(np.uint8)


def write(path: Path, pixels: np.ndarray) -> None:
    """Writes a picture or mask, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
