"""What a process that predicts one picture does not load: each of these packages costs tenths of a second, or more."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg import load
from kerbseg.bundle import random_bundle, save
from kerbseg.core.labels import label_set
from kerbseg.core.strides import STRIDES
from kerbseg.data import open_dataset
from kerbseg.export import export
from kerbseg.export.files import pictures_of
from kerbseg.models import card, list_models

NEVER = {"torch", "numba", "scipy", "cv2", "av", "torchmetrics", "lightning", "matplotlib", "sympy", "nncf", "pandas"}
WITH_TORCH = NEVER - {"torch"} | {"torch._dynamo", "torch._inductor", "torch.onnx", "onnx", "onnxruntime", "openvino"}


def loaded(tmp_path: Path, packages: set[str], *arguments: object) -> set[str]:
    """Which of the packages a command loads."""
    code = f"import sys; from kerbseg.cli import main\nmain()\nprint(*({packages} & set(sys.modules)))"
    command = [sys.executable, "-c", code, *map(str, arguments), "-o", str(tmp_path / "out"), "-q"]
    finished = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (tmp_path / "out" / "street_overlay.png").is_file()
    return set(finished.stdout.split())


@pytest.fixture
def street(tmp_path):
    """A picture's file."""
    path = tmp_path / "street.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (32, 48, 3), np.uint8)).save(path)
    return path


@pytest.mark.parametrize("suffix", [".xml", pytest.param(".onnx", marks=pytest.mark.slow)])
def test_a_picture_of_an_exported_file_loads_no_torch_and_no_compiler(suffix, camvid_bundle, street, tmp_path):
    path = tmp_path / f"model{suffix}"
    export(load(camvid_bundle), path, pictures=pictures_of(open_dataset("scenes", "val", None), (32, 48), 1))
    assert loaded(tmp_path, NEVER, "predict", path, street) == set()


def test_a_picture_of_a_bundle_loads_torch_and_little_else(street, tmp_path):
    path = tmp_path / "weights.safetensors"
    save(random_bundle("pp_liteseg_t", label_set("camvid")), path)  # which draws its first weights in most ways
    assert loaded(tmp_path, WITH_TORCH, "predict", path, street) == set()


def test_reading_pictures_loads_no_data_set():
    code = (
        "import sys, kerbseg.data.pictures\nprint(*({'pydantic', 'torch', 'kerbseg.data.datasets'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


def test_the_strides_of_exported_files_are_those_of_the_networks():
    assert {name: card(name).stride for name in list_models()} == STRIDES
