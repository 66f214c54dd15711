"""Bundles: what is loaded predicts as what was saved; whatever is no bundle gets one line and is never executed."""

import errno
import json
import os
import pickle
import re
import signal
import struct
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import safetensors
import safetensors.torch
import torch

from kerbseg import bundle as bundles
from kerbseg.bundle import (
    FORMAT,
    METADATA_KEY,
    Bundle,
    BundleCard,
    find_model,
    load,
    locate,
    random_bundle,
    read_card,
    save,
)
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError, KerbsegWarning
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import Preprocessing
from kerbseg.models import card as model_card
from kerbseg.models import create_model
from kinds import of_a_new_kind, slow_but_for

LABELS = label_set("camvid")


def bundle_of(name: str, seed: int = 0) -> Bundle:
    """A network of 11 classes, every weight and statistic of it random."""
    draw = torch.Generator().manual_seed(seed)
    model = create_model(name, len(LABELS)).eval()
    for key, value in model.state_dict().items():
        if value.is_floating_point():
            value *= 1 + 0.1 * torch.rand(value.shape, generator=draw)
            if key.endswith("running_mean"):
                value += 0.1 * torch.rand(value.shape, generator=draw)
    card = BundleCard(
        model=name,
        labels=LABELS,
        preprocessing=Preprocessing("bgr", (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)),
        input_size=(360, 480),
        outputs=len(LABELS),
        recipe={"epochs": 3, "optim": {"lr": 1e-3}},
        scores={"miou": 0.5, "class_iou": {"sky": None}},
        source="a test",
        versions={"torch": "2"},
    )
    return Bundle(model, card)


@pytest.fixture(scope="module")
def small() -> Bundle:
    return bundle_of("mininet_v2_cpu")


@pytest.fixture
def saved(small, tmp_path) -> Path:
    path = tmp_path / "saved.safetensors"
    save(small, path)
    return path


def write(path: Path, tensors=None, **changes) -> Path:
    """The file with other tensors, or a card with other entries (None: without the entry)."""
    card = json.loads(read_card(path).to_json()) | changes
    card = {key: value for key, value in card.items() if value is not None}
    tensors = safetensors.torch.load_file(path) if tensors is None else tensors
    path.unlink()  # it is mapped into memory
    safetensors.torch.save_file(tensors, path, metadata={METADATA_KEY: json.dumps(card)})
    return path


def refusal(path: Path) -> str:
    """The one line that answers a file that is no bundle."""
    with pytest.raises(BundleError) as caught:
        load(path)
    message = str(caught.value)
    assert str(path) in message
    assert "\n" not in message
    return message


@pytest.mark.parametrize("name", slow_but_for(of_a_new_kind()))
def test_what_is_loaded_predicts_bit_for_bit_as_what_was_saved(name, tmp_path):
    original = bundle_of(name)
    save(original, tmp_path / "a.safetensors")
    loaded = load(tmp_path / "a.safetensors")
    assert loaded.card == original.card
    assert not loaded.model.training
    side = max(64, 2 * model_card(name).stride)
    image = torch.rand(1, 3, side, 2 * side, generator=torch.Generator().manual_seed(1))
    with torch.inference_mode():
        expected = original.model(image)
        assert expected.isfinite().all()
        assert torch.equal(loaded.model(image), expected)


def test_card_alone_is_read(small, saved):
    assert read_card(saved) == small.card


def test_builder_options_are_kept(tmp_path):
    path = tmp_path / "a.safetensors"
    card = BundleCard("mininet_v2_cpu", LABELS, Preprocessing(), (8, 8), 11, options={"dropout": 0.125})
    save(Bundle(create_model("mininet_v2_cpu", 11, dropout=0.125), card), path)
    dropouts = {each.p for each in load(path).model.modules() if isinstance(each, torch.nn.Dropout)}
    assert dropouts == {0.125}


def test_void_output_is_kept_beyond_the_labels(tmp_path):
    path = tmp_path / "a.safetensors"
    card = BundleCard("mininet_v2_cpu", LABELS, Preprocessing(), (8, 8), 12)
    save(Bundle(create_model("mininet_v2_cpu", 12), card), path)
    assert load(path).model.output.out_channels == 12


def test_as_many_outputs_as_there_are_uint8_ids_and_no_more(saved):
    assert read_card(write(saved, outputs=256)).outputs == 256
    assert "257 outputs for 11 classes" in refusal(write(saved, outputs=257))


