"""EfficientSeg's and the U-Net's files: golden logits through the importer; width recognised; strict."""

import pytest
import torch

from golden_rule import check, golden_state, read_golden
from kerbseg.core.errors import BundleError, UserError
from kerbseg.importers import import_checkpoint
from kerbseg.importers.efficientseg_pytorch import _efficientseg, _unet
from kerbseg.models import create_model


def authors_state(model: str, outputs: int = 20, **options) -> dict[str, torch.Tensor]:
    """Fresh weights under the authors' names."""
    modules = _unet(model.endswith("_bn")) if model.startswith("unet") else _efficientseg()
    theirs = {ours: name for name, ours in modules.items()}
    parts = (
        (*key.rpartition("."), value) for key, value in create_model(model, outputs, **options).state_dict().items()
    )
    return {f"{theirs[module]}.{leaf}": value for module, _, leaf, value in parts}


@pytest.fixture
def written(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "authors.tar")
        return tmp_path / "authors.tar"

    return write


GOLDEN = [
    ("efficientseg_w1.5", "efficientseg_1_5"),
    ("efficientseg_unet", "unet_minicity"),
    ("efficientseg_unet_bn", "unet_minicity_bn"),
    pytest.param("efficientseg_w6.0", "efficientseg_6_0", marks=pytest.mark.slow),  # 209 million parameters
]


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize(("name", "model"), GOLDEN)
def test_logits_are_the_authors(kerbseg_data, written, name, model, precision):
    golden = read_golden(kerbseg_data, name)
    bundle = import_checkpoint("efficientseg-pytorch", written({"model_state_dict": golden_state(golden)}))
    check(bundle.model, golden, precision)
    assert (bundle.card.model, bundle.card.outputs, len(bundle.card.labels)) == (model, 20, 19)
    assert sum(p.numel() for p in bundle.model.parameters()) == golden["parameters"]


@pytest.mark.parametrize("width", [0.25, 0.5, 0.35, 0.7, 1.0])
def test_the_width_is_recognised(width, written):
    source = written({"model_state_dict": authors_state("efficientseg", width=width)})
    bundle = import_checkpoint("efficientseg-pytorch", source)
    card = bundle.card
    assert (card.model, card.outputs, card.labels.name) == ("efficientseg", 20, "cityscapes")
    # several coefficients round to the same channels; the one found must build the same network
    found = create_model("efficientseg", 20, **card.options)
    assert {k: v.shape for k, v in found.state_dict().items()} == {
        k: v.shape for k, v in create_model("efficientseg", 20, width=width).state_dict().items()
    }


def test_a_published_width_goes_by_its_own_name(written):
    source = written(authors_state("efficientseg_1_5", 19))
    card = import_checkpoint("efficientseg-pytorch", source).card
    assert (card.model, card.outputs, dict(card.options)) == ("efficientseg_1_5", 19, {})
    card = import_checkpoint("efficientseg-pytorch", source, model="efficientseg").card
    assert (card.model, dict(card.options)) == ("efficientseg", {"width": 1.5})
    with pytest.raises(BundleError, match="is efficientseg_1_5, not unet_minicity"):
        import_checkpoint("efficientseg-pytorch", source, model="unet_minicity")


@pytest.mark.parametrize("model", ["unet_minicity", "unet_minicity_bn"])
def test_the_unet_is_recognised(model, written):
    bundle = import_checkpoint("efficientseg-pytorch", written(authors_state(model, 19)))
    assert (bundle.card.model, bundle.card.outputs) == (model, 19)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("dec_layers.3.conv.4.weight"), r"lacks 'dec_layers.3.conv.4.weight'"),
        (lambda state: state.pop("enc_layers.4.conv.8.bias"), "lacks 'enc_layers.4.conv.8.bias'"),
        (lambda state: state.pop("dec_layers.15.1.bias"), "lacks 'dec_layers.15.1.bias', its last layer"),
        (lambda state: state.pop("enc_layers.0.0.weight"), "no EfficientSeg and no Minicity U-Net"),
        (lambda state: state.update({"extra.weight": torch.ones(3)}), "unknown 'extra.weight'"),
        (lambda state: state.update({"conv.1.weight": torch.ones(3)}), r"'middle.0.1.weight' is \[3\]"),
        (lambda state: state.update({"enc_layers.9.conv.8.bias": torch.ones(7)}), "fit no width"),
    ],
)
def test_what_does_not_fit_is_named(change, says, written):
    state = authors_state("efficientseg", width=0.25)
    change(state)
    with pytest.raises(BundleError, match=says):
        import_checkpoint("efficientseg-pytorch", written(state))


def test_another_family_is_refused_with_the_nearest(written):
    with pytest.raises(UserError, match="did you mean 'unet_minicity'"):
        import_checkpoint("efficientseg-pytorch", written({}), model="unet_minicty")
