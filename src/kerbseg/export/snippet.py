"""A short script that runs an exported file without kerbseg."""

from __future__ import annotations

import shlex
from pathlib import Path

from kerbseg.bundle import locate
from kerbseg.core.errors import BundleError
from kerbseg.exported_card import IDS, PICTURES
from kerbseg.runtime import open_runtime
from kerbseg.runtime.engines import exporting, suffix_of

HEAD = '''\
"""Segments a picture: python {script} {model} street.jpg (needs: pip install {packages})"""
import json
import sys
from pathlib import Path

import numpy as np
'''

ONNX = """\
import onnxruntime
from PIL import Image, ImageOps

model = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
names = json.loads(model.get_modelmeta().custom_metadata_map["names"])
batch, height, width, _ = model.get_inputs()[0].shape  # the one picture size that the file takes
batch = batch if isinstance(batch, int) else 1
"""

OPENVINO = """\
import openvino
from PIL import Image, ImageOps

core = openvino.Core()
file = core.read_model(sys.argv[1])
names = json.loads(file.get_rt_info("names").astype(str))
batch, height, width = (n.get_length() if n.is_static else 1 for n in list(file.input(0).get_partial_shape())[:3])
model = core.compile_model(file, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
"""

FIT = """
picture = ImageOps.exif_transpose(Image.open(sys.argv[2])).convert("RGB")
scale = min(height / picture.height, width / picture.width)  # keep the proportions, mirror what is left over
w, h = (min(most, max(1, round(n * scale))) for n, most in zip(picture.size, (width, height)))
pixels = np.asarray(picture.resize((w, h), Image.Resampling.{resample}))
pixels = np.pad(pixels, ((0, height - h), (0, width - w), (0, 0)), mode="symmetric")
"""

SHOW = """\
mask = Image.fromarray(ids[0, :h, :w]).resize(picture.size, Image.Resampling.NEAREST)
mask.save(Path(sys.argv[2]).stem + "_ids.png")  # the value of a pixel is its class id
for name, count in sorted(zip(names, mask.histogram()), key=lambda each: -each[1]):
    print(f"{name} {count / mask.width / mask.height:.1%}")
"""

PARTS = {  # by name of an engine: its package, how it opens a file and how it runs
    "onnx": ("onnxruntime", ONNX, f'ids = model.run(["{IDS}"], {{"{PICTURES}": np.stack([pixels] * batch)}})[0]\n'),
    "openvino": ("openvino", OPENVINO, f'ids = model(np.stack([pixels] * batch))["{IDS}"]\n'),
}


def snippet(model: str | Path, script: str = "segment.py") -> str:
    """Python source that runs an exported file with its engine, numpy and pillow alone, as `kerbseg predict` does.

    Raises BundleError for a bundle, and for a file that is damaged or foreign.
    """
    path = locate(model)
    engine = exporting().get(suffix_of(path))
    if engine is None or engine.name not in PARTS:
        command = shlex.join(["kerbseg", "export", str(model), "-o", f"{path.stem}.onnx"])
        raise BundleError(f"{model} is not an exported model ({' or '.join(exporting())}); export it first: {command}")
    card = open_runtime(path).card  # of a file that is whole, and one of ours
    package, opening, run = PARTS[engine.name]
    head = HEAD.format(script=script, model=path.name, packages=f"{package} numpy pillow")
    return head + opening + FIT.replace("{resample}", card.resample.upper()) + run + SHOW
