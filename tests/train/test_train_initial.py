"""What a training starts from: our classifiers, a user's, Darknet's; and nothing that does not fit."""

from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import nn

import kerbseg.models as models
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.models.classifiers import CLASSIFIERS, create_classifier
from kerbseg.train.initial import ClassifierCard, load_initial_weights, save_classifier

STARTS = [
    ("erfnet_encoder", {}, "erfnet", {}, "encoder."),
    ("erfnet_encoder", {}, "erfnet_encoder", {}, "encoder."),
    ("erfnet_grouped_encoder", {"groups": 2}, "erfnet_dg2_light", {}, "encoder."),
    ("erfnet_grouped_encoder", {"groups": 4, "near": 2, "far": 4}, "erfnet_dg4", {}, "encoder."),
    ("mobilenet_v2", {}, "liteseg_mobilenet_v2", {"output_stride": 16}, "backbone."),
    ("shufflenet", {}, "liteseg_shufflenet", {}, "backbone."),
    ("darknet19", {}, "liteseg_darknet19", {}, "backbone."),
]


def classifier(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    net = create_classifier(name, 3, **options)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):  # else each is like the other
            for value in (module.weight, module.bias, module.running_mean, module.running_var):
                nn.init.uniform_(value, 0.5, 1.5)
    return net


def assert_started(net: nn.Module, source: nn.Module, prefix: str) -> None:
    own, given = net.state_dict(), source.state_dict()
    taken = [key for key in own if key.startswith(prefix)]
    assert taken
    for key in taken:
        assert torch.equal(own[key], given[key]), key


def test_every_classifier_starts_a_network():
    assert {name for name, *_ in STARTS} == set(CLASSIFIERS)


@pytest.mark.parametrize(("name", "options", "network", "more", "prefix"), STARTS)
def test_a_classifier_of_ours_starts_its_network(name, options, network, more, prefix, tmp_path):
    source, net = classifier(name, **options), models.create_model(network, 5, **more)
    head = {key: value.clone() for key, value in net.state_dict().items() if not key.startswith(prefix)}
    save_classifier(source, ClassifierCard(name, ("a", "b", "c"), options), tmp_path / "c.safetensors")
    load_initial_weights(net, tmp_path / "c.safetensors", prefix)
    assert_started(net, source, prefix)
    assert all(torch.equal(net.state_dict()[key], value) for key, value in head.items())


@pytest.mark.parametrize("name", ["mobilenet_v2", "shufflenet"])
def test_a_users_classifier_starts_it_whatever_its_names_are(name, tmp_path):
    source, net = classifier(name), models.create_model(f"liteseg_{name}", 5)
    renamed = {  # as an old torch wrote them, without counters
        f"module.features{i}.{key.rpartition('.')[2]}": value
        for i, (key, value) in enumerate(source.state_dict().items())
        if not key.endswith("num_batches_tracked")
    }
    torch.save({"state_dict": renamed}, tmp_path / "user.pth")
    load_initial_weights(net, tmp_path / "user.pth", "backbone.")
    assert_started(net, source, "backbone.")


def test_safetensors_without_a_card_are_taken_by_name(tmp_path):
    source, net = classifier("mobilenet_v2"), models.create_model("liteseg_mobilenet_v2", 5)
    state = source.state_dict()
    safetensors.torch.save_file(state, tmp_path / "ours.safetensors")
    load_initial_weights(net, tmp_path / "ours.safetensors", "backbone.")
    assert_started(net, source, "backbone.")
    renamed = {key.replace("backbone", "body"): value for key, value in state.items()}
    safetensors.torch.save_file(renamed, tmp_path / "theirs.safetensors")
    with pytest.raises(BundleError, match=r"lacks 'backbone\..*torch\.save"):
        load_initial_weights(net, tmp_path / "theirs.safetensors", "backbone.")


def test_a_users_classifier_of_another_network_is_refused(tmp_path):
    torch.save(classifier("shufflenet").state_dict(), tmp_path / "s.pth")
    with pytest.raises(BundleError, match="is it another network"):
        load_initial_weights(models.create_model("liteseg_mobilenet_v2"), tmp_path / "s.pth", "backbone.")


def test_layers_in_another_order_are_refused(tmp_path):
    state = list(classifier("mobilenet_v2").state_dict().items())
    state[6:18] = reversed(state[6:18])
    torch.save(dict(state), tmp_path / "m.pth")
    with pytest.raises(BundleError, match="another order"):
        load_initial_weights(models.create_model("liteseg_mobilenet_v2"), tmp_path / "m.pth", "backbone.")


