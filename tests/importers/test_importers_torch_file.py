"""PyTorch files: unwrapped alike however they were saved; nothing in them runs; damage is named in one line."""

import pytest
import torch

from kerbseg.core.errors import BundleError
from kerbseg.importers._torch_file import read_state_dict

WEIGHTS = {"conv.weight": torch.ones(2, 3), "bn.module.bias": torch.zeros(2)}


class Trap:
    """Runs code where a pickle is trusted."""

    sprung = False

    def __reduce__(self):
        return setattr, (Trap, "sprung", True)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrap", [dict, lambda w: {"state_dict": w, "epoch": 3}, lambda w: {"model_state_dict": w}])
@pytest.mark.parametrize("zipped", [True, False])
def test_weights_come_out_alike(prefix, wrap, zipped, tmp_path):
    content = wrap({f"{prefix}{key}": value for key, value in WEIGHTS.items()})
    torch.save(content, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    state = read_state_dict(tmp_path / "net.pth")
    assert list(state) == list(WEIGHTS)
    assert all(torch.equal(state[key], WEIGHTS[key]) for key in WEIGHTS)


def test_code_in_a_file_is_never_run(tmp_path):
    torch.save({"state_dict": WEIGHTS, "arguments": Trap()}, tmp_path / "net.pth")
    with pytest.raises(BundleError, match="never run here; save its state_dict alone"):
        read_state_dict(tmp_path / "net.pth")
    assert not Trap.sprung


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ([1, 2], "holds list, not the weights"),
        ({}, "holds dict, not the weights"),
        ({"epoch": 3}, "'epoch' is int, not a tensor"),
        ({"bn.bias": torch.tensor([1.0, torch.nan])}, "'bn.bias' holds NaN"),
    ],
)
def test_what_is_no_network_is_named(content, says, tmp_path):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(BundleError, match=says):
        read_state_dict(tmp_path / "net.pth")


def test_damage_anywhere_is_one_line(tmp_path):
    path = tmp_path / "net.pth"
    with pytest.raises(BundleError, match="does not exist"):
        read_state_dict(path)
    torch.save(WEIGHTS, path)
    whole = path.read_bytes()
    for content in (b"", b"not a file of weights", b"PK\x03\x04", *(whole[: len(whole) * n // 8] for n in range(1, 8))):
        path.write_bytes(content)
        with pytest.raises(BundleError) as caught:
            read_state_dict(path)
        assert "\n" not in str(caught.value)