def test_as_many_classes_as_there_are_uint8_ids_beside_void():
    names, colors = [str(n) for n in range(256)], [(0, 0, 0)] * 256
    assert len(LabelSet("most", tuple(names[:255]), tuple(colors[:255]))) == 255
    with pytest.raises(KerbsegError, match="256 classes; ids are uint8, at most 255"):
        LabelSet("more", tuple(names), tuple(colors))


@pytest.mark.parametrize("kept", [0, 1, 7, 8, 9, 500, 0.3, 0.9, -1])
def test_truncated_file_is_refused(saved, kept):
    data = saved.read_bytes()
    saved.unlink()
    saved.write_bytes(data[: int(kept * len(data)) if isinstance(kept, float) else kept])
    assert "no whole .safetensors" in refusal(saved)


@pytest.mark.parametrize("seed", range(5))
def test_random_bytes_are_refused(tmp_path, seed):
    path = tmp_path / "noise.safetensors"
    draw = torch.Generator().manual_seed(seed)
    path.write_bytes(bytes(torch.randint(256, (5000,), generator=draw).tolist()))
    assert "no whole .safetensors" in refusal(path)


def test_missing_file_and_folder_are_named(tmp_path):
    assert "does not exist" in refusal(tmp_path / "none.safetensors")
    refusal(tmp_path)


def test_foreign_weights_without_a_card_are_refused(tmp_path):
    path = tmp_path / "foreign.safetensors"
    safetensors.torch.save_file({"weight": torch.zeros(3)}, path, metadata={"format": "pt"})
    assert "no kerbseg card; use: kerbseg import" in refusal(path)


class Malicious:
    """Unpickling it creates a file."""

    def __init__(self, victim: Path) -> None:
        self.victim = victim

    def __reduce__(self):
        return Path.touch, (self.victim,)


@pytest.mark.parametrize("name", ["model.pth", "model.safetensors"])
@pytest.mark.parametrize("writer", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))])
def test_pickle_never_runs(tmp_path, name, writer):
    victim = tmp_path / "ran"
    writer({"state_dict": Malicious(victim)}, tmp_path / name)
    assert "no whole .safetensors" in refusal(tmp_path / name)
    assert not victim.exists()
    pickle.loads(pickle.dumps(Malicious(victim)))  # it would have: the check above can fail
    assert victim.exists()


@pytest.mark.parametrize("text", ["", "{", "[]", "3", "null", '"card"', "{}", "[" * 100_000])
def test_damaged_card_is_refused(saved, text):
    tensors = safetensors.torch.load_file(saved)
    saved.unlink()
    safetensors.torch.save_file(tensors, saved, metadata={METADATA_KEY: text})
    assert "its card is damaged" in refusal(saved)


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("model", None, "model"),
        ("model", 3, "model"),
        ("labels", {"name": "x"}, "labels.classes"),
        ("labels", [], "labels"),
        ("preprocessing", {"channels": "hsv"}, "preprocessing.channels"),
        ("preprocessing", {"mean": [0, 0]}, "preprocessing.mean"),
        ("input_size", [360], "input_size"),
        ("input_size", [0, 480], "input size"),
        ("input_size", "360x480", "input_size"),
        ("outputs", "eleven", "outputs"),
        ("outputs", 10, "10 outputs for 11 classes"),
        ("outputs", 10**12, "outputs"),
        ("options", [], "options"),
        ("recipe", 7, "recipe"),
        ("color", "red", "unknown key 'color'"),
        ("format", None, "format"),
        ("format", "one", "damaged"),
    ],
)
def test_card_with_a_wrong_entry_names_it(saved, key, value, named):
    message = refusal(write(saved, **{key: value}))
    assert named in message
    assert "its card is damaged" in message


def test_card_of_inconsistent_labels_is_refused(saved):
    labels = {"name": "x", "classes": ["a", "b"], "colors": [[0, 0, 0]]}
    assert "2 classes, 1 colors" in refusal(write(saved, labels=labels))


def test_background_is_kept_and_older_cards_have_none(small, saved):
    labels = replace(LABELS, background=frozenset({"road", "sky"}))
    save(Bundle(small.model, replace(small.card, labels=labels)), saved)
    assert load(saved).card.labels.background == {"road", "sky"}
    card = json.loads(replace(small.card, labels=labels).to_json())
    del card["labels"]["background"]
    assert BundleCard.from_json(json.dumps(card), "old").labels == LABELS
    card["labels"]["background"] = ["roda"]
    with pytest.raises(BundleError, match="background 'roda' is no class; did you mean 'road'"):
        BundleCard.from_json(json.dumps(card), "damaged")


