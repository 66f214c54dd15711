"""One runtime in several threads, in batches of many sizes, and before a fork."""

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest

from kerbseg.bundle import load
from kerbseg.core.errors import InputError, KerbsegError
from kerbseg.export.onnx import write_onnx
from kerbseg.export.openvino import write_openvino
from kerbseg.predict import Predictor
from kerbseg.runtime import open_runtime
from kerbseg.runtime.openvino import COMPILED

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
