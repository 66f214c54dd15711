"""A script that runs an exported file without kerbseg: NumPy, OpenCV and the engine; and `classes.json` beside it."""

from __future__ import annotations

import json
import re
import shlex
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from kerbseg.bundle import locate
from kerbseg.core.classes import check_classes, write_classes
from kerbseg.core.display import display_palette
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.files import atomic_write, check_writable
from kerbseg.core.labels import LabelSet
from kerbseg.runtime import open_runtime
from kerbseg.runtime.engines import exporting, files_of, suffix_of

WRITTEN = "\n# Written by `kerbseg export --snippet`"  # the second line of a script, by which ours are known


@dataclass(frozen=True)
class Part:
    """What a script has of one engine. The text of its class `Engine` stands in `snippets/NAME.txt`."""

    title: str
    package: str  # as pip knows it
    imports: str


PARTS = {  # by name of an engine
    "onnx": Part(
        "ONNX Runtime",
        "onnxruntime",
        '\nos.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")\n'
        "import onnxruntime\n"
        "from onnxruntime.capi import onnxruntime_pybind11_state as state",
    ),
    "openvino": Part("OpenVINO", "openvino", "import openvino"),
    "litert": Part(
        "LiteRT",
        "ai-edge-litert",
        "from ai_edge_litert import interpreter\nfrom ai_edge_litert import schema_py_generated as schema",
    ),
    "executorch": Part(
        "ExecuTorch (and torch, which comes with it)",
        "executorch",
        "import torch\nfrom executorch.extension.pybindings import portable_lib",
    ),
    "ncnn": Part("ncnn", "ncnn", "import ncnn"),
}
PACKAGES = {
    "numpy",
    "cv2",
    "torch",
    "ai_edge_litert",
    "executorch",
    "ncnn",
    "onnxruntime",
    "openvino",
}  # a script of such a name would import itself


def snippet(model: str | Path, script: str = "segment.py") -> str:
    """Python source that runs an exported file with its engine, NumPy and OpenCV alone, as `kerbseg predict` does.

    Raises BundleError for a bundle, and for a file that is damaged or foreign.
    """
    path = locate(model)
    engine = exporting().get(suffix_of(path))
    if engine is None or engine.name not in PARTS:
        command = shlex.join(["kerbseg", "export", str(model), "-o", f"{path.stem}.onnx"])
        raise BundleError(f"{model} is not an exported model ({' or '.join(exporting())}); export it first: {command}")
    labels, part = open_runtime(path).card.labels, PARTS[engine.name]  # of a file that is whole, and one of ours
    colors = zip(labels.classes, display_palette(labels).tolist(), strict=False)
    return Template(_text("segment")).substitute(
        model=path.name,
        model_text=json.dumps(path.name),
        files=" and ".join(file.name for file in reversed(files_of(path))),
        script=shlex.quote(script),
        module=Path(script).stem,
        engine=part.title,
        packages=f"numpy opencv-python-headless {part.package}",
        imports=part.imports,
        opening=_text(engine.name).strip("\n"),
        colors="\n".join(f"    {json.dumps(name)}: {tuple(color)}," for name, color in colors),
        unpainted=json.dumps(sorted(labels.background)),
    )


def script_beside(model: Path) -> Path:
    """Where the script of an exported file stands: beside it, under its name."""
    return model.with_name(model.name.removesuffix(suffix_of(model)) + ".py")


def check_beside(model: Path, labels: LabelSet) -> None:
    """Raises KerbsegError, before any work, where the script or `classes.json` could not be written beside a model."""
    script = script_beside(model)
    if script.stem in PACKAGES | sys.stdlib_module_names:
        raise KerbsegError(f"{script.name} would hide the Python module {script.stem}; give the model another name")
    if script.exists() and (runs := model_of(script)) != model.name:
        what = "is not a script of kerbseg" if runs is None else f"runs {runs}"
        raise KerbsegError(f"{script} {what}, and would be lost; give the model another name")
    check_writable(script)
    check_classes(model.parent, labels)


def write_beside(model: Path) -> list[Path]:
    """Writes the script and `classes.json` beside an exported file. Raises as `snippet` and `check_beside`."""
    labels = open_runtime(model).card.labels
    check_beside(model, labels)
    script = script_beside(model)
    text = snippet(model, script.name)
    with atomic_write(script) as temporary:
        temporary.write_text(text, encoding="utf-8")
    classes = write_classes(model.parent, labels)
    return [script] if classes is None else [script, classes]


def model_of(script: Path) -> str | None:
    """The name of the file that a script runs; None where the script was not written here."""
    head, _, text = script.read_text(encoding="utf-8", errors="replace").partition("\nMODEL = ")
    if WRITTEN not in head:
        return None
    name = re.match(r"Path\(__file__\)\.with_name\((\".*\")\)\n", text)
    return None if name is None else str(json.loads(name[1]))


def _text(name: str) -> str:
    return files("kerbseg.export").joinpath("snippets", f"{name}.txt").read_text(encoding="utf-8")