def test_newer_format_asks_for_an_update(saved):
    assert "newer kerbseg; run: pip install -U kerbseg" in refusal(write(saved, format=FORMAT + 1))


def test_unknown_network_is_answered_with_the_nearest(saved):
    assert "did you mean 'mininet_v2_cpu'?" in refusal(write(saved, model="mininet_v2_cpus"))


@pytest.mark.parametrize("options", [{"width": 3}, {"dropout": "much"}, {"dropout": 2}, {"classes": 3}])
def test_options_that_the_network_does_not_have_are_refused(saved, options):
    assert "network that cannot be made" in refusal(write(saved, options=options))


def test_other_class_count_names_the_tensor_and_both_shapes(saved):
    message = refusal(write(saved, outputs=19))
    assert "'output.weight' is [64, 11, 3, 3], the network needs [64, 19, 3, 3]; another class count" in message


def test_weights_of_another_network_are_refused(saved):
    assert "for a MiniNetV2" in refusal(write(saved, model="mininet_v2"))


def test_missing_and_unknown_weights_are_named(saved):
    tensors = safetensors.torch.load_file(saved)
    bias = tensors.pop("output.bias")
    assert "lacks 'output.bias'" in refusal(write(saved, tensors))
    assert "unknown 'extra'" in refusal(write(saved, {**tensors, "output.bias": bias, "extra": bias.clone()}))


def test_weights_of_another_type_are_refused(saved):
    tensors = safetensors.torch.load_file(saved)
    tensors["output.bias"] = tensors["output.bias"].to(torch.complex64)
    assert "'output.bias' is torch.complex64, the network needs torch.float32" in refusal(write(saved, tensors))


def test_header_that_claims_more_than_the_file_holds_is_refused(saved):
    data = saved.read_bytes()
    saved.unlink()
    saved.write_bytes(struct.pack("<Q", 2**62) + data[8:])
    assert "no whole .safetensors" in refusal(saved)


# ---- what became of the weights since they were saved


def flipped(path: Path, at: int, bit: int) -> Path:
    """The file with one bit of it changed."""
    data = bytearray(path.read_bytes())
    data[at] ^= 1 << bit
    path.unlink()  # it is mapped into memory
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("seed", range(40))
def test_one_flipped_bit_of_the_weights_is_refused(saved, seed):
    size = saved.stat().st_size
    begin = 8 + int.from_bytes(saved.read_bytes()[:8], "little")
    at, bit = begin + (seed * 2654435761) % (size - begin), seed % 8
    assert "is damaged" in refusal(flipped(saved, at, bit))


