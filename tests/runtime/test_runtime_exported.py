"""ONNX Runtime and OpenVINO behind one call: what they take, what they refuse, what they say of themselves."""

import shutil

import numpy as np
import pytest

from kerbseg.bundle import load
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, InputError, KerbsegError, MissingExtra
from kerbseg.data import open_dataset
from kerbseg.evaluate import evaluate
from kerbseg.export import export, pictures_of
from kerbseg.runtime import Profilable, network_size, open_runtime, segment

KINDS = {".onnx": "onnx", ".xml": "openvino"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("exported")


@pytest.fixture(params=list(KINDS))
def file(request, folder, camvid_bundle):
    """An exported file of 32x48, made once for each engine."""
    path = folder / f"m{request.param}"
    if not path.exists():
        export(load(camvid_bundle), path, pictures=pictures_of(open_dataset("scenes", "val", None), (32, 48), 2))
        shutil.copy(camvid_bundle, folder / "m.safetensors")
    return path


@pytest.fixture
def bundle(file):
    """The bundle that the file was made of."""
    return file.with_name("m.safetensors")


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_a_batch_of_any_length_gives_the_ids_of_torch(file, bundle):
    runtime, torch = open_runtime(file, threads=1), open_runtime(bundle)
    assert isinstance(runtime, Profilable)
    assert (runtime.name, runtime.precision, runtime.size) == (
        KINDS[file.suffix],
        "float32",
        (32, 48),
    )
    for count in (1, 3, 1):
        batch = pictures(count, 32, 48)
        ids = runtime(batch)
        assert (ids.shape, ids.dtype) == ((count, 32, 48), np.uint8)
        assert (ids == torch(batch)).mean() > 0.999


def test_logits_are_those_before_the_last_interpolation(file, bundle):
    runtime, batch = open_runtime(file), pictures(2, 32, 48)
    logits = runtime.logits(batch)
    assert (logits.dtype, logits.shape[:2]) == (np.float32, (2, 11))
    np.testing.assert_allclose(logits, open_runtime(bundle).logits(batch), atol=1e-4)
    runtime(pictures(2, 32, 48)[::-1])
    assert (logits == runtime.logits(batch)).all(), "logits that were given out changed with the next picture"


def test_pictures_of_any_size_are_brought_to_its_one_size(file):
    runtime = open_runtime(file)
    assert network_size((70, 90), runtime) == network_size((32, 48), runtime, "own") == (32, 48)
    for input_size in ("own", (16, 16)):
        with pytest.raises(KerbsegError, match=r"takes pictures of 32x48 \(HxW\) only, not of (70x90|16x16)"):
            network_size((70, 90), runtime, input_size)
    assert segment(runtime, pictures(70, 90)).shape == (70, 90)


def test_it_evaluates_and_predicts_by_the_command_line(file, bundle, camvid_root, tmp_path, capsys):
    main(
        [
            "evaluate",
            str(file),
            "--data",
            "camvid",
            "--data-root",
            str(camvid_root),
            "--runtime",
            KINDS[file.suffix],
        ]
    )
    assert "mIoU" in capsys.readouterr().out
    test = open_dataset("camvid", "test", camvid_root)
    ours, torch = (evaluate(open_runtime(one), test) for one in (file, bundle))
    assert ours.metrics.miou == pytest.approx(torch.metrics.miou, abs=1e-3)
    assert ours.protocol["runtime"] == KINDS[file.suffix]
    picture = next((camvid_root / "test").iterdir())
    main(["predict", str(file), str(picture), "-o", str(tmp_path / "out")])
    assert (tmp_path / "out" / f"{picture.stem}_ids.png").exists()


def test_its_operations_are_timed(file):
    runtime, batch = open_runtime(file, threads=1), pictures(1, 32, 48)
    layers = runtime.layer_times(batch, 2)
    assert len(layers) > 10
    assert all(row.ms >= 0 for row in layers)
    runtime.forward_only(batch)()


@pytest.mark.parametrize(
    "wrong", [pictures(1, 30, 48), pictures(1, 32, 48)[..., :1], pictures(1, 32, 48).astype(float)]
)
def test_pictures_it_cannot_take_are_named(file, wrong):
    with pytest.raises(InputError, match=r"32x48|uint8"):
        open_runtime(file)(wrong)


def test_what_it_cannot_do_is_said(file):
    with pytest.raises(KerbsegError, match="threads is 0"):
        open_runtime(file, threads=0)
    with pytest.raises(KerbsegError, match="float16"):
        open_runtime(file, precision="float16")
    with pytest.raises(KerbsegError, match=r"runs on (onnx|openvino), not on torch"):
        open_runtime(file, engine="torch")
    with pytest.raises(KerbsegError, match=r"(?i)cuda"):
        open_runtime(file, device="cuda")


def test_flip_averaging_wants_the_bundle(file, camvid_root):
    with pytest.raises(KerbsegError, match="--tta flip averages probabilities"):
        evaluate(open_runtime(file), open_dataset("camvid", "test", camvid_root), tta="flip")


def test_a_damaged_file_is_one_line(file, tmp_path, capsys):
    copies = [shutil.copy(one, tmp_path) for one in file.parent.glob("m.*")]
    assert len(copies) >= 2
    damaged = tmp_path / file.name
    damaged.write_bytes(damaged.read_bytes()[: damaged.stat().st_size // 2])
    with pytest.raises(BundleError, match="export it again"):
        open_runtime(damaged)
    with pytest.raises(SystemExit) as left:
        main(["predict", str(damaged), "x.png", "-o", str(tmp_path)])
    assert left.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_weights_of_another_export_are_refused(folder, camvid_bundle, tmp_path):
    path = tmp_path / "m.xml"
    export(load(camvid_bundle), path, pictures=pictures_of(open_dataset("scenes", "val", None), (32, 48), 1))
    weights = path.with_suffix(".bin")
    values = bytearray(weights.read_bytes())
    values[1000] ^= 1
    weights.write_bytes(values)
    with pytest.raises(BundleError, match=r"m\.bin does not belong to m\.xml"):
        open_runtime(path)
    weights.unlink()
    with pytest.raises(BundleError, match=r"m\.bin is missing"):
        open_runtime(path)


def test_a_model_without_a_card_is_refused(file, tmp_path):
    if file.suffix == ".onnx":
        import onnx

        model = onnx.load(file)
        del model.metadata_props[:]
        onnx.save(model, tmp_path / file.name)
    else:
        import openvino

        parameter = openvino.opset13.parameter([1, 4], np.float32)
        openvino.save_model(openvino.Model([openvino.opset13.relu(parameter)], [parameter]), tmp_path / file.name)
    with pytest.raises(BundleError, match="carries no kerbseg card; make it with: kerbseg export"):
        open_runtime(tmp_path / file.name)


@pytest.mark.parametrize(
    ("package", "module", "extra"), [("onnxruntime", "onnx", "export"), ("openvino", "openvino", "openvino")]
)
def test_a_missing_engine_says_what_to_install(folder, package, module, extra, monkeypatch, camvid_bundle):
    path = folder / f"missing{'.onnx' if module == 'onnx' else '.xml'}"
    path.write_text("")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingExtra, match=rf"{package} is not installed; .*run: pip install .*\[{extra}\]'"):
        open_runtime(path)
