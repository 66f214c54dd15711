"""What other engines need of an exported file: old versions, sizes that are known, and metadata that says the truth."""

import json
from dataclasses import replace

import numpy as np
import onnx
import pytest

from kerbseg.bundle import Bundle, load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.types import Preprocessing
from kerbseg.data import open_dataset
from kerbseg.export import Parity, export, pictures_of
from kerbseg.export.onnx import write_onnx
from kerbseg.export.openvino import write_openvino
from kerbseg.runtime import open_runtime


def shown(size, count=2):
    return pictures_of(open_dataset("scenes", "val", None), size, count)


@pytest.fixture(scope="module")
def folder(camvid_bundle, tmp_path_factory):
    """A bundle with BGR and a mean, as files; 32x48 of it in any number, 33x50 (padded) two at once."""
    folder = tmp_path_factory.mktemp("engines")
    bundle = load(camvid_bundle)
    bundle = Bundle(bundle.model, replace(bundle.card, preprocessing=Preprocessing("bgr", (0.5, 0.4, 0.3))))
    write_onnx(bundle, folder / "any.onnx", (32, 48))
    write_onnx(bundle, folder / "two.onnx", (33, 50), batch=2)
    write_openvino(bundle, folder / "any.xml", (32, 48))
    write_openvino(bundle, folder / "two.xml", (33, 50), batch=2)
    return folder


def test_the_graph_is_as_old_as_it_can_be_and_casts_before_it_transposes(folder):
    for name in ("any.onnx", "two.onnx"):
        model = onnx.load(folder / name)
        assert model.ir_version <= 9  # ONNX Runtime 1.17
        assert [(each.domain, each.version) for each in model.opset_import] == [("", 20)]
        first, second = model.graph.node[:2]
        assert (first.op_type, list(first.input)) == ("Cast", ["pictures"])
        assert second.op_type == "Transpose"


def test_no_size_in_the_graph_is_made_while_it_runs(folder):
    """OpenVINO 2024.0 misses a Resize to such a size, and gives ids of another shape."""
    for name in ("any.onnx", "two.onnx"):
        graph = onnx.load(folder / name).graph
        assert not {"Shape", "Size"} & {node.op_type for node in graph.node}
        constants = {each.name for each in graph.initializer}
        assert constants <= {name for node in graph.node for name in node.input}  # ONNX Runtime warns of others
        for node in graph.node:
            if node.op_type == "Resize":
                assert constants >= set(filter(None, node.input[1:]))


def test_a_fixed_batch_is_in_the_graph_and_any_number_runs_through_it(folder):
    model = onnx.load(folder / "two.onnx")
    for value, shape in ((model.graph.input[0], [2, 33, 50, 3]), (model.graph.output[0], [2, 33, 50])):
        assert [dim.dim_value for dim in value.type.tensor_type.shape.dim] == shape
    pictures = np.random.default_rng(0).integers(0, 256, (5, 33, 50, 3), np.uint8)
    for suffix in (".onnx", ".xml"):
        runtime = open_runtime(folder / f"two{suffix}")
        whole, logits = runtime(pictures), runtime.logits(pictures)
        assert whole.shape == (5, 33, 50)
        for count in (1, 2, 3):
            assert (runtime(pictures[:count]) == whole[:count]).all()
            np.testing.assert_allclose(runtime.logits(pictures[:count]), logits[:count], atol=1e-5)
        runtime.forward_only(pictures[:1])()


def test_the_command_writes_a_fixed_batch(camvid_bundle, tmp_path, capsys):
    path = tmp_path / "m.onnx"
    main(["export", str(camvid_bundle), "-o", str(path), "--batch", "3"])
    assert "100.0000%" in capsys.readouterr().out
    assert open_runtime(path)(np.zeros((1, 32, 48, 3), np.uint8)).shape == (1, 32, 48)
    for options, message in (
        (["--batch", "0"], "batch is 0"),
        (["--batch", "2", "--int8"], "--batch is for float files"),
    ):
        with pytest.raises(SystemExit) as left:
            main(["export", str(camvid_bundle), "-o", str(tmp_path / "no.onnx"), *options])
        assert left.value.code == 2
        assert message in capsys.readouterr().err


def test_the_metadata_says_what_goes_in_and_what_the_classes_are(folder):
    names = load_names(folder)
    metadata = {each.key: each.value for each in onnx.load(folder / "any.onnx").metadata_props}
    assert metadata["input"] == "uint8 RGB NHWC, nothing to normalize"
    assert json.loads(metadata["names"]) == names

    ov = pytest.importorskip("openvino")
    model = ov.Core().read_model(folder / "any.xml")
    assert str(model.get_rt_info("input").value) == "uint8 RGB NHWC, nothing to normalize"
    assert json.loads(str(model.get_rt_info("names").value)) == names


def load_names(folder):
    return list(open_runtime(folder / "any.onnx").card.labels.classes)


# ---- NaN


def with_weight(bundle, value):
    loaded = load(bundle)
    next(iter(loaded.model.parameters())).data[0] = value
    return loaded


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_weights_that_are_no_numbers_are_not_exported(value, suffix, camvid_bundle, tmp_path):
    path = tmp_path / f"m{suffix}"
    with pytest.raises(BundleError, match=r"holds NaN or infinite values"):
        export(with_weight(camvid_bundle, value), path, pictures=shown((32, 48)))
    assert not path.exists()


def test_logits_that_overflow_are_no_agreement(camvid_bundle, tmp_path):
    bundle = load(camvid_bundle)
    for parameter in bundle.model.parameters():
        parameter.data *= 1e8
    with pytest.raises(KerbsegError, match="NaN or infinite"):
        export(bundle, tmp_path / "m.onnx", pictures=shown((32, 48)))
    assert not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(("equal", "difference"), [(float("nan"), 0.0), (1.0, float("nan")), (1.0, float("inf"))])
def test_nan_is_a_difference(equal, difference, tmp_path):
    with pytest.raises(KerbsegError, match="would not agree"):
        Parity(equal, difference, 1.0, 1).checked(tmp_path / "m.onnx", floor=0.0)