def test_a_flipped_bit_of_the_header_is_refused(saved):
    whole = saved.read_bytes()
    begin = 8 + int.from_bytes(whole[:8], "little")
    key = whole.index(b', \\"digest')
    for at in [*range(0, begin, 997), *range(key, key + 88, 4)]:  # anywhere, and in the digest itself
        refusal(flipped(saved, at, at // 4 % 8))
        saved.unlink()
        saved.write_bytes(whole)


def test_a_bundle_of_before_digests_loads(saved):
    loaded = load(write(saved))
    assert b"digest" not in saved.read_bytes()
    assert loaded.card == read_card(saved)


def test_a_network_that_computes_otherwise_since_says_so_of_older_files(tmp_path):
    path = tmp_path / "old.safetensors"
    save(random_bundle("espnet_c", label_set("camvid")), path)
    load(path)  # a warning would be an error
    with safetensors.safe_open(path, framework="pt") as file:
        card = json.loads(file.metadata()["kerbseg"])
    del card["digest"]
    tensors = safetensors.torch.load_file(path)
    path.unlink()  # it is mapped into memory
    safetensors.torch.save_file(tensors, path, metadata={"kerbseg": json.dumps(card)})
    with pytest.warns(KerbsegWarning, match="is of an older espnet_c: batch normalization adds 1e-3 .* then 1e-5"):
        load(path)


def test_shipped_weights_are_sealed():
    for name in bundles.shipped():
        assert b"digest" in locate(name).read_bytes()


def test_a_variance_below_zero_is_neither_saved_nor_loaded(small, saved, tmp_path):
    tensors = safetensors.torch.load_file(saved)
    tensors["features.1.far_bn.running_var"] = -tensors["features.1.far_bn.running_var"]
    assert "'features.1.far_bn.running_var' holds negative numbers, which no variance is" in refusal(
        write(saved, tensors)
    )
    broken = bundle_of("mininet_v2_cpu")
    broken.model.load_state_dict(tensors)
    with pytest.raises(BundleError, match="running_var' holds negative numbers"):
        save(broken, tmp_path / "broken.safetensors")
    assert not (tmp_path / "broken.safetensors").exists()


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_no_finite_numbers_are_neither_saved_nor_loaded(small, saved, value):
    tensors = safetensors.torch.load_file(saved)
    tensors["features.1.far_bn.running_var"] = tensors["features.1.far_bn.running_var"].clone()
    tensors["features.1.far_bn.running_var"][0] = value
    assert "'features.1.far_bn.running_var' holds NaN or infinite values" in refusal(write(saved, tensors))
    broken = bundle_of("mininet_v2_cpu")
    broken.model.load_state_dict(tensors)
    target = saved.with_name("new.safetensors")
    with pytest.raises(BundleError, match=r"'features\.1\.far_bn\.running_var' holds NaN"):
        save(broken, target)
    assert not target.exists()


# ---- the rule for a model's name


def test_a_model_is_a_file_a_runs_folder_or_a_shipped_name(saved, tmp_path):
    assert locate(saved) == locate(str(saved)) == saved
    run = tmp_path / "run"
    run.mkdir()
    best = run / "best.safetensors"
    best.write_bytes(saved.read_bytes())
    assert locate(run) == locate(str(run)) == best
    assert load(run).card == load(saved).card
    for name in bundles.shipped():
        assert locate(name).stem == name
        assert read_card(name) == read_card(locate(name))


def test_a_file_or_folder_goes_before_a_name(saved, tmp_path, monkeypatch):
    name = bundles.shipped()[0]
    monkeypatch.chdir(tmp_path)
    own = tmp_path / name / "best.safetensors"
    own.parent.mkdir()
    own.write_bytes(saved.read_bytes())
    assert locate(name).resolve() == own
    own.unlink()
    assert locate(name).is_file(), "a folder of that name that is no run hides the shipped weights"


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("none.safetensors", "does not exist"),
        ("mininet_v2_cpu", "is a network without weights; name a bundle of it, or a run's folder"),
        ("mininet_v2_cpu-camvit", "did you mean 'mininet_v2_cpu-camvid'"),
        (".", "is a folder without best.safetensors"),
        ("saved", "does not exist"),  # the ending is part of a file's name
    ],
)
def test_what_is_no_model_says_why(model, message, saved, monkeypatch):
    monkeypatch.chdir(saved.parent)
    for wanted in (model, str(saved.parent / model)) if message == "does not exist" else (model,):
        with pytest.raises(BundleError, match=message) as caught:
            locate(wanted)
        assert "\n" not in str(caught.value)
        with pytest.raises(BundleError, match=message):
            find_model(wanted)


def test_a_registered_name_is_a_random_bundle_where_that_will_do(saved):
    assert find_model(saved, LABELS) == saved
    bundle = find_model("mininet_v2_cpu", LABELS)
    assert isinstance(bundle, Bundle)
    assert (bundle.card.model, bundle.card.labels, bundle.card.outputs) == ("mininet_v2_cpu", LABELS, 11)
    assert not bundle.model.training
    with pytest.raises(BundleError, match="did you mean 'mininet_v2_cpu'"):
        find_model("mininet_v2_cpus", LABELS)
    with pytest.raises(BundleError, match=r"does not exist$"):
        find_model(saved.with_name("none.safetensors"), LABELS)


def test_a_seed_gives_the_weights_of_a_trainings_first_step_and_leaves_the_callers_numbers_alone():
    torch.manual_seed(3)
    expected = create_model("mininet_v2_cpu", 11, dropout=0.125).state_dict()
    torch.manual_seed(4)
    before = torch.random.get_rng_state()
    bundle = random_bundle("mininet_v2_cpu", LABELS, options={"dropout": 0.125}, seed=3)
    assert all(torch.equal(value, expected[key]) for key, value in bundle.model.state_dict().items())
    assert torch.equal(torch.random.get_rng_state(), before)
    assert bundle.card.options == {"dropout": 0.125}