def darknet_file(net: nn.Module, path: Path, version: tuple[int, int]) -> None:
    """As Darknet writes: version, pictures seen, then for each layer shift, scale, mean, variance, weights."""
    parts = [np.array([*version, 0], "<i4").tobytes(), b"\1" * (8 if version >= (0, 2) else 4)]
    for unit in net.modules():
        if isinstance(unit, nn.Sequential) and len(unit) == 3 and isinstance(unit[1], nn.BatchNorm2d):
            norm = unit[1]
            tensors = (norm.bias, norm.weight, norm.running_mean, norm.running_var, unit[0].weight)
            parts += [tensor.detach().numpy().astype("<f4").tobytes() for tensor in tensors]
    head = np.zeros(1024 * 1000 + 1000, "<f4")  # of ImageNet's classes
    path.write_bytes(b"".join([*parts, head.tobytes()]))


@pytest.mark.parametrize("version", [(0, 1), (0, 2)])
def test_darknets_own_file_starts_darknet(version, tmp_path):
    source, net = classifier("darknet19"), models.create_model("liteseg_darknet19", 5)
    darknet_file(source, tmp_path / "darknet19_448.weights", version)
    load_initial_weights(net, tmp_path / "darknet19_448.weights", "backbone.")
    assert_started(net, source, "backbone.")


@pytest.mark.parametrize("content", [b"", b"\0" * 5, b"\0" * 4000])
def test_a_damaged_darknet_file_is_named(content, tmp_path):
    (tmp_path / "d.weights").write_bytes(content)
    with pytest.raises(BundleError, match=r"d\.weights"):
        load_initial_weights(models.create_model("liteseg_darknet19"), tmp_path / "d.weights", "backbone.")


@pytest.mark.parametrize("name", ["none.safetensors", "none.pth", "none.weights"])
def test_a_file_that_is_not_there_is_named(name, tmp_path):
    with pytest.raises(BundleError, match="does not exist"):
        load_initial_weights(models.create_model("liteseg_darknet19"), tmp_path / name, "backbone.")


def test_a_damaged_safetensors_is_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"\1" * 100)
    with pytest.raises(BundleError, match=r"no whole \.safetensors"):
        load_initial_weights(models.create_model("erfnet"), tmp_path / "x.safetensors", "encoder.")


def test_a_part_that_the_network_lacks_is_named(tmp_path):
    with pytest.raises(KerbsegError, match=r"no weights under backbone\.; it has encoder\., decoder\."):
        load_initial_weights(models.create_model("erfnet"), tmp_path / "x.safetensors", "backbone.")


def test_several_parts_can_be_taken(tmp_path):
    source = models.create_model("mininet_v2_cpu", 7)
    card = ClassifierCard("any", ())
    save_classifier(source, card, tmp_path / "m.safetensors")
    net = models.create_model("mininet_v2_cpu", 5)
    load_initial_weights(net, tmp_path / "m.safetensors", ("downsample.", "features."))
    for prefix in ("downsample.", "features."):
        assert_started(net, source, prefix)
    with pytest.raises(BundleError, match="another class count"):
        load_initial_weights(net, tmp_path / "m.safetensors", ("features.", "output."))


def test_weights_that_are_not_finite_start_nothing(tmp_path):
    source, net = classifier("mobilenet_v2"), models.create_model("liteseg_mobilenet_v2", 5)
    key = next(key for key in source.state_dict() if key.endswith("running_var"))
    source.state_dict()[key][0] = float("inf")
    with pytest.raises(BundleError, match="holds NaN or infinite values"):
        save_classifier(source, ClassifierCard("mobilenet_v2", ("a", "b", "c")), tmp_path / "c.safetensors")
    assert not (tmp_path / "c.safetensors").exists()
    safetensors.torch.save_file(source.state_dict(), tmp_path / "plain.safetensors")
    with pytest.raises(BundleError, match=rf"plain\.safetensors: '{key}' holds NaN or infinite values"):
        load_initial_weights(net, tmp_path / "plain.safetensors", "backbone.")
    wide = {name: value.double() for name, value in classifier("mobilenet_v2").state_dict().items()}
    wide[key][0] = 1e300  # finite until it is float32
    torch.save(wide, tmp_path / "wide.pth")
    with pytest.raises(BundleError, match=rf"'{key}' holds NaN or infinite values"):
        load_initial_weights(net, tmp_path / "wide.pth", "backbone.")
    assert all(value.isfinite().all() for value in net.state_dict().values())


def test_a_classifier_whose_bits_have_changed_starts_nothing(tmp_path):
    path = tmp_path / "c.safetensors"
    save_classifier(classifier("mobilenet_v2"), ClassifierCard("mobilenet_v2", ("a", "b", "c")), path)
    data = bytearray(path.read_bytes())
    data[-1000] ^= 1
    path.write_bytes(data)
    with pytest.raises(BundleError, match="is damaged: its weights or its card are not those saved"):
        load_initial_weights(models.create_model("liteseg_mobilenet_v2", 5), path, "backbone.")
