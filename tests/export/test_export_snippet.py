"""The script that runs an exported file without kerbseg gives what `kerbseg predict` gives."""

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kerbseg import Predictor
from kerbseg.bundle import load, save
from kerbseg.cli import main
from kerbseg.core.errors import BundleError
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.export import export
from kerbseg.export.snippet import snippet

WITHOUT_KERBSEG = """
import sys
for name in ("kerbseg", "torch", "cv2"):
    sys.modules[name] = None  # any import fails
script, *sys.argv[1:] = sys.argv[1:]
exec(compile(open(script).read(), script, "exec"), {"__name__": "__main__"})
"""


@pytest.fixture
def picture(tmp_path):
    """A street that a camera stored lying, in a size and proportions that no file takes."""
    path = tmp_path / "street lamp.jpg"
    image = (
        Image.fromarray(open_dataset("scenes", "val")[0].image).resize((150, 90)).transpose(Image.Transpose.ROTATE_90)
    )
    exif = Image.Exif()
    exif[0x0112] = 6
    image.save(path, exif=exif, quality=95)
    return path


@pytest.mark.parametrize(
    ("name", "batch"),
    [
        ("m.onnx", None),
        ("m.xml", None),
        pytest.param("m.onnx", 2, marks=pytest.mark.slow),
        pytest.param("m.xml", 2, marks=pytest.mark.slow),
    ],
)
def test_the_script_gives_the_ids_of_predict(name, batch, picture, tmp_path):
    pytest.importorskip({".onnx": "onnxruntime", ".xml": "openvino"}[name[1:]])
    bundle = load("mininet_v2_cpu-camvid")
    if name == "m.xml":  # a card may say how pictures come to its size
        bundle = replace(bundle, card=replace(bundle.card, resample="lanczos"))
    save(bundle, tmp_path / "of.safetensors")
    export(tmp_path / "of.safetensors", tmp_path / name, (64, 96), batch=batch)
    main(["-q", "snippet", str(tmp_path / name), "-o", str(tmp_path / "segment.py")])
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_KERBSEG, "segment.py", name, picture.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    ids = np.array(Image.open(tmp_path / "street lamp_ids.png"))
    expected = Predictor(tmp_path / name)(picture).ids
    assert ids.shape == expected.shape
    assert (ids == expected).mean() >= 0.9999
    first, *_ = done.stdout.splitlines()
    labels = label_set("camvid").classes
    most = np.bincount(expected.ravel()).argmax()
    assert first == f"{labels[most]} {(expected == most).mean():.1%}"
    assert len(done.stdout.splitlines()) == len(labels)


def test_a_bundle_has_no_script(tmp_path):
    with pytest.raises(BundleError, match=r"export it first: kerbseg export mininet_v2_cpu-camvid -o mininet"):
        snippet("mininet_v2_cpu-camvid")


def test_the_script_is_short_and_printed(tmp_path, capsys):
    export("mininet_v2_cpu-camvid", tmp_path / "m.onnx", (32, 32))
    main(["-q", "snippet", str(tmp_path / "m.onnx")])
    text = capsys.readouterr().out
    assert len(text.splitlines()) <= 30
    assert "kerbseg" not in text