# ---- cards that ask for what nobody has


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"input_size": [20000, 20000]}, "input size 20000x20000"),
        ({"input_size": [1, 10**9]}, "input size 1x1000000000"),
        ({"preprocessing": {"mean": [0, 0, float("nan")]}}, "not JSON compliant"),
        ({"scores": {"miou": float("inf")}}, "not JSON compliant"),
        ({"preprocessing": {"std": [1, 1, 0]}}, "std (1.0, 1.0, 0.0)"),
        ({"preprocessing": {"std": [1, -1, 1]}}, "std (1.0, -1.0, 1.0)"),
        ({"preprocessing": {"mean": [0, 0, 1e300]}}, "mean (0.0, 0.0, 1e+300)"),
        ({"source": "\ud800"}, "surrogates"),
        ({"source": "long" * 300_000}, "characters"),
        ({"recipe": json.loads("[" * 50 + "]" * 50)}, "levels deep"),
        ({"outputs": 0}, "0 outputs"),
        ({"outputs": -1}, "-1 outputs"),
    ],
)
def test_a_card_beyond_all_sense_is_refused(saved, changes, named):
    message = refusal(write(saved, **changes))
    assert named in message
    assert "its card is damaged" in message


@pytest.mark.parametrize(
    ("labels", "named"),
    [
        ({"classes": ["all"], "colors": [[0, 0, 0]]}, "add one for all the rest, such as background"),
        ({"classes": ["a", "b\x1b[2J"]}, "control characters"),
        ({"classes": ["a", "b\nc"]}, "control characters"),
        ({"classes": ["a", " "]}, "a name of 1 characters"),
        ({"classes": ["a", "b" * 5000]}, "a name of 5000 characters"),
        ({"name": "\x07"}, "control characters"),
        ({"colors": [[0, 0, 0], [0, 0, 256]]}, "color (0, 0, 256)"),
        ({"colors": [[0, 0, 0], [0, -1, 0]]}, "color (0, -1, 0)"),
        ({"file_ids": {"256": 0}}, "id 256 of files"),
        ({"file_ids": {"0": 2}}, "train id 2 is not in 0..1"),
        ({"ignored_file_ids": [-1]}, "id -1 of files"),
        ({"submission_ids": [7]}, "2 classes, 1 submission ids"),
        ({"categories": {"flat": ["c"]}}, "unknown class 'c'"),
    ],
)
def test_labels_beyond_all_sense_are_refused(saved, labels, named):
    usual = {"name": "x", "classes": ["a", "b"], "colors": [[0, 0, 0], [1, 1, 1]]}
    assert named in refusal(write(saved, labels=usual | labels))


@pytest.mark.parametrize(
    ("model", "options", "named"),
    [
        ("efficientseg", {"width": 1000}, "at most 268,435,456 are made"),
        ("efficientseg", {"width": 1e30}, "option width is 1e+30"),
        ("efficientseg", {"width": "1.5"}, "option width is '1.5'"),
        ("efficientseg", {"raw_logits": 1}, "option raw_logits is 1"),
        ("erfnet_grouped_encoder", {"near": 10**9}, "option near is 1000000000"),
        ("liteseg_mobilenet_v2_aspp", {"width": 0}, "option width is 0"),
        ("espnet", {"alpha2": True}, "option alpha2 is True"),
        ("mininet_v2_cpu", {"grouped": {"groups": 10**12}}, "1000000000000"),
    ],
)
def test_a_card_of_a_network_beyond_all_sense_is_refused_before_it_is_made(saved, model, options, named):
    message = refusal(write(saved, model=model, options=options))
    assert named in message
    assert "asks for a network that cannot be made" in message


def test_a_network_is_made_only_when_the_weights_are_those_of_its_card(saved, monkeypatch):
    made = []
    build = bundles.models.create_model

    def counted(*arguments, **options):
        made.append(net := build(*arguments, **options))
        return net

    monkeypatch.setattr(bundles.models, "create_model", counted)
    refusal(write(saved, model="efficientseg_6_0"))  # 0.8 GB
    assert [value.is_meta for net in made for value in net.parameters()].count(False) == 0
    assert made


# ---- saving


