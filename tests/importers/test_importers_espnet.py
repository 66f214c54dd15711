"""ESPNet's files: a second writing of the authors' graph, by their names; network, depths and form recognized."""

import json
import re

import pytest
import torch
from torch.nn import functional as F

from kerbseg.bundle import load, save
from kerbseg.cli import main
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.data.dataset_yaml import find_labels
from kerbseg.importers import import_checkpoint
from kerbseg.models import card

State = dict[str, torch.Tensor]


# ---- the authors' layout, and their graph over it


def authors_state(outputs: int = 20, alpha2: int = 2, alpha3: int = 3, merged: int | None = 16) -> State:
    """Random weights of an ESPNet whose last merge takes `merged` channels, or an ESPNet-C (None)."""
    state: State = {}
    random = torch.Generator().manual_seed(outputs)

    def weight(key: str, *shape: int) -> None:
        fan = shape[1] * shape[2] * shape[3]
        state[f"{key}.weight"] = torch.randn(shape, generator=random) * (2 / fan) ** 0.5

    def norm(key: str, channels: int) -> None:
        state[f"{key}.weight"] = torch.rand(channels, generator=random) + 0.5
        state[f"{key}.bias"] = torch.rand(channels, generator=random) - 0.5
        state[f"{key}.running_mean"] = torch.rand(channels, generator=random) - 0.5
        state[f"{key}.running_var"] = torch.rand(channels, generator=random) * 0.02  # small, so that eps 1e-3 shows

    def act(key: str, channels: int) -> None:
        norm(f"{key}.bn", channels)
        state[f"{key}.act.weight"] = torch.rand(channels, generator=random)

    def esp(key: str, inputs: int, channels: int, kernel: int) -> None:
        narrow = channels // 5
        weight(f"{key}.c1.conv", narrow, inputs, kernel, kernel)
        for rate in (1, 2, 4, 8, 16):
            weight(f"{key}.d{rate}.conv", channels - 4 * narrow if rate == 1 else narrow, narrow, 3, 3)

    encoder = "encoder." if merged else ""
    weight(f"{encoder}level1.conv", 16, 3, 3, 3)
    act(f"{encoder}level1", 16)
    act(f"{encoder}b1", 19)
    for level, inputs, channels, depth in ((2, 19, 64, alpha2), (3, 131, 128, alpha3)):
        esp(f"{encoder}level{level}_0", inputs, channels, 3)
        act(f"{encoder}level{level}_0", channels)
        for n in range(depth):
            esp(f"{encoder}level{level}.{n}", channels, channels, 1)
            act(f"{encoder}level{level}.{n}.bn", channels)
        act(f"{encoder}b{level}", {2: 131, 3: 256}[level])
    weight(f"{encoder}classifier.conv", outputs, 256, 1, 1)
    if merged:
        norm("br", outputs)
        weight("up_l3.0", outputs, outputs, 2, 2)
        weight("level3_C.conv", outputs, 131, 1, 1)
        act("combine_l2_l3.0", 2 * outputs)
        esp("combine_l2_l3.1", 2 * outputs, outputs, 1)
        act("combine_l2_l3.1.bn", outputs)
        weight("up_l2.0", outputs, outputs, 2, 2)
        act("up_l2.1", outputs)
        weight("conv.conv", outputs, outputs + merged, 3, 3)
        act("conv", outputs)
        weight("classifier", outputs, outputs, 2, 2)
    return state


