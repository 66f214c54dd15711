"""What TensorRT's parser would refuse: every rule on a graph of one operator, and files of ours."""

import json

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from kerbseg.cli import main
from kerbseg.core.errors import BundleError
from kerbseg.export import export
from kerbseg.export.tensorrt import OPERATORS, refusals, refused_of

SHAPE = [1, 3, 8, 8]


def graph(*nodes, dtype=TensorProto.FLOAT, opset=20, domain="", **constants):
    """Of nodes from x to y, with constants by name."""
    made = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", dtype, SHAPE)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", opset)] + ([helper.make_opsetid(domain, 1)] if domain else [])
    return helper.make_model(made, opset_imports=opsets, ir_version=9)


def node(kind, *inputs, outputs=("y",), **options):
    return helper.make_node(kind, list(inputs or ["x"]), list(outputs), **options)


@pytest.mark.parametrize(
    "made",
    [
        graph(node("Relu")),
        graph(node("MaxPool", kernel_shape=[2, 2], dilations=[1, 1])),
        graph(node("ReduceMean", "x", "axes"), axes=np.array([2, 3])),
        graph(node("Resize", "x", "", "scales", mode="linear"), scales=np.array([1, 1, 2, 2], np.float32)),
        graph(node("QuantizeLinear", "x", "s", "z"), s=np.float32(0.1), z=np.int8(0)),
        graph(node("Cast", to=TensorProto.FLOAT), dtype=TensorProto.UINT8),
        graph(node("ArgMax", outputs=["a"], axis=1), node("Cast", "a", to=TensorProto.UINT8)),
    ],
)
def test_what_is_on_the_list_is_taken(made):
    assert refused_of(made) == []


@pytest.mark.parametrize(
    ("made", "told"),
    [
        (graph(node("Relu"), opset=8), "opset 8 (it takes 9 to 24)"),
        (graph(node("Det")), "Det (not on its list)"),
        (graph(node("Own", domain="my.house"), domain="my.house"), "my.house.Own (not on its list)"),
        (graph(node("MaxPool", kernel_shape=[2, 2], dilations=[2, 2])), "MaxPool with dilations"),
        (graph(node("MaxPool", outputs=["y", "i"], kernel_shape=[2, 2])), "MaxPool that gives indices"),
        (
            graph(node("Resize", "x", "", "s", mode="cubic"), s=np.array([1, 1, 2, 2], np.float32)),
            "Resize of mode cubic",
        ),
        (
            graph(
                node("Resize", "x", "", "s", coordinate_transformation_mode="half_pixel_symmetric"),
                s=np.array([1, 1, 2, 2], np.float32),
            ),
            "Resize by half_pixel_symmetric",
        ),
        (
            graph(node("Resize", "x", "", "s", mode="linear", antialias=1), s=np.array([1, 1, 0.5, 0.5], np.float32)),
            "Resize with antialiasing",
        ),
        (graph(node("Transpose"), dtype=TensorProto.UINT8), "Transpose of uint8"),
        (graph(node("QuantizeLinear", "x", "s", "z"), s=np.float32(0.1), z=np.uint8(0)), "QuantizeLinear of uint8"),
        (graph(node("QuantizeLinear", "x", "s"), s=np.float32(0.1)), "QuantizeLinear of uint8"),
        (
            graph(node("QuantizeLinear", "x", "s", "z"), s=np.float32(0.1), z=np.int8(3)),
            "QuantizeLinear with a zero point other than 0",
        ),
        (
            graph(node("DequantizeLinear", "x", "s", "z"), dtype=TensorProto.INT8, s=np.float32(0.1), z=np.int8(3)),
            "DequantizeLinear with a zero point other than 0",
        ),
        (
            graph(node("Shape", outputs=["a"]), node("Squeeze", "x", "a")),
            "Squeeze over axes that are no constant",
        ),
    ],
)
def test_what_is_not_is_told(made, told):
    (line,) = refused_of(made)
    assert line.startswith(told)


def test_a_kind_is_told_once_with_how_often_it_occurs():
    made = graph(node("Det", outputs=["a"]), node("Det", "a"))
    assert refused_of(made) == ["Det (not on its list): 2 times"]


def test_a_file_of_ours_is_taken_whole(camvid_bundle, tmp_path):
    for batch in (None, 1):
        export(camvid_bundle, tmp_path / "m.onnx", batch=batch)
        assert refusals(tmp_path / "m.onnx") == []


def test_what_is_no_onnx_is_told_in_one_line(tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"\xff" * 40)
    with pytest.raises(BundleError, match=r"m.onnx is no ONNX file"):
        refusals(tmp_path / "m.onnx")


def test_operators_are_those_of_onnx_or_of_its_past():
    known = {each.name for each in onnx.defs.get_all_schemas_with_history()}
    own = {"ParametricSoftplus", "ImageScaler", "ScaledTanh"}  # of ONNX before its first opset
    assert OPERATORS - known <= own | {"Attention", "RMSNormalization", "RotaryEmbedding", "TensorScatter"}


def shown(capsys):
    """What was printed, without the borders of its table and wherever its lines end."""
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_info_tells_it_of_an_onnx_file_and_of_no_other(camvid_bundle, tmp_path, capsys, monkeypatch):
    export(camvid_bundle, tmp_path / "m.onnx")
    facts = tmp_path / "facts.json"
    main(["info", str(tmp_path / "m.onnx"), "--json", str(facts)])
    assert "lists all that it holds" in shown(capsys)
    assert json.loads(facts.read_text())["tensorrt"] == {"version": "10.15", "refused": [], "run": False}
    monkeypatch.setattr("kerbseg.export.tensorrt.OPERATORS", OPERATORS - {"Resize"})
    main(["info", str(tmp_path / "m.onnx")])
    assert "would refuse (not run here): Resize (not on its list)" in shown(capsys)
    main(["info", str(camvid_bundle), "--json", str(facts)])
    assert "tensorrt" not in json.loads(facts.read_text())