def contents(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_figures_that_json_does_not_have_are_not_saved(small, tmp_path):
    for value in (float("nan"), {1, 2}):
        card = replace(small.card, scores={"miou": value})
        with pytest.raises(BundleError, match="cannot be written as JSON") as caught:
            save(Bundle(small.model, card), tmp_path / "x.safetensors")
        assert "\n" not in str(caught.value)
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"model": "mininet_v2"}, "for a MiniNetV2"),
        ({"outputs": 19}, r"'output\.weight' is \[64, 11, 3, 3\], the network needs \[64, 19, 3, 3\]"),
        ({"options": {"width": 3}}, "asks for a network that cannot be made"),
        ({"options": {"grouped": {"groups": 2}}}, "the network needs"),
    ],
)
def test_a_network_that_does_not_fit_its_card_is_not_saved(small, tmp_path, changes, named):
    with pytest.raises(BundleError, match=named) as caught:
        save(Bundle(small.model, replace(small.card, **changes)), tmp_path / "x.safetensors")
    assert "this network does not fit its card" in str(caught.value)
    assert not contents(tmp_path)


def test_weights_of_another_type_are_not_saved(tmp_path):
    half = bundle_of("mininet_v2_cpu")
    with pytest.raises(BundleError, match=r"the network needs torch\.float32"):
        save(Bundle(half.model.half(), half.card), tmp_path / "x.safetensors")
    assert not contents(tmp_path)


@pytest.mark.parametrize(
    ("call", "named"),
    [
        (lambda bundle: load(None), "a model is a path or a name, not NoneType"),
        (lambda bundle: find_model(None, LABELS), "a model is a path or a name, not NoneType"),
        (lambda bundle: find_model("x" * 300, LABELS), "cannot be read"),
        (lambda bundle: load(bundle), "a model is a path or a name, not Bundle"),
        (lambda bundle: save("x.safetensors", bundle), "save takes a bundle"),
        (lambda bundle: save(bundle.model, "x.safetensors"), "save takes a bundle"),
        (lambda bundle: save(bundle, None), "save takes a bundle"),
        (lambda bundle: save(Bundle(None, bundle.card), "x.safetensors"), "save takes a bundle"),
        (lambda bundle: create_model(None), "unknown model None"),
        (lambda bundle: create_model("erfnet", 0), "cannot have 0 classes; give a number from 1 to 256"),
        (lambda bundle: create_model("erfnet", -1), "cannot have -1 classes"),
        (lambda bundle: create_model("erfnet", 300), "cannot have 300 classes"),
        (lambda bundle: create_model("erfnet", "11"), "cannot have '11' classes"),
        (lambda bundle: create_model("erfnet", True), "cannot have True classes"),
        (lambda bundle: create_model("mininet_v2_cpu", dropout=float("nan")), "option dropout is nan"),
        (lambda bundle: create_model("mininet_v2_cpu", dropout=2), "dropout probability"),
        (lambda bundle: label_set(None), "unknown label set None"),
        (lambda bundle: Preprocessing("hsv"), "channels 'hsv'"),
        (lambda bundle: LabelSet("x", (1, 2), ((0, 0, 0),) * 2), "called 1, which is no text"),
    ],
)
def test_arguments_that_are_none_are_named(small, call, named):
    with pytest.raises(KerbsegError, match=re.escape(named)) as caught:
        call(small)
    assert "\n" not in str(caught.value)


def test_as_many_classes_as_numpy_counted():
    assert create_model("mininet_v2_cpu", np.int64(3)).output.out_channels == 3


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="named pipes are a POSIX feature")
def test_a_named_pipe_is_no_model(tmp_path):
    os.mkfifo(tmp_path / "pipe.safetensors")
    assert "is a pipe or a device" in refusal(tmp_path / "pipe.safetensors")


