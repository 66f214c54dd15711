"""int8: the report's figures are those of the file, the last stage stays in float, and the limit holds."""

import dataclasses
import io
import json

import numpy as np
import onnx
import pytest
import torch
from PIL import Image
from rich.console import Console

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, MissingExtra
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import Report, evaluate
from kerbseg.export import export_int8
from kerbseg.export.int8_report import Int8Report, Measurement, render
from kerbseg.metrics import compute_metrics
from kerbseg.profiling.latency import Latency
from kerbseg.runtime import open_runtime
from kerbseg.runtime.openvino import openvino


@pytest.fixture(params=[".onnx", ".xml"])
def made(request, camvid_bundle, camvid_root, tmp_path, capsys):
    """An int8 file of 32x48 and its report."""
    out, figures = tmp_path / f"m{request.param}", tmp_path / "r.json"
    arguments = [
        "--int8",
        "--calibration",
        "camvid",
        "--data-root",
        str(camvid_root),
        "--max-drop",
        "1",
        "--threads",
        "1",
    ]
    main(["export", str(camvid_bundle), "-o", str(out), *arguments, "--json", str(figures)])
    return out, json.loads(figures.read_text()), capsys.readouterr().out


def test_the_report_tells_what_was_measured(made, camvid_root):
    out, report, printed = made
    runtime = open_runtime(out)
    assert runtime.precision == "int8"
    again = evaluate(runtime, open_dataset("camvid", "val", camvid_root))
    assert report["int8"]["miou"] == pytest.approx(again.metrics.miou, abs=1e-6)
    assert report["protocol"]["precision"] == "int8"
    assert report["protocol"]["split"] == "val"
    size = sum(path.stat().st_size for path in out.parent.glob("m.*") if path.suffix in (".onnx", ".xml", ".bin"))
    assert report["int8"]["size_bytes"] == size < report["float32"]["size_bytes"]
    assert report["protocol"]["calibration_pictures"] == 4
    assert {"processor", "cores", "threads", "versions", "date"} <= set(report["protocol"])
    faster = report["int8"]["latency_ms"]["median"] < report["float32"]["latency_ms"]["median"]
    assert report["verdict"] == ("go" if faster else "no-go")  # nothing can lose more mIoU than --max-drop 1
    assert set(report["int8"]["class_iou"]) == set(report["float32"]["class_iou"])
    assert report["in_float"] == []
    assert report["convolutions"] > 20
    assert report["restored_to_float"] is False
    logits = report["uint8_logits"]
    assert (logits is None) == (out.suffix == ".onnx"), "OpenVINO alone gains by them"
    assert runtime.last_stage.dtype == ("uint8" if logits is not None and logits["used"] else "float32")
    assert "convolutions in float" in printed


def side(miou: float, milliseconds: float) -> Measurement:
    """What was measured of a network."""
    confusion = torch.eye(11, dtype=torch.int64)
    figures = dataclasses.replace(compute_metrics(confusion, label_set("camvid")), miou=miou)
    protocol = {"model": "mininet_v2_cpu", "data": "camvid", "split": "val", "runtime": "openvino"}
    return Measurement(Report(figures, 101, protocol, 1.0), Latency(milliseconds, 2 * milliseconds, 100), 1000)


@pytest.mark.parametrize(
    ("before", "after", "obstacles"),
    [
        ((0.70, 20.0), (0.695, 8.0), []),
        ((0.70, 20.0), (0.71, 19.9), []),
        ((0.70, 20.0), (0.6875, 8.0), []),  # as much as may be lost
        ((0.70, 20.0), (0.68, 8.0), ["it loses 0.0200 mIoU, more than 0.0125"]),
        ((0.70, 20.0), (0.70, 20.0), ["it is no faster (20.0 ms)"]),
        ((0.70, 20.0), (0.71, 31.84), ["it is no faster (31.8 ms)"]),
        ((0.70, 20.0), (0.60, 21.0), ["it loses 0.1000 mIoU, more than 0.0125", "it is no faster (21.0 ms)"]),
    ],
)
def test_it_is_go_where_it_is_faster_and_loses_little(before, after, obstacles):
    report = Int8Report(
        side(*before), side(*after), in_float=["c1"], computing=30, max_drop=0.0125, restored=False, calibration=300,
        threads=2,
    )  # fmt: skip
    written = json.loads(json.dumps(report.to_dict()))
    assert written["obstacles"] == obstacles
    assert written["verdict"] == ("no-go" if obstacles else "go")
    console = Console(width=250, record=True, file=io.StringIO())
    console.print(render(report))
    [line] = [line for line in console.export_text().splitlines() if "verdict" in line]
    assert [word for word in ("go", "no-go:") if word in line.split()] == [written["verdict"] + ":" * bool(obstacles)]
    assert all(obstacle in line for obstacle in obstacles)


