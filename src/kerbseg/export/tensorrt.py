"""What TensorRT's parser of ONNX would refuse in a file, by the list that it publishes; TensorRT itself is not run.

The list is that of TensorRT 10.15: github.com/onnx/onnx-tensorrt, docs/operators.md. Its restrictions are looked at
where networks of pictures can meet them: types, zero points, pools, enlargements, axes that must be constants.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerbseg.core.errors import BundleError, MissingExtra

if TYPE_CHECKING:
    import onnx

VERSION, OPSETS = "10.15", range(9, 25)
LISTED = """
    Abs Acos Acosh Add And ArgMax ArgMin Asin Asinh Atan Atanh Attention AveragePool BatchNormalization BlackmanWindow
    Cast CastLike Ceil Celu Clip Concat Constant ConstantOfShape Conv ConvTranspose Cos Cosh CumSum DeformConv
    DepthToSpace DequantizeLinear Div Dropout Einsum Elu Equal Erf Exp Expand EyeLike Flatten Floor GRU Gather
    GatherElements GatherND Gelu Gemm GlobalAveragePool GlobalLpPool GlobalMaxPool Greater GreaterOrEqual GridSample
    GroupNormalization HammingWindow HannWindow HardSigmoid HardSwish Hardmax Identity If ImageScaler
    InstanceNormalization IsInf IsNaN LRN LSTM LayerNormalization LeakyRelu Less LessOrEqual Log LogSoftmax Loop
    LpNormalization LpPool MatMul Max MaxPool Mean MeanVarianceNormalization Min Mish Mod Mul Neg NonMaxSuppression
    NonZero Not OneHot Or PRelu Pad ParametricSoftplus Pow QuantizeLinear RMSNormalization RNN RandomNormal
    RandomNormalLike RandomUniform RandomUniformLike Range Reciprocal ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp
    ReduceMax ReduceMean ReduceMin ReduceProd ReduceSum ReduceSumSquare Relu Reshape Resize ReverseSequence RoiAlign
    RotaryEmbedding Round STFT ScaledTanh Scan Scatter ScatterElements ScatterND Selu Shape Shrink Sigmoid Sign Sin
    Sinh Size Slice Softmax Softplus Softsign SpaceToDepth Split Sqrt Squeeze Sub Sum Tan Tanh TensorScatter
    ThresholdedRelu Tile TopK Transpose Trilu Unsqueeze Upsample Where Xor
"""
OPERATORS = frozenset(LISTED.split())
COORDINATES = ("half_pixel", "pytorch_half_pixel", "tf_half_pixel_for_nn", "asymmetric", "align_corners")
NEAREST = ("floor", "ceil", "round_prefer_floor", "round_prefer_ceil")
DILATED = ("AveragePool", "LpPool", "MaxPool")
QUANTIZING = ("QuantizeLinear", "DequantizeLinear")


def refusals(path: Path) -> list[str]:
    """What the parser would refuse in a .onnx file, a line a kind with how often it occurs; empty where it takes all.

    Raises MissingExtra without the onnx package, BundleError for a file that is no ONNX.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError as error:
        raise MissingExtra("onnx", "export") from error
    try:
        model = onnx.load(path)
    except (DecodeError, OSError) as error:
        raise BundleError(f"{path} is no ONNX file, or is damaged ({error}); export it again") from error
    return refused_of(model)


def refused_of(model: onnx.ModelProto) -> list[str]:
    """The same of an opened file."""
    import onnx

    found: Counter[str] = Counter()
    for each in model.opset_import:
        if each.domain in ("", "ai.onnx") and each.version not in OPSETS:
            found[f"opset {each.version} (it takes {OPSETS[0]} to {OPSETS[-1]})"] += 1
    graph = onnx.shape_inference.infer_shapes(model).graph
    constants = {each.name: onnx.numpy_helper.to_array(each) for each in graph.initializer}
    for node in graph.node:
        if node.op_type == "Constant" and node.attribute and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
    kinds = {
        each.name: each.type.tensor_type.elem_type for each in (*graph.input, *graph.value_info, *graph.output)
    } | {name: onnx.helper.np_dtype_to_tensor_dtype(value.dtype) for name, value in constants.items()}
    for node in graph.node:
        found.update(_refused(node, constants, kinds))
    return [f"{what}: {count} times" if count > 1 else what for what, count in sorted(found.items())]


def _refused(node: Any, constants: Mapping[str, np.ndarray], kinds: Mapping[str, int]) -> Iterator[str]:
    import onnx

    name = node.op_type
    if node.domain not in ("", "ai.onnx") or name not in OPERATORS:
        yield f"{name} (not on its list)" if not node.domain else f"{node.domain}.{name} (not on its list)"
        return
    options = {each.name: onnx.helper.get_attribute_value(each) for each in node.attribute}
    uint8 = onnx.TensorProto.UINT8
    if name in QUANTIZING:
        yield from _of_levels(node, constants, kinds)
    elif name not in ("Cast", "CastLike") and uint8 in [kinds.get(each) for each in (*node.input, *node.output)]:
        yield f"{name} of uint8 (it takes that type at inputs, outputs and casts alone)"
    if name in DILATED and set(options.get("dilations", [1])) != {1}:
        yield f"{name} with dilations"
    if name == "MaxPool" and len(node.output) > 1 and node.output[1]:
        yield "MaxPool that gives indices"
    if name == "Resize":
        yield from _of_resize(options)
    axes = node.input[1] if len(node.input) > 1 else ""
    if (name.startswith("Reduce") or name in ("Squeeze", "Unsqueeze")) and axes and axes not in constants:
        yield f"{name} over axes that are no constant"


def _of_levels(node: Any, constants: Mapping[str, np.ndarray], kinds: Mapping[str, int]) -> Iterator[str]:
    """Quantized values may be int8 around 0, and nothing else of eight bits."""
    import onnx

    zero = node.input[2] if len(node.input) > 2 else ""
    levels = kinds.get(zero) or kinds.get(node.output[0] if node.op_type == "QuantizeLinear" else node.input[0])
    if levels == onnx.TensorProto.UINT8:
        yield f"{node.op_type} of uint8 (it takes int8)"
    elif zero and (zero not in constants or np.any(constants[zero])):
        yield f"{node.op_type} with a zero point other than 0"


def _of_resize(options: Mapping[str, Any]) -> Iterator[str]:
    def word(name: str, default: str) -> str:
        value = options.get(name, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    mode = word("mode", "nearest")
    if mode not in ("nearest", "linear"):
        yield f"Resize of mode {mode}"
    if (rule := word("coordinate_transformation_mode", "half_pixel")) not in COORDINATES:
        yield f"Resize by {rule}"
    if mode == "nearest" and (rule := word("nearest_mode", "round_prefer_floor")) not in NEAREST:
        yield f"Resize to the nearest by {rule}"
    if word("keep_aspect_ratio_policy", "stretch") != "stretch":
        yield "Resize that keeps the aspect ratio"
    if options.get("antialias"):
        yield "Resize with antialiasing"
