"""The table of engines: what is registered there is opened, exported and named everywhere; options are honored."""

import json
import re
import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch
from typing_extensions import get_protocol_members

import kerbseg.models as models
from kerbseg.bundle import Bundle, load, save
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.data import open_dataset
from kerbseg.export import export, export_int8, pictures_of
from kerbseg.predict.temporal.vote import TemporalVote
from kerbseg.runtime import ENGINES, Engine, Profilable, Runtime, RuntimeOptions, open_runtime
from kerbseg.runtime.engines import devices, files_of, size_bytes
from kerbseg.runtime.torch import FlipAveraged, TorchRuntime


def write_copy(bundle, path, size, logits):
    save(Bundle(bundle.model, replace(bundle.card, input_size=size)), path.with_suffix(".safetensors"))
    path.write_text("this engine is a copy of torch")


def open_copy(path, options):
    runtime = TorchRuntime(load(path.with_suffix(".safetensors")), options)
    runtime.name = "copy"
    return runtime


SMALL = ("litert", "executorch", "ncnn")  # test_runtime_small_engines.py
COPY = Engine("copy", ".copy", open_copy, companions=(".safetensors",), write=f"{__name__}:write_copy")


@pytest.fixture
def copying(monkeypatch):
    """An engine of this test's own, in the table and nowhere else."""
    monkeypatch.setitem(ENGINES, "copy", COPY)


def shown(size=(32, 48), count=2):
    return pictures_of(open_dataset("scenes", "val", None), size, count)


def pictures(*shape):
    return np.random.default_rng(0).integers(0, 256, (*shape, 3), np.uint8)


def test_an_engine_in_the_table_is_exported_for_and_run(copying, camvid_bundle, tmp_path):
    path = tmp_path / "new" / "m.copy"
    agreement = export(load(camvid_bundle), path, (40, 56), pictures=shown((40, 56)))
    assert agreement.equal == 1
    assert {one.name for one in path.parent.iterdir()} == {"m.copy", "m.safetensors"}
    runtime = open_runtime(path)
    assert (runtime.name, runtime.card.input_size) == ("copy", (40, 56))
    assert (runtime(pictures(1, 40, 56)) == open_runtime(camvid_bundle)(pictures(1, 40, 56))).all()
    assert files_of(path)[-1] == path
    assert size_bytes(path) == sum(one.stat().st_size for one in path.parent.iterdir())


def test_an_engine_in_the_table_is_named_by_what_is_refused(copying, camvid_bundle, tmp_path):
    with pytest.raises(KerbsegError, match=r"choose \.onnx or \.xml or .*\.copy"):
        export(load(camvid_bundle), tmp_path / "m.pt", pictures=shown())
    with pytest.raises(KerbsegError, match="did you mean 'copy'"):
        open_runtime(camvid_bundle, engine="copi")
    (tmp_path / "m.pt").write_text("")
    with pytest.raises(BundleError, match=r"models are .*\.copy files"):
        open_runtime(tmp_path / "m.pt")
    with pytest.raises(KerbsegError, match=r"runs on torch or torch-eager or torch-compiled, not on copy"):
        open_runtime(camvid_bundle, engine="copy")
    scenes = open_dataset("scenes", "val", None)
    bundle = load(camvid_bundle)
    bundle = Bundle(bundle.model, replace(bundle.card, labels=scenes.labels, outputs=len(scenes.labels)))
    with pytest.raises(KerbsegError, match=r"\.copy files are not brought to int8; choose \.onnx or \.xml"):
        export_int8(bundle, tmp_path / "m.copy", calibration=scenes, eval_set=scenes)


@pytest.mark.usefixtures("timed_here")
def test_an_engine_in_the_table_is_in_commands_and_their_help(copying, camvid_bundle, tmp_path, capsys):
    path, figures = tmp_path / "m.copy", tmp_path / "p.json"
    main(["export", str(camvid_bundle), "-o", str(path)])
    main(["profile", str(path), "--runtime", "copy", "--runs", "1", "--json", str(figures)])
    measured = json.loads(figures.read_text())
    assert measured["protocol"]["runtime"] == "copy"
    assert measured["size_bytes"] == size_bytes(path)
    capsys.readouterr()
    for command, word in (("export", ".copy"), ("profile", "copy"), ("evaluate", "copy"), ("predict", "copy")):
        main([command, "--help"])
        assert re.search(rf"[\s,]{re.escape(word)}\b", capsys.readouterr().out), f"{command} --help"
    assert devices() == ["cpu", "cuda (.safetensors, .onnx)", "tensorrt (.onnx)"]


@pytest.fixture(scope="module")
def files(camvid_bundle, tmp_path_factory):
    """The file of each kind that an engine of ours runs."""
    folder = tmp_path_factory.mktemp("engines")
    for suffix in {engine.suffix for engine in ENGINES.values() if engine.write and engine.name not in SMALL}:
        export(load(camvid_bundle), folder / f"m{suffix}", pictures=shown())
    return {".safetensors": camvid_bundle} | {path.suffix: path for path in folder.iterdir()}


def is_runtime(runtime: Runtime) -> bool:
    """Whether all that callers use is there, and is what the protocol says."""
    for member in get_protocol_members(Runtime):
        assert hasattr(runtime, member), f"it lacks {member!r}, which every runtime has"
    batch = pictures(2, 32, 48)
    ids, logits = runtime(batch), runtime.logits(batch)
    assert (ids.shape, ids.dtype) == ((2, 32, 48), np.uint8)
    assert (logits.shape[:2], logits.dtype) == ((2, len(runtime.card.labels)), np.float32)
    assert isinstance(logits, np.ndarray)
    assert logits.flags.c_contiguous
    assert isinstance(runtime.name, str)
    assert (runtime.device, runtime.precision) == ("cpu", "float32")
    assert runtime.threads >= 1
    assert runtime.size in (None, (32, 48))
    return True


