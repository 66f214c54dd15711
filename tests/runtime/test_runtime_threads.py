"""One runtime in several threads, in batches of many sizes, and before a fork."""

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from kerbseg.bundle import load
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.export.onnx import write_onnx
from kerbseg.export.openvino import write_openvino
from kerbseg.predict import Predictor
from kerbseg.runtime import IdsOnly, open_runtime
from kerbseg.runtime.openvino import COMPILED
from kerbseg.runtime.shared import CALLS, SharedRuntime, one_at_a_time, shared

THREADS = 8


@pytest.fixture(scope="module", params=[".safetensors", ".onnx", ".xml"])
def model(request, camvid_bundle, tmp_path_factory):
    if request.param == ".safetensors":
        return camvid_bundle
    path = tmp_path_factory.mktemp("threads") / f"m{request.param}"
    {".onnx": write_onnx, ".xml": write_openvino}[request.param](load(camvid_bundle), path, (32, 48))
    return path


def pictures(count, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, 32, 48, 3), np.uint8)


def test_eight_threads_get_the_ids_of_their_own_pictures(model):
    runtime = open_runtime(model, threads=1)
    batches = [pictures(1 + index % 2, index) for index in range(2 * THREADS)]
    expected = [(runtime(batch).copy(), runtime.logits(batch).copy()) for batch in batches]

    def all_right(index):
        ids, logits = expected[index]
        return all(
            (runtime(batches[index]) == ids).all() and (runtime.logits(batches[index]) == logits).all()
            for _ in range(5)
        )

    with ThreadPoolExecutor(THREADS) as threads:
        assert all(threads.map(all_right, range(len(batches))))


def test_a_predictor_is_shared_by_threads(model):
    predictor = Predictor(model)
    expected = [predictor(picture).ids for picture in pictures(THREADS)]
    with ThreadPoolExecutor(THREADS) as threads:
        seen = list(threads.map(lambda picture: predictor(picture).ids, pictures(THREADS)))
    assert all((one == other).all() for one, other in zip(seen, expected, strict=True))


