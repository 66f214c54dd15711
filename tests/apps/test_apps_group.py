"""`kerbseg group`: the grouped network of a dense one is what gradual grouping's alpha 0 computes."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import kerbseg.models as models
from kerbseg.apps.group import group
from kerbseg.bundle import Bundle, load, random_bundle, save
from kerbseg.cli import main
from kerbseg.compress.convolutions import Selection, convolutions
from kerbseg.compress.grouping import apply_grouping, set_alpha
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import label_set

PICTURE = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))


def dense(name: str, **options: object) -> Bundle:
    """A network whose batch-norm knows its input, so that the picture reaches the logits."""
    torch.manual_seed(0)
    bundle = random_bundle(name, label_set("camvid"))
    net = models.create_model(name, 11, **options)
    with torch.no_grad():
        for _ in range(10):
            net(torch.rand(2, 3, 64, 64))
    return Bundle(net.eval(), replace(bundle.card, options=options))


def faded(source: Bundle, names: tuple[str, ...], groups: int) -> torch.Tensor:
    """What the dense network computes when its weights outside the groups are multiplied by 0."""
    net = models.create_model(source.card.model, source.card.outputs, **source.card.options)
    net.load_state_dict(source.model.state_dict())
    apply_grouping(net.eval(), names, groups)
    set_alpha(net, 0)
    return net(PICTURE)


@pytest.mark.parametrize(
    ("name", "groups", "into"),
    [
        ("erfnet_d", 2, "erfnet_dg2"),
        pytest.param("erfnet_d", 4, "erfnet_dg4", marks=pytest.mark.slow),
        ("erfnet_d_all", 8, "erfnet_dg8_all"),
        pytest.param("erfnet_d_light", 4, "erfnet_dg4_light", marks=pytest.mark.slow),
    ],
)
def test_a_dense_network_becomes_the_registered_variant_with_these_groups(name, groups, into, tmp_path):
    source = dense(name)
    made = group(source, groups)
    assert made.bundle.card.model == into
    assert 0 < made.lost < 1
    save(made.bundle, tmp_path / "made.safetensors")
    again = load(tmp_path / "made.safetensors")  # strict
    registered = models.create_model(into, 11)
    registered.load_state_dict(again.model.state_dict())
    with torch.no_grad():
        torch.testing.assert_close(again.model(PICTURE), faded(source, made.names, groups), rtol=0, atol=1e-4)
        assert not torch.allclose(again.model(PICTURE), source.model(PICTURE), atol=1e-3), "the groups change nothing"


@pytest.mark.parametrize(
    ("name", "options", "groups", "selection"),
    [
        ("mininet_v2_cpu", {}, 4, None),
        ("liteseg_mobilenet_v2", {}, 2, Selection(("pyramid.*",), ("pointwise",), 32)),
        pytest.param(
            *("efficientseg", {"width": 0.25}, 2, Selection(kinds=("pointwise", "spatial"), channels=8)),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *("erfnet_d", {}, 4, Selection(("encoder.*",), ("pointwise", "spatial"), 128)), marks=pytest.mark.slow
        ),
    ],
)
def test_a_network_without_such_a_variant_gets_the_option_grouped(name, options, groups, selection, tmp_path):
    source = dense(name, **options)
    made = group(source, groups, selection)
    assert made.bundle.card.model == name
    assert made.bundle.card.options["grouped"]["groups"] == groups
    save(made.bundle, tmp_path / "made.safetensors")
    net = load(tmp_path / "made.safetensors").model
    grouped = {each for each, conv in convolutions(net) if conv.groups == groups}
    assert set(made.names) <= grouped
    with torch.no_grad():
        torch.testing.assert_close(net(PICTURE), faded(source, made.names, groups), rtol=0, atol=1e-4)


def test_the_source_is_left_as_it_was():
    source = dense("erfnet_d")
    with torch.no_grad():
        before = source.model(PICTURE)
        group(source, 2)
        assert torch.equal(source.model(PICTURE), before)
    assert source.card.model == "erfnet_d"


def test_figures_of_the_dense_network_are_not_claimed_for_the_grouped_one():
    source = dense("erfnet_d")
    source = replace(source, card=replace(source.card, scores={"miou": 0.7}, recipe={"epochs": 3}, source="trained"))
    card = group(source, 2).bundle.card
    assert (card.scores, card.recipe) == ({}, {})
    assert "erfnet_d (trained)" in card.source


@pytest.mark.parametrize(
    ("name", "groups", "into", "says"),
    [
        ("erfnet_d", 4, "erfnet_dg4s", "channel shuffle"),
        ("erfnet_d", 4, "erfnet_dg2", "not 4"),
        ("erfnet_d", 4, "erfnet_dg4_all", "does not become erfnet_dg4_all"),
        ("erfnet_d", 4, "erfnet_dgg4", "did you mean 'erfnet_dg4"),
        ("erfnet_d", 4, "mininet_v2", "does not become mininet_v2"),
        ("mininet_v2_cpu", 7, None, "7 groups"),
    ],
)
def test_what_it_cannot_become_is_refused_with_the_reason(name, groups, into, says):
    with pytest.raises(KerbsegError, match=says):
        group(dense(name), groups, into=into)


def test_a_choice_that_is_not_the_variants_is_named():
    source = dense("erfnet_d")
    with pytest.raises(KerbsegError, match=r"is left dense by this choice, but grouped in erfnet_dg4"):
        group(source, 4, Selection(channels=128), into="erfnet_dg4")


def test_a_network_is_not_grouped_twice_by_the_option():
    once = group(dense("mininet_v2_cpu"), 2).bundle
    with pytest.raises(KerbsegError, match="group its dense network at once"):
        group(once, 4)


def test_the_command(tmp_path: Path, capsys):
    save(dense("erfnet_d"), tmp_path / "d.safetensors")
    main(["group", str(tmp_path / "d.safetensors"), "--groups", "4", "-o", str(tmp_path / "g.safetensors")])
    said = capsys.readouterr().out
    assert "erfnet_dg4, 12 convolutions in 4 groups" in said
    assert "--init" in said
    assert load(tmp_path / "g.safetensors").card.model == "erfnet_dg4"


def test_the_command_makes_random_weights_of_a_name(tmp_path: Path, capsys):
    out = tmp_path / "g.safetensors"
    main(["group", "mininet_v2_cpu", "--groups", "4", "--select", "features.*", "--classes", "camvid", "-o", str(out)])
    card = load(out).card
    assert (card.model, card.labels.name) == ("mininet_v2_cpu", "camvid")
    assert card.options["grouped"]["names"] == ["features.*"]
    assert "0 convolutions" not in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["erfnet_dd", "--groups", "4"], "did you mean"),
        (["none.safetensors", "--groups", "4"], "does not exist"),
        (["erfnet_d", "--groups", "1"], "2 or more"),
        (["erfnet_d"], "--groups"),
    ],
)
def test_bad_input_is_one_line_and_status_2(arguments, says, tmp_path, capsys):
    with pytest.raises(SystemExit) as left:
        main(["group", *arguments, "-o", str(tmp_path / "g.safetensors")])
    captured = capsys.readouterr()
    assert left.value.code == 2
    assert says in captured.err
    assert captured.err.count("\n") == 1
    assert list(tmp_path.iterdir()) == []
