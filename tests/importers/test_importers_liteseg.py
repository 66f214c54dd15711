"""LiteSeg's files: golden logits through the importer; backbone recognised; strict but for the named heads."""

import pytest
import torch

from golden_rule import check, golden_state, read_golden
from kerbseg.bundle import load, save
from kerbseg.core.errors import BundleError, UserError
from kerbseg.core.labels import label_set
from kerbseg.importers import import_checkpoint
from kerbseg.importers.liteseg_pytorch import MODELS, module_names
from kerbseg.models import create_model


def authors_state(model: str, outputs: int = 19) -> dict[str, torch.Tensor]:
    """Fresh weights under the authors' names, without the ImageNet heads."""
    theirs = {ours: name for name, ours in module_names(model).items()}
    state = create_model(model, outputs).state_dict()
    parts = ((*key.rpartition("."), value) for key, value in state.items())
    return {f"{theirs[module]}.{leaf}": value for module, _, leaf, value in parts}


@pytest.fixture
def state():
    return authors_state("liteseg_shufflenet")


@pytest.fixture
def written(tmp_path):
    def write(content):
        torch.save(content, tmp_path / "authors.pth")
        return tmp_path / "authors.pth"

    return write


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", ["liteseg_mobilenet", "liteseg_shufflenet", "liteseg_darknet"])
def test_logits_are_the_authors(kerbseg_data, written, name, precision):
    golden = read_golden(kerbseg_data, name)
    bundle = import_checkpoint("liteseg-pytorch", written({"state_dict": golden_state(golden)}))
    check(bundle.model, golden, precision)
    assert sum(p.numel() for p in bundle.model.parameters()) == golden["parameters_that_reach_the_output"]


@pytest.mark.parametrize("model", MODELS.values())
def test_the_backbone_is_recognised_and_predicts_as_before(model, written, tmp_path):
    source = written({"state_dict": {f"module.{key}": value for key, value in authors_state(model, 20).items()}})
    bundle = import_checkpoint("liteseg-pytorch", source)
    assert (bundle.card.model, bundle.card.outputs, bundle.card.labels.name) == (model, 20, "cityscapes")
    assert "CC BY-NC" in bundle.card.source
    save(bundle, tmp_path / "ours.safetensors")
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "ours.safetensors").model(image), bundle.model(image))


@pytest.mark.parametrize("inside", ["", ".module"])
def test_shufflenets_own_wrapping_and_dead_head_are_no_matter(inside, state, written):
    head = {"shuffle_features.fc.weight": torch.zeros(1000, 1536), "shuffle_features.fc.bias": torch.zeros(1000)}
    wrapped = {key.replace("shuffle_features", f"shuffle_features{inside}"): v for key, v in (state | head).items()}
    bundle = import_checkpoint("liteseg-pytorch", written(wrapped))
    assert torch.equal(bundle.model.backbone.stem[0].weight, state["shuffle_features.conv1.weight"])
    assert sum(p.numel() for p in bundle.model.parameters()) == 1_971_451


def test_a_file_without_counters_of_batches_loads(state, written):
    old = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert import_checkpoint("liteseg-pytorch", written(old)).model.pyramid.fusion[1].num_batches_tracked == 0


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("aspp3.bn.weight"), "lacks 'aspp3.bn.weight'"),
        (lambda state: state.pop("last_conv.6.bias"), "lacks 'last_conv.6.bias'"),
        (lambda state: state.update({"aspp5.bn.weight": torch.ones(3)}), "unknown 'aspp5.bn.weight'"),
        (lambda state: state.update({"bn2.weight": torch.ones(3)}), r"'reduction.1.weight' is \[3\]"),
        (lambda state: state.update({"mobile_features.features.0.0.weight": torch.ones(3)}), "mobilenet.*shufflenet"),
        (lambda state: state.clear() or state.update({"fc.weight": torch.ones(3)}), "no LiteSeg: .*no backbone"),
    ],
)
def test_what_does_not_fit_is_named(change, says, state, written):
    change(state)
    with pytest.raises(BundleError, match=says):
        import_checkpoint("liteseg-pytorch", written(state))


def test_labels_and_network_given_must_fit_the_file(state, written):
    source = written(state)
    with pytest.raises(BundleError, match="19 outputs, label set 'camvid' has 11"):
        import_checkpoint("liteseg-pytorch", source, label_set("camvid"))
    with pytest.raises(BundleError, match=r"no liteseg_darknet19: .*liteseg_shufflenet"):
        import_checkpoint("liteseg-pytorch", source, model="liteseg_darknet19")
    with pytest.raises(UserError, match="did you mean 'liteseg_shufflenet'"):
        import_checkpoint("liteseg-pytorch", source, model="liteseg_shufflenett")
