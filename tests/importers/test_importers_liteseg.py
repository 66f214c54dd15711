"""LiteSeg's files: golden logits through the importer; backbone recognised; strict but for the named heads."""

import pytest
import torch

from golden_rule import check, filled, golden_state, read_golden, read_keys
from kerbseg.bundle import load, save
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.core.labels import label_set
from kerbseg.importers import import_checkpoint
from kerbseg.models import card

FILES = {  # key list of the authors' file -> network
    "liteseg_mobilenet": "liteseg_mobilenet_v2",
    "liteseg_shufflenet": "liteseg_shufflenet",
    "liteseg_darknet": "liteseg_darknet19",
}
HEADS = ("mobile_features.classifier.1.", "shuffle_features.module.fc.")  # of ImageNet


def authors_state(file: str, outputs: int = 19) -> dict[str, torch.Tensor]:
    """A whole file of theirs, after its list of keys."""
    shapes = read_keys(file)
    return filled(shapes | {"last_conv.6.weight": [outputs, 96, 1, 1], "last_conv.6.bias": [outputs]})


@pytest.fixture
def state():
    return authors_state("liteseg_shufflenet")


@pytest.mark.parametrize("precision", ["float32", "float64"])
@pytest.mark.parametrize("name", FILES)
def test_logits_are_the_authors(written, name, precision):
    golden = read_golden(name)
    bundle = import_checkpoint("liteseg-pytorch", written({"state_dict": golden_state(golden)}))
    check(bundle.model, golden, precision)
    assert sum(p.numel() for p in bundle.model.parameters()) == golden["parameters_that_reach_the_output"]


def test_the_atrous_rates_show_in_the_golden_numbers():
    # at 1/32 of 480x640 a rate of 9 still reaches pixels beside the middle one; at 1/32 of 73x101 none does
    for name in ("liteseg_mobilenet", "liteseg_shufflenet"):
        assert max(min(map(int, size.split("x"))) for size in read_golden(name)["cases"]) // 32 > 9


@pytest.mark.parametrize("file", FILES)
def test_every_branch_of_the_pyramid_gets_the_weights_of_its_rate(file, written):
    state = authors_state(file)
    pyramid = import_checkpoint("liteseg-pytorch", written(state)).model.pyramid
    assert torch.equal(pyramid.point[0][0].weight, state["aspp1.atrous_convolution.conv1.weight"])
    assert torch.equal(pyramid.context.unit[0].weight, state["global_avg_pool.1.weight"])
    for theirs, rate in (("aspp2", 3), ("aspp3", 6), ("aspp4", 9)):
        [branch] = (branch for branch in pyramid.atrous if branch[0][0].dilation == (rate, rate))
        assert torch.equal(branch[0][0].weight, state[f"{theirs}.atrous_convolution.conv1.weight"])
        assert torch.equal(branch[0][1].weight, state[f"{theirs}.atrous_convolution.pointwise.weight"])
        assert torch.equal(branch[1].running_mean, state[f"{theirs}.bn.running_mean"])
        assert torch.equal(branch[2][0][0].weight, state[f"{theirs}.conv1.conv1.weight"])
        assert torch.equal(branch[2][0][1].weight, state[f"{theirs}.conv1.pointwise.weight"])
        assert torch.equal(branch[2][1].running_mean, state[f"{theirs}.bn1.running_mean"])


@pytest.mark.parametrize(("file", "model"), FILES.items())
def test_the_backbone_is_recognised_and_predicts_as_before(file, model, written, tmp_path):
    source = written({"state_dict": {f"module.{key}": value for key, value in authors_state(file, 20).items()}})
    bundle = import_checkpoint("liteseg-pytorch", source)
    assert (bundle.card.model, bundle.card.outputs, bundle.card.labels.name) == (model, 20, "cityscapes")
    assert bundle.card.preprocessing == card(model).preprocessing
    assert "CC BY-NC" in bundle.card.source
    save(bundle, tmp_path / "ours.safetensors")
    image = torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert torch.equal(load(tmp_path / "ours.safetensors").model(image), bundle.model(image))


@pytest.mark.parametrize("headless", [False, True])
@pytest.mark.parametrize("inside", ["", ".module"])
def test_shufflenets_own_wrapping_and_dead_head_are_no_matter(inside, headless, state, written):
    theirs = {key: value for key, value in state.items() if not (headless and key.startswith(HEADS))}
    theirs = {key.replace("shuffle_features.module", f"shuffle_features{inside}"): v for key, v in theirs.items()}
    bundle = import_checkpoint("liteseg-pytorch", written(theirs))
    assert torch.equal(bundle.model.backbone.stem[0].weight, state["shuffle_features.module.conv1.weight"])
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
        (lambda state: state.update({"bn2.weight": torch.ones(3)}), r"'bn2.weight' is \[3\]"),
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
    with pytest.raises(KerbsegError, match="did you mean 'liteseg_shufflenet'"):
        import_checkpoint("liteseg-pytorch", source, model="liteseg_shufflenett")