def test_few_compiled_networks_are_kept_however_many_batch_sizes_come(camvid_bundle, tmp_path):
    write_openvino(load(camvid_bundle), tmp_path / "m.xml", (32, 48))
    runtime = open_runtime(tmp_path / "m.xml", threads=1)
    whole = runtime(pictures(7))
    for count in (1, 2, 3, 4, 5, 6, 7):
        assert (runtime(pictures(7)[:count]) == whole[:count]).all()
    assert runtime._request.cache_info().currsize == COMPILED < 7


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_runtime_from_before_a_fork_is_refused_rather_than_waited_for(model):
    runtime = open_runtime(model, threads=1)
    runtime(pictures(1))
    read, write = os.pipe()
    child = os.fork()
    if child == 0:  # nothing of pytest's may run here
        try:
            runtime(pictures(1))
            said = "it ran"
        except KerbsegError as error:
            said = str(error)
        os.write(write, said.encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        assert "was opened before a fork" in answer.read()
    os.waitpid(child, 0)


def test_no_picture_is_refused_by_all_alike(model):
    with pytest.raises(InputError, match=r"takes uint8 \[b h w 3\] RGB"):
        open_runtime(model)(np.empty((0, 32, 48, 3), np.uint8))


def test_nan_never_becomes_a_class(camvid_bundle):
    bundle = load(camvid_bundle)
    next(iter(bundle.model.parameters())).data[0] = float("nan")
    runtime = open_runtime(replace(bundle))
    for call in (runtime, runtime.with_confidence):
        with pytest.raises(KerbsegError, match="NaN or infinite"):
            call(pictures(1))


@pytest.fixture
def as_many_threads():
    """Torch's threads are those of the process."""
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("as_many_threads")
def test_calls_at_the_same_time_get_the_ids_of_one_after_another(model):
    runtime = open_runtime(model, threads=2)
    frames = pictures(12)[:, None]
    expected = [(runtime(each).copy(), *runtime.with_confidence(each)) for each in frames]
    several = shared(runtime)
    assert (several.calls, several.threads, several.size) == (CALLS, 2, runtime.size)
    with ThreadPoolExecutor(2 * CALLS) as threads:
        seen = list(threads.map(several, frames))
        sure = list(threads.map(several.with_confidence, frames))
        logits = list(threads.map(several.logits, frames))
    for ids, (same, confidence), (one, _, certain) in zip(seen, sure, expected, strict=True):
        np.testing.assert_array_equal(ids, one)
        np.testing.assert_array_equal(same, one)
        np.testing.assert_allclose(confidence, certain, atol=1e-5)
    np.testing.assert_allclose(logits[3], runtime.logits(frames[3]), atol=1e-4)


@pytest.mark.usefixtures("as_many_threads")
def test_each_part_has_its_share_of_the_threads_and_leaves_torch_as_it_was(camvid_bundle, monkeypatch):
    runtime = open_runtime(camvid_bundle, threads=5)
    part = runtime.divided(2)[0]
    assert (part.threads, runtime.threads) == (2, 5)
    counted, forward = [], part._forward
    monkeypatch.setattr(part, "_forward", lambda image: counted.append(torch.get_num_threads()) or forward(image))
    picture = np.zeros((1, 32, 48, 3), np.uint8)
    part(picture)
    part.with_confidence(picture)
    assert counted == [2, 2]
    assert torch.get_num_threads() == 5
    monkeypatch.setattr(part, "_forward", lambda image: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        part(picture)
    assert torch.get_num_threads() == 5


class Busy:
    """A runtime that takes one call at a time, and counts those that it has at once."""

    card, name, device, precision, size, threads = None, "busy", "cpu", "float32", None, 1

    def __init__(self, together):
        self._together, self._busy = together, False

    def __call__(self, pictures):
        assert not self._busy
        self._busy = True
        self._together.wait()
        self._busy = False
        return pictures[..., 0]  # of what is no array: TypeError


def test_every_part_is_at_work_and_none_has_two_calls():
    together = threading.Barrier(3, timeout=30)  # which three calls at once get through, and no less
    several = SharedRuntime([Busy(together) for _ in range(3)])
    frames = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1, 1)
    with ThreadPoolExecutor(6) as threads:
        seen = list(threads.map(several, frames))
    assert [int(ids) for ids in np.ravel(seen)] == list(range(12))


def test_a_part_is_free_again_after_an_error_and_may_have_no_confidence():
    several = SharedRuntime([Busy(threading.Barrier(1))])
    with pytest.raises(TypeError):
        several(None)
    assert not several(np.zeros((1, 4, 6, 3), np.uint8)).any()
    with pytest.raises(IdsOnly):
        several.with_confidence(np.zeros((1, 4, 6, 3), np.uint8))


def test_one_call_waits_for_another_and_what_can_be_divided_still_can():
    alone = one_at_a_time(Busy(threading.Barrier(1)))
    frames = np.arange(12, dtype=np.uint8).reshape(12, 1, 1, 1, 1)
    with ThreadPoolExecutor(6) as threads:
        assert [int(ids) for ids in np.ravel(list(threads.map(alone, frames)))] == list(range(12))
    assert shared(alone) is None
    parts = [Busy(threading.Barrier(1)) for _ in range(2)]
    whole = Busy(threading.Barrier(1))
    whole.threads, whole.divided = 2, lambda calls: parts[:calls]
    assert shared(one_at_a_time(whole)).calls == 2


def test_what_has_one_thread_or_no_parts_or_a_gpu_is_not_shared(camvid_bundle):
    divided = SimpleNamespace(divided=lambda calls: [])
    assert shared(SimpleNamespace(device="cpu", threads=8)) is None
    assert shared(SimpleNamespace(device="cpu", threads=8, **vars(divided)), 1) is None
    assert shared(SimpleNamespace(device="cpu", threads=2, **vars(divided)), 3) is None
    assert shared(SimpleNamespace(device="cpu", threads=1, **vars(divided))) is None
    assert shared(SimpleNamespace(device="cuda", threads=8, **vars(divided))) is None