def test_weights_are_half_a_byte_s_range_and_the_last_stage_is_float(made):
    """Half: processors without VNNI add two products of bytes in 16 bits; 2 * 255 * 64 does not overflow them."""
    out, _, _ = made
    if out.suffix == ".onnx":
        model = onnx.load(out)
        made_by = {output: node for node in model.graph.node for output in node.output}
        resize = next(node for node in model.graph.node if node.op_type in ("Resize", "ArgMax"))
        assert resize.input[0] == "logits"
        for node in model.graph.node:
            if node.op_type in ("Conv", "ConvTranspose"):
                assert [made_by[name].op_type for name in node.input[:2]] == ["DequantizeLinear"] * 2
        held = [onnx.numpy_helper.to_array(one) for one in model.graph.initializer]
    else:
        weights = out.with_suffix(".bin").stat().st_size
        assert weights < 0.35 * 4 * 265_000
        held = [op.data for op in openvino().Core().read_model(out).get_ops() if op.get_type_name() == "Constant"]
    kernels = [each for each in held if each.dtype == np.int8 and each.ndim > 2]
    assert len(kernels) > 20
    adding = [each for each in kernels if each.shape[-3] > 1]  # a depthwise one has no products of two channels to add
    assert {int(np.abs(each.astype(int)).max()) for each in adding} <= {63, 64}
    logits = open_runtime(out).logits(np.zeros((1, 32, 48, 3), np.uint8))
    assert logits.dtype == np.float32


@pytest.mark.slow
def test_where_the_limit_is_passed_operations_go_back_to_float(camvid_bundle, camvid_root, tmp_path):
    # labels are what the network says in float, so that int8 can only lose
    runtime = open_runtime(camvid_bundle)
    for picture in (camvid_root / "val").iterdir():
        ids = runtime(np.array(Image.open(picture))[None])[0]
        Image.fromarray(ids).save(camvid_root / "valannot" / picture.name)
    train, val = (open_dataset("camvid", split, camvid_root) for split in ("train", "val"))
    report = export_int8(
        load(camvid_bundle), tmp_path / "m.xml", calibration=train, eval_set=val, max_drop=0.001, threads=1
    )
    assert report.restored
    assert 0 < len(report.in_float) <= report.computing
    assert report.before.report.metrics.miou == 1
    assert report.miou_drop <= 0.001


STREETS = (128, 256)
BY_HEART = (  # twelve streets, without changes of pictures
    "epochs=60",
    "batch_size=4",
    "data.size=[128,256]",
    "data.limit=12",
    "data.val=train",
    "validate_every=60",
    "augment={}",
    "model={name: mininet_v1, options: {dropout: 0}}",
    "model.initialization=network",
    "norm_momentum=0.1",
    "optim.weight_decay=0",
    "optim.lr=2e-3",
)


@pytest.fixture(scope="module")
def first_mininet(tmp_path_factory):
    """MiniNet of 2019, whose SELU stands where others have batch-norm, after learning drawn streets by heart."""
    out = tmp_path_factory.mktemp("mininet_v1")
    main(["train", "smoke/scenes", *BY_HEART, "--out", str(out), "--quiet"])
    return load(out / "last.safetensors")


@pytest.mark.slow
@pytest.mark.parametrize("suffix", [".onnx", ".xml"])
def test_a_network_without_batch_norm_keeps_most_of_what_it_knows_in_int8(suffix, first_mininet, tmp_path):
    path, streets = tmp_path / f"m{suffix}", Scenes("train", 12, STREETS)
    report = export_int8(first_mininet, path, STREETS, calibration=streets, eval_set=streets, max_drop=1, threads=1)
    assert report.before.report.metrics.miou > 0.6, "too little is learned to lose any"
    assert report.miou_drop < 0.06
    assert (len(report.in_float) <= 6, report.computing, report.restored) == (True, 91, False)
    assert report.after.size_bytes < report.before.size_bytes / 2
    assert open_runtime(path).precision == "int8"


def test_other_classes_and_empty_splits_are_refused(camvid_bundle, folder_root, camvid_root, tmp_path):
    bundle = load(camvid_bundle)
    park = open_dataset("folder", "val", folder_root)
    with pytest.raises(BundleError, match="classes"):
        export_int8(bundle, tmp_path / "m.xml", calibration=park, eval_set=park)
    assert not list(tmp_path.glob("m.*"))


def test_without_nncf_the_extra_is_named(camvid_bundle, camvid_root, tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nncf", None)
    train = open_dataset("camvid", "train", camvid_root)
    with pytest.raises(MissingExtra, match=r"nncf is not installed; .*run: pip install .*\[int8\]'"):
        export_int8(load(camvid_bundle), tmp_path / "m.xml", calibration=train, eval_set=train)