def authors_logits(state: State, image: torch.Tensor, merged: int | None = 16) -> torch.Tensor:
    """What their network makes of a picture: theirs is written as modules, this as steps over their names."""

    def norm(x: torch.Tensor, key: str) -> torch.Tensor:
        mean, var, scale, shift = (state[f"{key}.{leaf}"] for leaf in ("running_mean", "running_var", "weight", "bias"))
        x = (x - mean[:, None, None]) / (var[:, None, None] + 1e-3).sqrt()
        return x * scale[:, None, None] + shift[:, None, None]

    def act(x: torch.Tensor, key: str) -> torch.Tensor:
        x = norm(x, f"{key}.bn")
        return torch.where(x > 0, x, x * state[f"{key}.act.weight"][:, None, None])

    def dilated(x: torch.Tensor, key: str, rate: int) -> torch.Tensor:
        return F.conv2d(x, state[f"{key}.d{rate}.conv.weight"], padding=rate, dilation=rate)

    def pyramid(x: torch.Tensor, key: str, stride: int = 1) -> torch.Tensor:
        x = F.conv2d(x, state[f"{key}.c1.conv.weight"], stride=stride, padding=stride - 1)
        two, four, eight, sixteen = (dilated(x, key, rate) for rate in (2, 4, 8, 16))
        parts = [dilated(x, key, 1), two, two + four, two + four + eight, two + four + eight + sixteen]
        return torch.cat(parts, 1)

    def level(x: torch.Tensor, key: str) -> tuple[torch.Tensor, torch.Tensor]:
        first = last = act(pyramid(x, f"{key}_0", stride=2), f"{key}_0")
        number = 0
        while f"{key}.{number}.c1.conv.weight" in state:
            last = act(last + pyramid(last, f"{key}.{number}"), f"{key}.{number}.bn")
            number += 1
        return first, last

    encoder = "encoder." if merged else ""
    half = F.avg_pool2d(image, 3, 2, 1)
    quarter = F.avg_pool2d(half, 3, 2, 1)
    level1 = act(F.conv2d(image, state[f"{encoder}level1.conv.weight"], stride=2, padding=1), f"{encoder}level1")
    with_picture = act(torch.cat([level1, half], 1), f"{encoder}b1")
    first, last = level(with_picture, f"{encoder}level2")
    level2 = act(torch.cat([last, first, quarter], 1), f"{encoder}b2")
    first, last = level(level2, f"{encoder}level3")
    level3 = act(torch.cat([first, last], 1), f"{encoder}b3")
    x = F.conv2d(level3, state[f"{encoder}classifier.conv.weight"])
    if not merged:
        return x
    x = F.conv_transpose2d(norm(x, "br"), state["up_l3.0.weight"], stride=2)
    x = act(torch.cat([F.conv2d(level2, state["level3_C.conv.weight"]), x], 1), "combine_l2_l3.0")
    x = act(pyramid(x, "combine_l2_l3.1"), "combine_l2_l3.1.bn")
    x = act(F.conv_transpose2d(x, state["up_l2.0.weight"], stride=2), "up_l2.1")
    x = torch.cat([x, with_picture if merged == 19 else level1], 1)
    x = act(F.conv2d(x, state["conv.conv.weight"], padding=1), "conv")
    return F.conv_transpose2d(x, state["classifier.weight"], stride=2)


def imported(written, state: State, **given):
    return import_checkpoint("espnet-pytorch", written(state), **given)


# ---- the promises


@pytest.mark.parametrize("alpha3", [3, 5, 8])
@pytest.mark.parametrize(("merged", "outputs"), [(16, 20), (19, 12), (None, 20)])
def test_logits_are_those_of_a_second_writing(merged, outputs, alpha3, written):
    state = authors_state(outputs, alpha3=alpha3, merged=merged)
    bundle = imported(written, state)
    image = torch.rand(2, 3, 64, 104, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        ours, theirs = bundle.model.logits(image), authors_logits(state, image, merged)
    assert ours.shape == (theirs.shape if merged else (2, outputs, 8, 13))
    assert theirs.abs().max() > 0.1
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-5 * float(theirs.abs().max()))
    if merged == 16 and alpha3 == 8:
        assert sum(p.numel() for p in bundle.model.parameters()) == 364_569


def test_the_parts_of_level_2_are_turned(written):
    state = authors_state(merged=None)
    model = imported(written, state).model
    mean, theirs = model.encoder.level2.norm[0].running_mean, state["b2.bn.running_mean"]
    assert torch.equal(mean, torch.cat([theirs[64:128], theirs[:64], theirs[128:]]))
    reduce, theirs = model.encoder.level3.down.reduce.weight, state["level3_0.c1.conv.weight"]
    assert torch.equal(reduce[:, 64:128], theirs[:, :64])


def test_the_card_says_network_depths_form_and_pixels(written, tmp_path):
    bundle = imported(written, {f"module.{key}": value for key, value in authors_state(alpha3=5).items()})
    facts = bundle.card
    assert (facts.model, facts.outputs, facts.labels.name) == ("espnet", 20, "cityscapes")
    assert facts.options == {"alpha2": 2, "alpha3": 5, "merge_picture": False}
    assert facts.preprocessing == card("espnet").preprocessing
    assert "MIT" in facts.source
    picture = torch.tensor([51, 102, 204], dtype=torch.uint8).expand(1, 2, 2, 3)
    b, g, r = 204 - 72.3923111, 102 - 82.90893555, 51 - 73.15840149
    theirs = torch.tensor([b / 45.3192215, g / 46.15289307, r / 44.91483307]) / 255
    seen = Normalize(facts.preprocessing)(to_unit(picture))[0, :, 0, 0]
    torch.testing.assert_close(seen, theirs, rtol=1e-5, atol=1e-7)
    save(bundle, tmp_path / "ours.safetensors")
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "ours.safetensors").model(image), bundle.model(image))


def test_camvids_file_has_camvids_pixels_and_its_form(written):
    facts = imported(written, authors_state(12, merged=19)).card
    assert (facts.labels.name, facts.outputs, facts.input_size) == ("camvid", 12, (360, 480))
    assert facts.options["merge_picture"]
    assert facts.preprocessing != card("espnet").preprocessing
    assert "not published" in facts.source


