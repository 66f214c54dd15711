"""A script that runs an exported file without kerbseg: NumPy, OpenCV and the engine; and `classes.json` beside it."""

from __future__ import annotations

import json
import shlex
import sys
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from string import Template

from kerbseg.bundle import locate
from kerbseg.core.display import display_palette
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.files import atomic_write, check_writable
from kerbseg.core.labels import LabelSet
from kerbseg.predict.classes import check_classes, write_classes
from kerbseg.runtime import open_runtime
from kerbseg.runtime.engines import exporting, files_of, suffix_of

WRITTEN = "# Written by `kerbseg export --snippet`"  # the second line of a script, by which ours are known


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
}
PACKAGES = {"numpy", "cv2", "onnxruntime", "openvino"}  # a script of such a name would import itself


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
    return model.with_suffix(".py")


def check_beside(model: Path, labels: LabelSet) -> None:
    """Raises KerbsegError, before any work, where the script or `classes.json` could not be written beside a model."""
    script = script_beside(model)
    if model.stem in PACKAGES | sys.stdlib_module_names:
        raise KerbsegError(f"{script.name} would hide Python's own module {model.stem}; give the model another name")
    if script.exists() and not is_ours(script):
        raise KerbsegError(f"{script} is not a script of kerbseg, and would be lost; give the model another name")
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


def is_ours(script: Path) -> bool:
    """Whether a file is a script that was written here."""
    with script.open("rb") as file:
        return file.read(200).partition(b"\n")[2].startswith(WRITTEN.encode())


def _text(name: str) -> str:
    return files("kerbseg.export").joinpath("snippets", f"{name}.txt").read_text(encoding="utf-8")
