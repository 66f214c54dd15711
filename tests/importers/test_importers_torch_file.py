"""PyTorch files: unwrapped alike however they were saved; nothing in them runs; damage is named in one line."""

import os
import zipfile

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


@pytest.mark.parametrize("prefix", ["", "module.", "model.", "_layers.", "module.model.", "model.module."])
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
        ({"bn.bias": torch.ones(2), "model.bn.bias": torch.ones(2)}, "holds 'bn.bias' twice, once as 'model.bn.bias'"),
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
        assert "copy it again" in str(caught.value) or "save its state_dict alone" in str(caught.value)
    path.write_bytes(b"")
    with pytest.raises(BundleError, match=r"net\.pth is empty; copy it again$"):
        read_state_dict(path)
    path.write_bytes(b"hello\n" * 50)
    with pytest.raises(
        BundleError, match=r"cannot be read as a PyTorch file \(KeyError\); it is damaged or foreign: copy"
    ):
        read_state_dict(path)


def test_a_file_that_is_closed_to_us_is_no_damaged_one(tmp_path, monkeypatch):
    torch.save(WEIGHTS, tmp_path / "net.pth")
    monkeypatch.setattr("os.access", lambda *_: False)  # root may read everything
    with pytest.raises(BundleError, match=r"net\.pth may not be read by you; change its permissions"):
        read_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda: torch.eye(3).to_sparse(), "torch.sparse_coo"),
        (lambda: torch.eye(3).to_sparse_csr(), "torch.sparse_csr"),
        (lambda: torch.quantize_per_tensor(torch.ones(3), 0.1, 0, torch.qint8), "quantized"),
        (lambda: torch.ones(3, device="meta"), "meta"),
        (lambda: torch.ones(3).to(torch.float8_e4m3fn), "torch.float8_e4m3fn"),
        (lambda: torch.ones(3, dtype=torch.complex64), "torch.complex64"),
    ],
)
@pytest.mark.filterwarnings("ignore")  # torch calls some of these kinds beta or old
def test_tensors_that_are_no_plain_numbers_are_named(make, named, tmp_path):
    torch.save({"conv.weight": make()}, tmp_path / "net.pth")
    with pytest.raises(BundleError, match=r"'conv\.weight' is a tensor of .*; save plain weights") as caught:
        read_state_dict(tmp_path / "net.pth")
    assert named in str(caught.value)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_tensor_larger_than_its_numbers_is_refused(zipped, tmp_path):
    torch.save({"a": torch.ones(1).expand(10**6, 10**7)}, tmp_path / "net.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(BundleError, match=r"claims .* more than the file holds"):
        read_state_dict(tmp_path / "net.pth")


def test_an_archive_that_unpacks_to_more_than_it_holds_is_refused(tmp_path):
    torch.save({"a": torch.zeros(10**6)}, tmp_path / "net.pth")
    bomb = tmp_path / "bomb.pth"
    with zipfile.ZipFile(tmp_path / "net.pth") as plain, zipfile.ZipFile(bomb, "w", zipfile.ZIP_DEFLATED) as packed:
        for name in plain.namelist():
            packed.writestr(name, plain.read(name))
    with pytest.raises(BundleError, match=r"is compressed, and unpacks to 4,\d+,\d+ bytes; write it anew"):
        read_state_dict(bomb)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX feature")
def test_what_is_no_file_is_said(tmp_path):
    os.mkfifo(tmp_path / "pipe.pth")
    for path in (tmp_path, tmp_path / "pipe.pth"):
        with pytest.raises(BundleError, match="is a folder, a pipe or a device, not a file"):
            read_state_dict(path)
    with pytest.raises(BundleError, match="cannot be read"):
        read_state_dict(tmp_path / ("x" * 5000))


def test_a_flipped_bit_of_the_weights_is_refused(tmp_path):
    path = tmp_path / "net.pth"
    torch.save({"a": torch.arange(1000.0)}, path)
    data = bytearray(path.read_bytes())
    at = data.index(torch.tensor([500.0, 501.0]).numpy().tobytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match=r"data/0' in it does not match its checksum; copy it again"):
        read_state_dict(path)