def test_own_classes_are_taken_and_what_is_not_known_of_their_pixels_is_said(written):
    names = tuple(f"class {n}" for n in range(7))
    facts = imported(written, authors_state(7), labels=LabelSet("yard", names, ((0, 0, 0),) * 7)).card
    assert (facts.labels.name, facts.outputs, facts.preprocessing) == ("yard", 7, card("espnet").preprocessing)
    assert "not in the file" in facts.source
    with pytest.raises(BundleError, match="7 outputs, label set 'camvid' has 11"):
        imported(written, authors_state(7), labels=label_set("camvid"))
    with pytest.raises(BundleError, match=r"7 outputs, which is no number of classes .*--classes"):
        imported(written, authors_state(7))


@pytest.mark.parametrize("given", ["streets", "streets/dataset.yaml", "classes.yml"])
def test_own_classes_are_given_as_a_dataset_yaml_or_its_folder(given, written, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "streets").mkdir()
    names = [f"class {n}" for n in range(7)]
    for path in ("streets/dataset.yaml", "classes.yml"):
        (tmp_path / path).write_text(f"name: yard\nclasses: {json.dumps(names[::-1])}\n")
    main(["import", "espnet-pytorch", str(written(authors_state(7))), "-o", "ours.safetensors", "--classes", given])
    labels = load(tmp_path / "ours.safetensors").card.labels
    assert (labels.name, labels.classes) == ("yard", tuple(names[::-1]))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ("camvit", "did you mean 'camvid'.*a dataset.yaml, or the folder"),
        ("empty", "dataset.yaml does not exist"),
        ("none.yaml", "none.yaml does not exist"),
        ("bad.yaml", "unknown key colour"),
        ("two.yaml", "20 outputs, label set 'two' has 2 classes"),
    ],
)
def test_classes_that_are_none_are_refused_and_nothing_is_written(given, says, written, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    (tmp_path / "bad.yaml").write_text("colour: red\n")
    (tmp_path / "two.yaml").write_text("name: two\nclasses: [a, b]\n")
    with pytest.raises(SystemExit) as caught:
        main(["import", "espnet-pytorch", str(written(authors_state())), "-o", "ours.safetensors", "--classes", given])
    said = capsys.readouterr().err
    assert caught.value.code == 2
    assert re.search(says, " ".join(said.split()))
    assert not (tmp_path / "ours.safetensors").exists()


def test_a_label_sets_name_comes_before_a_folder_called_the_same(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "camvid").mkdir()
    (tmp_path / "camvid" / "dataset.yaml").write_text("classes: [a, b]\n")
    assert find_labels("camvid") == label_set("camvid")
    assert find_labels("./camvid").classes == ("a", "b")


@pytest.mark.parametrize("merged", [16, None])
@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state, at: state.pop(f"{at}level3.1.d4.conv.weight"), "lacks '.*level3.1.d4.conv.weight'"),
        (lambda state, at: state.pop(f"{at}classifier.conv.weight"), "lacks .*classifier.conv.weight"),
        (lambda state, at: state.update({f"{at}classifier.conv.weight": torch.tensor(1.0)}), "no ESPNet"),
        (lambda state, at: state.update({f"{at}b4.bn.weight": torch.ones(3)}), "unknown '.*b4.bn.weight'"),
        (lambda state, at: state.update({f"{at}b2.bn.weight": torch.ones(7)}), r"b2.bn.weight' is \[7\]"),
        (lambda state, at: state.update({f"{at}b2.bn.weight": torch.ones(150)}), r"b2.bn.weight' is \[150\]"),
        (lambda state, at: state.update({f"{at}level2.7.act.weight": torch.ones(3)}), "numbers the modules"),
        (lambda state, at: state.clear() or state.update({"fc.weight": torch.ones(3)}), "no ESPNet of its authors"),
    ],
)
def test_what_does_not_fit_is_named(change, says, merged, written):
    state = authors_state(merged=merged)
    change(state, "encoder." if merged else "")
    with pytest.raises(BundleError, match=says):
        imported(written, state)


def test_a_decoder_without_its_merge_is_named(written):
    state = authors_state()
    state["conv.conv.weight"] = torch.ones(20)
    with pytest.raises(BundleError, match=r"conv\.conv\.weight"):
        imported(written, state)


def test_a_network_given_must_be_the_files(written):
    with pytest.raises(BundleError, match="is espnet, not espnet_c"):
        imported(written, authors_state(), model="espnet_c")
    with pytest.raises(KerbsegError, match="did you mean 'espnet_c'"):
        imported(written, authors_state(), model="espnet_cc")
