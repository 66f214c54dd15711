"""Fast-SCNN in its public layout: with and without its training head; strict; the answers of a second writing."""

import pytest
import torch

import lite_written_again
from golden_rule import filled, picture, read_keys
from kerbseg.bundle import load, save
from kerbseg.core.errors import BundleError, KerbsegError
from kerbseg.importers import import_checkpoint
from kerbseg.models import create_model
from kerbseg.train.initial import load_initial_weights

FORMAT = "fast_scnn-pytorch"


@pytest.fixture
def state() -> dict[str, torch.Tensor]:
    return filled(read_keys("fast_scnn"), 1.5)


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("head", [True, False])
def test_logits_are_a_second_writings(prefix, head, state, written, tmp_path):
    theirs = {key: value for key, value in state.items() if head or not key.startswith("auxlayer")}
    bundle = import_checkpoint(FORMAT, written({prefix + key: value for key, value in theirs.items()}))
    card = bundle.card
    assert (card.model, card.outputs, card.labels.name) == ("fast_scnn_public", 19, "cityscapes")
    assert (card.input_size, card.preprocessing.mean) == ((1024, 2048), (0.485, 0.456, 0.406))
    assert ("left out: auxlayer, of training" in card.source) == head
    assert "Apache" in card.source
    save(bundle, tmp_path / "ours.safetensors")
    image = picture(64, 96).double()
    with torch.no_grad():
        expected, _ = lite_written_again.fast_scnn(
            {key: value.double() for key, value in state.items()}, image, training=False
        )
        made = load(tmp_path / "ours.safetensors").model.double().logits(image)
    torch.testing.assert_close(made, expected, rtol=0, atol=1e-10 * expected.std().item())


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda state: state.pop("classifier.conv.1.bias"), "lacks 'classifier.conv.1.bias', Fast-SCNN's last layer"),
        (
            lambda state: state.pop("global_feature_extractor.ppm.conv3.conv.0.weight"),
            "lacks 'global_feature_extractor.ppm.conv3.conv.0.weight' for a fast_scnn_public",
        ),
        (lambda state: state.update({"auxlayer.5.weight": torch.ones(3)}), "unknown 'auxlayer.5.weight'"),
        (
            lambda state: state.update({"classifier.dsconv1.conv.1.bias": torch.ones(3)}),
            r"'classifier.dsconv1.conv.1.bias' is \[3",
        ),
        (
            lambda state: state.update({"classifier.dsconv1.conv.1.mean": torch.ones(3)}),
            "unknown 'classifier.dsconv1.conv.1.mean' for a fast_scnn_public",
        ),
        (
            lambda state: state.update({"classifier.dsconv1.conv.1.running_var": torch.full((128,), -1e-3)}),
            "'classifier.dsconv1.conv.1.running_var' holds negative numbers, which no variance is",
        ),
        (
            lambda state: state.update({"classifier.dsconv1.conv.1.bias": torch.ones(128, dtype=torch.float64) * 1e39}),
            "'classifier.dsconv1.conv.1.bias' holds numbers beyond torch.float32; copy",
        ),
        (
            lambda state: state.update({"classifier.dsconv1.conv.1.bias": torch.ones(128, dtype=torch.int32)}),
            "'classifier.dsconv1.conv.1.bias' is torch.int32, the network needs torch.float32; is it",
        ),
    ],
)
def test_what_does_not_fit_is_named(change, says, state, written):
    change(state)
    with pytest.raises(BundleError, match=says):
        import_checkpoint(FORMAT, written(state))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_precision_become_float32(precision, state, written):
    cast = {key: value.to(precision) if value.is_floating_point() else value for key, value in state.items()}
    made = import_checkpoint(FORMAT, written(cast)).model.state_dict()
    assert {value.dtype for value in made.values()} == {torch.float32, torch.int64}
    expected = cast["feature_fusion.dwconv.conv.0.weight"].float()
    assert torch.equal(made["feature_fusion.dwconv.0.weight"], expected)


def test_the_papers_own_reading_is_another_network(state, written):
    with pytest.raises(KerbsegError, match="holds no 'fast_scnn'; did you mean 'fast_scnn_public'"):
        import_checkpoint(FORMAT, written(state), model="fast_scnn")


def test_a_training_asks_to_convert_such_a_file_first(state, written):
    with pytest.raises(BundleError, match=r"shares only .* \(an authors' file: convert it first, kerbseg import\)"):
        load_initial_weights(create_model("fast_scnn_public", 11), written(state))
