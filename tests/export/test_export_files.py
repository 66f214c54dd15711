"""`kerbseg export`: what is written, what is folded, what is refused, and that nothing is half-written."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import kerbseg.export.files as files
from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.data import open_dataset
from kerbseg.export import export, pictures_of
from kerbseg.export.graph import DeployGraph, PreprocessStage
from kerbseg.models import card, padded_size
from kerbseg.runtime import open_runtime


def shown(size=(32, 48), count=2):
    return pictures_of(open_dataset("scenes", "val", None), size, count)


def test_the_command_writes_prints_parity_and_its_figures(camvid_bundle, tmp_path, capsys):
    out = tmp_path / "new" / "m.onnx"
    main(
        [
            "export",
            str(camvid_bundle),
            "-o",
            str(out),
            "--size",
            "40x56",
            "--logits",
            "--json",
            str(tmp_path / "p.json"),
        ]
    )
    agreement = json.loads((tmp_path / "p.json").read_text())
    assert agreement["equal"] >= 0.999
    assert f"{agreement['equal']:.4%} of the pixels" in capsys.readouterr().out
    model = onnx.load(out)
    assert [entry.version for entry in model.opset_import if not entry.domain] == [20]
    names = {value.name: value for value in (*model.graph.input, *model.graph.output)}
    assert list(names) == ["pictures", "ids", "logits"]
    kinds = {name: value.type.tensor_type.elem_type for name, value in names.items()}
    assert kinds["pictures"] == kinds["ids"] == onnx.TensorProto.UINT8
    first, *rest = names["pictures"].type.tensor_type.shape.dim
    assert first.dim_param
    assert [one.dim_value for one in rest] == [40, 56, 3]
    assert open_runtime(out).size == (40, 56)
    assert sorted(path.name for path in out.parent.iterdir()) == ["m.onnx"]


def test_what_can_be_folded_is_folded(camvid_bundle, tmp_path):
    export(load(camvid_bundle), tmp_path / "m.onnx", pictures=shown())
    model = onnx.load(tmp_path / "m.onnx")
    made = {output: node for node in model.graph.node for output in node.output}
    for node in model.graph.node:
        if node.op_type == "BatchNormalization":  # what is left follows a sum, not a convolution
            assert made[node.input[0]].op_type not in ("Conv", "ConvTranspose", "Concat")
        if node.op_type == "ConvTranspose":  # which drops its last row and column itself
            assert {one.name: list(one.ints) for one in node.attribute}["pads"] == [0, 0, 1, 1]
    assert "Slice" not in {node.op_type for node in model.graph.node}
    text = (tmp_path / "m.onnx").read_bytes()
    assert b"/site-packages/" not in text
    assert b"kerbseg/models" not in text, "a path of this machine is in the file"


def test_pixels_are_normalised_as_in_training(camvid_bundle):
    from kerbseg.core.normalize import Normalize, to_unit

    for name in ("mininet_v2_cpu", "erfnet", "efficientseg", "liteseg_mobilenet_v2"):
        import torch

        pictures = torch.from_numpy(np.stack(shown()))
        wanted = Normalize(card(name).preprocessing)(to_unit(pictures))
        assert torch.allclose(PreprocessStage(card(name).preprocessing)(pictures), wanted, atol=2e-6)


def test_a_file_works_at_the_next_multiple_of_the_stride(camvid_bundle):
    deployed = DeployGraph(load(camvid_bundle), (33, 50))
    assert deployed.padded == padded_size((33, 50), deployed.stride)
    with pytest.raises(KerbsegError, match="size 8x50 is too small to export; give at least 16x16"):
        DeployGraph(load(camvid_bundle), (8, 50))


@pytest.mark.parametrize("ending", [".onnx", ".xml"])
def test_a_file_that_would_not_agree_is_not_put_in_the_place_of_a_good_one(
    ending, camvid_bundle, tmp_path, monkeypatch
):
    out = tmp_path / f"m{ending}"
    bundle = load(camvid_bundle)
    export(bundle, out, pictures=shown())
    before = {path.name: path.read_bytes() for path in tmp_path.glob("m.*")}
    other = load(camvid_bundle)
    for parameter in other.model.parameters():
        parameter.data.normal_(0, 0.1)
    engine = files.engine_of(out)
    honest = engine.writer()
    monkeypatch.setattr(honest.__module__ + "." + honest.__name__, lambda _, *arguments: honest(other, *arguments))
    with pytest.raises(KerbsegError, match=r"would not agree with its bundle: .* nothing was written"):
        export(bundle, out, pictures=shown())
    assert {path.name: path.read_bytes() for path in tmp_path.glob("m.*")} == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-o", "m.pt"], "m.pt has no ending that can be exported to; choose .onnx or .xml"),
        (["-o", "m.onnx", "--size", "8x8"], "too small to export"),
        (["-o", "m.onnx", "--size", "wide"], "is not a size; write HEIGHTxWIDTH"),
        (["-o", "m.xml", "--int8"], "--int8 needs --calibration DATA"),
        (["-o", "m.xml", "--int8", "--calibration", "scenes", "--logits"], "--logits is for float files"),
        (["-o", "m.xml", "--threads", "1"], "--limit and --threads are for --int8 only"),
        (["-o", "m.xml", "--limit", "1"], "--limit and --threads are for --int8 only"),
    ],
)
def test_bad_requests_are_one_line(arguments, message, camvid_bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["export", str(camvid_bundle), *arguments])
    assert left.value.code == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not any(path.suffix in (".onnx", ".xml", ".pt", ".bin") for path in Path().iterdir())
