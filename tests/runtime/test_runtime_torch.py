"""The torch runtime, and the size at which a picture is looked at."""

import numpy as np
import pytest
import torch

from kerbseg.bundle import Bundle, load
from kerbseg.core.errors import BundleError, InputError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.runtime import network_size, open_runtime, segment, segment_with_confidence
from kerbseg.runtime.checks import checked_threads
from kerbseg.runtime.segment import WIDEST


@pytest.fixture
def runtime(camvid_bundle):
    return open_runtime(camvid_bundle)


def picture(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def test_ids_are_the_networks_argmax(camvid_bundle, runtime):
    shown = picture(32, 48)
    image = torch.from_numpy(shown).permute(2, 0, 1)[None].float() / 255
    with torch.no_grad():
        expected = load(camvid_bundle).model(image).argmax(1)
    assert (runtime(shown[None]) == expected.numpy()).mean() > 0.999


@pytest.mark.parametrize("size", [(1, 1), (3, 5), (31, 47), (33, 100), (100, 7), (64, 96)])
@pytest.mark.parametrize("input_size", ["trained", "own", (40, 56)])
def test_any_picture_gets_ids_of_its_own_size(runtime, size, input_size):
    ids = segment(runtime, picture(*size), input_size)
    assert ids.shape == size
    assert ids.dtype == np.uint8
    assert ids.max() < 11


def test_an_output_that_is_no_class_never_wins(camvid_bundle):
    bundle = load(camvid_bundle)
    labels = label_set("camvid")
    ten = type(labels)("ten", labels.classes[:10], labels.colors[:10])
    card = type(bundle.card)(bundle.card.model, ten, bundle.card.preprocessing, (32, 48), 11)
    *_, bias = bundle.model.parameters()
    assert bias.shape == (11,)
    with torch.no_grad():
        bias[-1] += 1e6
    ids = open_runtime(Bundle(bundle.model, card))(picture(32, 48)[None])
    assert ids.max() < 10


def test_working_size_keeps_proportions_and_bounds_strips(runtime):
    assert network_size((64, 96), runtime) == (32, 48)
    assert network_size((720, 1280), runtime) == (32, 57)
    assert network_size((10, 4000), runtime)[1] <= WIDEST * 48
    assert network_size((720, 1280), runtime, "own") == (720, 1280)
    assert network_size((720, 1280), runtime, (16, 24)) == (16, 24)


@pytest.mark.parametrize(("input_size", "message"), [("owned", "did you mean 'own'"), ((0, 24), "0x24 has no pixels")])
def test_a_size_that_is_none_is_refused(input_size, message, runtime):
    with pytest.raises(KerbsegError, match=message):
        segment(runtime, picture(32, 48), input_size)


def test_confidence_is_the_probability_of_the_class(runtime):
    shown = picture(32, 48)
    ids, confidence = segment_with_confidence(runtime, shown)
    assert (ids == segment(runtime, shown)).all()
    probabilities = runtime.upsampled_logits(shown[None]).softmax(1)[0].numpy()
    np.testing.assert_allclose(confidence, np.take_along_axis(probabilities, ids[None].astype(int), 0)[0], rtol=1e-6)


@pytest.mark.parametrize("shown", [picture(8, 8), picture(8, 8)[None, :, :, :1], picture(8, 8)[None].astype(float)])
def test_other_arrays_are_refused(runtime, shown):
    with pytest.raises(InputError, match="uint8"):
        runtime(shown)


def test_what_cannot_be_opened_is_named(camvid_bundle, tmp_path):
    with pytest.raises(BundleError, match=r"is a folder without best\.safetensors"):
        open_runtime(tmp_path)
    with pytest.raises(BundleError, match="does not exist"):
        open_runtime(tmp_path / "x.safetensors")
    (tmp_path / "x.pt").write_bytes(b"1")
    with pytest.raises(BundleError, match="models are"):
        open_runtime(tmp_path / "x.pt")
    with pytest.raises(KerbsegError, match="did you mean 'torch'"):
        open_runtime(camvid_bundle, engine="torhc")
    with pytest.raises(KerbsegError, match="is not there"):
        open_runtime(camvid_bundle, device="cuda:77")


@pytest.mark.parametrize("how", ["torch-eager", "torch-compiled"])
def test_layouts_and_compilers_change_no_class(how, camvid_bundle):
    other = open_runtime(camvid_bundle, engine=how)
    assert other.name == how
    shown = picture(32, 48)[None]
    assert (other(shown) == open_runtime(camvid_bundle)(shown)).mean() > 0.99


def test_a_precision_is_explicit(camvid_bundle):
    shown = picture(32, 48)[None]
    reduced = open_runtime(camvid_bundle, precision="bfloat16")
    assert reduced.precision == "bfloat16"
    assert (reduced(shown) == open_runtime(camvid_bundle)(shown)).mean() > 0.95
    with pytest.raises(KerbsegError, match="did you mean 'bfloat16'"):
        open_runtime(camvid_bundle, precision="bfloat")


def test_its_modules_are_timed_and_the_network_alone(runtime):
    layers = runtime.layer_times(picture(32, 48)[None], 2)
    assert {"output", "downsample.0.conv"} <= {row.name for row in layers}
    assert all(row.ms > 0 for row in layers)
    assert runtime.forward_only(picture(32, 48)[None])().shape == (1, 11, 32, 48)


@pytest.mark.parametrize("threads", [0, -1, 1025, 10**20])
def test_a_number_of_threads_that_no_machine_has_is_refused(threads):
    with pytest.raises(KerbsegError, match=f"threads is {threads}; give at least 1 and at most 1024"):
        checked_threads(threads)
    assert checked_threads(1024) == 1024