def test_a_name_that_no_file_system_takes_is_refused(tmp_path):
    assert "cannot be read" in refusal(tmp_path / ("x" * 5000))


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.ENOSPC, "No space left on device"),
        safetensors.SafetensorError("I/O error: No space left on device (os error 28)"),
    ],
)
def test_full_disk_keeps_the_bundle_before(saved, monkeypatch, error):
    before = saved.read_bytes()

    def half(tensors, path, metadata):
        Path(path).write_bytes(before[: len(before) // 2])
        raise error

    monkeypatch.setattr(bundles.safetensors.torch, "save_file", half)
    with pytest.raises(KerbsegError, match=r"cannot write .*saved\.safetensors.*free space") as caught:
        save(bundle_of("mininet_v2_cpu", seed=1), saved)
    assert "\n" not in str(caught.value)
    assert saved.read_bytes() == before
    assert contents(saved.parent) == {saved.name}
    with pytest.raises(KerbsegError, match="cannot write"):
        save(bundle_of("mininet_v2_cpu", seed=1), saved.with_name("new.safetensors"))
    assert contents(saved.parent) == {saved.name}


def run(code: str, *arguments: object) -> subprocess.Popen[str]:
    """A Python process of its own, which may come to harm."""
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def test_real_write_that_fails_midway_keeps_the_bundle_before(saved):
    pytest.importorskip("resource", reason="file size limits are a POSIX feature")
    before = saved.read_bytes()
    process = run(
        "import resource, sys\n"
        "from kerbseg.bundle import load, save\n"
        "from kerbseg.core.errors import KerbsegError\n"
        "bundle = load(sys.argv[1])\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000))\n"  # the kernel refuses what goes beyond
        "try: save(bundle, sys.argv[1])\n"
        "except KerbsegError as error: print(error)",
        saved,
    )
    out, err = process.communicate(timeout=120)
    assert out.startswith(f"cannot write {saved}"), out + err
    assert out.count("\n") == 1
    assert saved.read_bytes() == before
    assert contents(saved.parent) == {saved.name}


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="kill -9 is a POSIX feature")
@pytest.mark.parametrize("exists", [True, False])
def test_kill_9_while_saving_leaves_no_half_file(saved, exists):
    before = saved.read_bytes()
    target = saved if exists else saved.with_name("new.safetensors")
    process = run(
        "import sys, time\n"
        "from pathlib import Path\n"
        "from kerbseg import bundle\n"
        "def half(tensors, path, metadata):\n"
        "    Path(path).write_bytes(bytes(300_000))\n"
        "    print('half', flush=True)\n"
        "    time.sleep(100)\n"
        "loaded = bundle.load(sys.argv[1])\n"
        "bundle.safetensors.torch.save_file = half\n"
        "bundle.save(loaded, sys.argv[2])",
        saved,
        target,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "half\n"
    process.kill()
    process.communicate()
    assert saved.read_bytes() == before
    assert target.exists() == exists
    assert not [name for name in contents(saved.parent) if not name.startswith(".") and name != saved.name]


def test_folder_that_cannot_be_written_gets_one_line(small, tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file" / "x.safetensors", tmp_path / "file" / "deep" / "x.safetensors"):
        with pytest.raises(KerbsegError, match=r"cannot write .*choose another place") as caught:
            save(small, path)
        assert "\n" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_read_only_folder_gets_one_line(small, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(KerbsegError, match="cannot write"):
        save(small, tmp_path / "x.safetensors")
    tmp_path.chmod(0o700)


def test_other_suffix_is_refused_with_the_right_name(small, tmp_path):
    with pytest.raises(KerbsegError, match=r"name it model\.safetensors"):
        save(small, tmp_path / "model.pth")
    assert not contents(tmp_path)


def test_folders_are_made_and_the_file_is_readable_by_all(small, tmp_path):
    path = tmp_path / "a" / "b" / "x.safetensors"
    mask = os.umask(0o022)
    try:
        save(small, path)
    finally:
        os.umask(mask)
    assert load(path).card == small.card
    if os.name == "posix":
        assert path.stat().st_mode & 0o777 == 0o644


# ---- what is shown of it


@pytest.mark.parametrize(
    "card",
    [
        {"scores": {"miou": "high", "test": {"miou": [1]}, "val": {"miou": 0.5, "protocol": 7}}},
        {"recipe": {"model": 3, "data": {"name": []}}},
        {"source": "a\x1b[2J[red]b[/]", "versions": {"[b]": ":smile:"}},
    ],
)
def test_a_card_of_anothers_making_is_shown_as_it_is(saved, card, capsys):
    main(["info", str(write(saved, **card))])
    shown = capsys.readouterr().out
    assert "mininet_v2_cpu" in shown
    assert "\x1b" not in shown
    assert "source" not in card or (r"a\x1b[2J[red]b[/]" in shown and "[b] :smile:" in shown)


def test_info_notices_weights_that_have_changed(saved, capsys):
    with pytest.raises(SystemExit) as caught:
        main(["info", str(flipped(saved, saved.stat().st_size - 50, 0))])
    assert caught.value.code == 2
    assert "is damaged" in capsys.readouterr().err
