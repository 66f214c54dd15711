"""Weights in half the bytes come back as the same numbers, or are left alone."""

import copy

import pytest
import safetensors.torch
import torch
from torch import nn

from kerbseg.bundle import METADATA_KEY, digest, load, random_bundle, save
from kerbseg.core.errors import BundleError
from kerbseg.core.half import narrowed, round_to_half, widened
from kerbseg.core.labels import label_set


def test_a_rounded_bundle_takes_half_the_bytes_and_comes_back_bit_for_bit(tmp_path):
    bundle = random_bundle("erfnet", label_set("camvid"), seed=0)
    save(bundle, tmp_path / "full.safetensors")
    round_to_half(bundle.model)
    save(bundle, tmp_path / "half.safetensors")
    full, half = ((tmp_path / f"{name}.safetensors").stat().st_size for name in ("full", "half"))
    assert half < 0.52 * full
    loaded = load(tmp_path / "half.safetensors")
    assert digest(loaded.model.state_dict()) == digest(bundle.model.state_dict())
    assert {value.dtype for value in loaded.model.parameters()} == {torch.float32}
    save(loaded, tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "half.safetensors").read_bytes()


def test_weights_that_float16_does_not_hold_stay_as_they_are(tmp_path):
    bundle = random_bundle("mininet_v2_cpu", label_set("camvid"), seed=0)
    save(bundle, tmp_path / "full.safetensors")
    kept = safetensors.torch.load_file(tmp_path / "full.safetensors")
    assert torch.float16 not in {value.dtype for value in kept.values()}
    assert digest(load(tmp_path / "full.safetensors").model.state_dict()) == digest(bundle.model.state_dict())


def test_only_kernels_are_rounded_and_none_becomes_infinite():
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))
    with torch.no_grad():
        net[1].running_var.fill_(1e6)  # beyond float16, as batch-norm's may be
        net[2].weight.fill_(1e6)
    before = copy.deepcopy(net.state_dict())
    round_to_half(net)
    after = net.state_dict()
    changed = [key for key in after if not torch.equal(after[key], before[key])]
    assert changed == ["0.weight"]
    assert torch.allclose(after["0.weight"], before["0.weight"], rtol=2**-11)
    stored = narrowed(after)
    assert {key for key, value in stored.items() if value.dtype == torch.float16} == {"0.weight"}
    assert digest(widened(stored)) == digest(after)


def test_a_file_in_float16_whose_digest_is_of_other_numbers_is_refused(tmp_path):
    bundle = random_bundle("mininet_v2_cpu", label_set("camvid"), seed=0)
    round_to_half(bundle.model)
    path = tmp_path / "x.safetensors"
    save(bundle, path)
    with safetensors.safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    stored = safetensors.torch.load_file(path)
    key = next(key for key, value in stored.items() if value.dtype == torch.float16)
    stored[key] = stored[key] + 1
    path.unlink()
    safetensors.torch.save_file(stored, path, metadata={METADATA_KEY: metadata[METADATA_KEY]})
    with pytest.raises(BundleError, match="is damaged"):
        load(path)