COMPILED = pytest.param("torch-compiled", marks=pytest.mark.slow)  # a minute of compiling


@pytest.mark.parametrize(
    "name", [COMPILED if name == "torch-compiled" else name for name in ENGINES if name not in SMALL]
)
def test_every_engine_holds_the_whole_protocol(name, files, camvid_bundle):
    runtime = open_runtime(files[ENGINES[name].suffix], engine=name)
    assert is_runtime(runtime)
    assert runtime.name == name
    assert isinstance(runtime, Profilable)
    runtime.forward_only(pictures(1, 32, 48))()
    assert runtime.synchronize() is None
    net = load(camvid_bundle).model
    stride = models.card(runtime.card.model).stride
    assert (32 % stride, 48 % stride) == (0, 0)
    with torch.no_grad():
        image = torch.from_numpy(pictures(2, 32, 48)).permute(0, 3, 1, 2) / 255
        np.testing.assert_allclose(runtime.logits(pictures(2, 32, 48)), net.logits(image).numpy(), atol=1e-3)


def test_what_surrounds_a_runtime_holds_the_protocol_too(camvid_bundle):
    assert is_runtime(TemporalVote(open_runtime(camvid_bundle), 0.7))
    runtime = FlipAveraged(open_runtime(camvid_bundle))
    assert is_runtime(runtime)
    batch = pictures(1, 30, 50)
    probabilities = torch.from_numpy(runtime.logits(batch)).softmax(1)
    assert torch.allclose(probabilities, runtime.probabilities(batch), atol=1e-6)


@pytest.mark.parametrize("name", ["onnx", "openvino"])
def test_the_layout_of_the_logits_is_that_of_the_table(name, files, monkeypatch):
    batch, path = pictures(1, 32, 48), files[ENGINES[name].suffix]
    before = open_runtime(path)
    monkeypatch.setitem(ENGINES, name, replace(ENGINES[name], logits_layout="nchw"))
    after = open_runtime(path)
    assert before.forward_only(batch)().shape[-1] == 11
    assert after.forward_only(batch)().shape[1] == 11
    np.testing.assert_allclose(after.logits(batch), before.logits(batch), atol=1e-6)
    assert (after(batch) == before(batch)).all()


# ---- options


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"threads": 7}, "threads 7 cannot be had of a runtime that was opened with 1"),
        ({"device": "cuda"}, "device 'cuda' cannot be had"),
        ({"precision": "bfloat16"}, "precision 'bfloat16' cannot be had of a runtime that was opened with 'float32'"),
        ({"engine": "onnx"}, "engine 'onnx' cannot be had of a runtime that was opened with 'torch'"),
    ],
)
def test_an_opened_runtime_refuses_what_it_was_not_opened_with(keywords, message, camvid_bundle):
    runtime = open_runtime(camvid_bundle, threads=1)
    with pytest.raises(KerbsegError, match=message):
        open_runtime(runtime, **keywords)
    with pytest.raises(KerbsegError, match=message):
        open_runtime(runtime, RuntimeOptions(**keywords))


def test_an_opened_runtime_takes_what_it_was_opened_with(camvid_bundle):
    runtime = open_runtime(camvid_bundle, RuntimeOptions(threads=1, precision="bfloat16"))
    assert open_runtime(runtime) is runtime
    assert open_runtime(runtime, threads=1, device="cpu", precision="bfloat16", engine="torch") is runtime


def test_a_device_that_is_named_is_compared_even_where_it_is_the_default(camvid_bundle):
    runtime = open_runtime(camvid_bundle)
    runtime.device = "cuda"
    assert open_runtime(runtime) is runtime
    with pytest.raises(KerbsegError, match="device 'cpu' cannot be had of a runtime that was opened with 'cuda'"):
        open_runtime(runtime, device="cpu")


@pytest.mark.parametrize("precision", ["float16", "int8"])
def test_a_precision_that_an_engine_does_not_compute_in_is_refused(precision, files):
    for name in ("onnx", "openvino"):
        with pytest.raises(KerbsegError, match=f"not in {precision}"):
            open_runtime(files[ENGINES[name].suffix], precision=precision)


def test_threads_are_those_that_torch_has(camvid_bundle):
    assert open_runtime(camvid_bundle).threads == torch.get_num_threads()


@pytest.mark.parametrize("engine", ["torch", "torch-eager"])
def test_a_callers_network_stays_as_it_was(engine, camvid_bundle):
    bundle = load(camvid_bundle)
    bundle.model.train()
    before = {key: value.clone() for key, value in bundle.model.state_dict().items()}
    strides = {key: value.stride() for key, value in bundle.model.state_dict().items()}
    runtime = open_runtime(bundle, engine=engine, precision="bfloat16")
    runtime(pictures(1, 32, 48))
    assert bundle.model.training, "it was left in eval mode"
    after = bundle.model.state_dict()
    assert {key: value.stride() for key, value in after.items()} == strides, "it was left in channels last"
    assert all(torch.equal(after[key], value) and after[key].dtype == value.dtype for key, value in before.items())
    ids = runtime(pictures(1, 32, 48))
    with torch.no_grad():
        next(iter(bundle.model.parameters())).mul_(-3)
    assert (runtime(pictures(1, 32, 48)) == ids).all(), "the runtime follows what its caller does to the network"


def test_importing_the_room_loads_no_engine_and_no_torch():
    code = (
        "import sys, kerbseg.runtime\n"
        "heavy = {'torch', 'onnxruntime', 'onnx', 'openvino', 'nncf', 'numba'} & sys.modules.keys()\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=100)
