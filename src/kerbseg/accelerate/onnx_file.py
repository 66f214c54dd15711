"""Anyone's ONNX file: whether it is whole and can be accelerated at all, and what runs it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerbseg.bundle import METADATA_KEY
from kerbseg.core.errors import BundleError, MissingExtra
from kerbseg.runtime.onnx import onnxruntime, ort_errors

if TYPE_CHECKING:
    import onnx

OLDEST_OPSET = 11  # before it, interpolations say less of themselves
LARGEST = 2**31 - 1  # bytes of an ONNX file that keeps its weights inside
BY_CHANCE = {"Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"}


def weights_beside(path: Path) -> list[Path]:
    """Files that hold weights of an ONNX file, beside it."""
    if path.suffix != ".onnx":
        return []
    import onnx

    kept = onnx.load(path, load_external_data=False).graph.initializer
    places = {entry.value for each in kept for entry in each.external_data if entry.key == "location"}
    return [path.parent / place for place in sorted(places)]


def read_onnx(path: Path) -> onnx.ModelProto:
    """A file that is whole and of others. Raises BundleError."""
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra("onnx", "export") from error
    try:
        model = onnx.load(path)
        if model.functions:
            model = onnx.inliner.inline_local_functions(model)
        if model.ByteSize() > LARGEST:
            raise BundleError(f"{path} is larger than 2 GB, which no ONNX file of one piece holds")
        for value in model.graph.output:  # PyTorch leaves out what it does not know; the checker wants something
            if value.type.HasField("tensor_type"):
                value.type.tensor_type.shape.SetInParent()
        onnx.checker.check_model(model)
    except (DecodeError, OSError, onnx.checker.ValidationError, ValueError, RuntimeError) as error:
        raise BundleError(f"{path} is no whole ONNX file ({_brief(error)}); export it again") from error
    if METADATA_KEY in {entry.key for entry in model.metadata_props}:
        raise BundleError(f"{path} is a file of kerbseg already, with its fast last stage; use it as it is")
    if chance := sorted({node.op_type for node in model.graph.node if _by_chance(model.graph, node)}):
        raise BundleError(
            f"{path} draws random numbers ({', '.join(chance)}), as networks do in training; export it after"
            " model.eval()"
        )
    opset = next((each.version for each in model.opset_import if each.domain in ("", "ai.onnx")), 0)
    if opset < OLDEST_OPSET:
        raise BundleError(f"{path} is of opset {opset}; export it again with opset {OLDEST_OPSET} or newer")
    return model


def opened(model: onnx.ModelProto, path: str) -> Any:
    """What runs a graph in ONNX Runtime. Raises BundleError where it does not."""
    ort = onnxruntime()
    options = ort.SessionOptions()
    options.log_severity_level = 4
    try:
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    except ort_errors() as error:
        raise BundleError(f"onnxruntime cannot open {path} ({_brief(error)}); export it again") from error

    def run(feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        try:
            return list(session.run(None, feeds))
        except ort_errors() as error:
            raise BundleError(f"onnxruntime cannot run {path} ({_brief(error)}); export it again") from error

    return run


def _by_chance(graph: Any, node: Any) -> bool:
    """Whether an operation draws random numbers: a dropout does where it is told to be in training."""
    import onnx

    if node.op_type != "Dropout" or len(node.input) < 3 or not node.input[2]:
        return node.op_type in BY_CHANCE
    name = node.input[2]
    values = [each for each in graph.initializer if each.name == name]
    values += [each.attribute[0].t for each in graph.node if each.op_type == "Constant" and name in each.output]
    return any(onnx.numpy_helper.to_array(each).any() for each in values)


def _brief(error: Exception) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)
