"""Backbones: dilation in a stride's place changes no value that was there, and each is a classifier too."""

import pytest
import torch

from kerbseg.core.errors import KerbsegError
from kerbseg.models.backbones import (
    Darknet19,
    MobileNetV2,
    ShuffleNet,
    darknet19_classifier,
    mobilenet_v2_classifier,
    shufflenet_classifier,
)
from kerbseg.models.backbones.darknet19 import as_published
from kerbseg.models.backbones.shufflenet import shuffle

CLASSIFIERS = [mobilenet_v2_classifier, shufflenet_classifier, darknet19_classifier]


@pytest.mark.parametrize("backbone", [MobileNetV2, ShuffleNet])
@pytest.mark.parametrize("output_stride", [8, 16])
def test_dilation_finds_the_old_values_and_new_ones_between_them(backbone, output_stride):
    torch.manual_seed(0)
    coarse, fine = backbone(32).eval(), backbone(output_stride).eval()
    fine.load_state_dict(coarse.state_dict())
    image = torch.randn(1, 3, 128, 160)
    with torch.no_grad():
        (low, old), (same_low, new) = coarse(image), fine(image)
    step = 32 // output_stride
    assert torch.equal(low, same_low)
    assert new.shape[-2:] == (128 // output_stride, 160 // output_stride)
    assert torch.allclose(new[..., ::step, ::step], old, atol=1e-5 * old.std().item())


@pytest.mark.parametrize("size", [(64, 96), (72, 104), (128, 64)])
def test_darknets_published_padding_grows_and_shrinks_to_the_plain_size(size):
    image = torch.zeros(1, 3, *size)
    with torch.no_grad():
        _, published = Darknet19(16, as_published).eval()(image)
        _, plain = Darknet19(16).eval()(image)
    assert published.shape == plain.shape == (1, 1024, size[0] // 16, size[1] // 16)


@pytest.mark.parametrize("backbone", [MobileNetV2, ShuffleNet, Darknet19])
def test_the_maps_are_as_wide_as_the_class_says(backbone):
    for output_stride in (8, 16, 32):
        with torch.device("meta"), torch.no_grad():
            low, high = backbone(output_stride)(torch.empty(2, 3, 64, 96))
        assert low.shape[1] == backbone.low_channels
        assert high.shape == (2, backbone.channels, 64 // output_stride, 96 // output_stride)


@pytest.mark.parametrize("backbone", [MobileNetV2, ShuffleNet, Darknet19])
def test_other_output_strides_are_refused(backbone):
    with pytest.raises(KerbsegError, match="output_stride is 4; choose 8"):
        backbone(4)


def test_shuffling_deals_the_channels_out():
    channels = torch.arange(6.0).view(1, 6, 1, 1)
    assert shuffle(channels, groups=2).flatten().tolist() == [0, 3, 1, 4, 2, 5]


@pytest.mark.parametrize(
    ("classifier", "head", "total"),
    [  # LiteSeg's table III counts the first two heads; 3,504,872 is the usual count of MobileNetV2
        (mobilenet_v2_classifier, 1_281_000, 3_504_872),
        (shufflenet_classifier, 1_537_000, None),
        (darknet19_classifier, 1_025_000, None),
    ],
)
def test_heads_have_the_published_size(classifier, head, total):
    with torch.device("meta"):
        net = classifier()
    assert sum(p.numel() for p in net.head.parameters()) == head
    if total:
        assert sum(p.numel() for p in net.parameters()) == total


@pytest.mark.parametrize("classifier", CLASSIFIERS)
def test_a_classifier_scores_whole_pictures_and_trains_every_weight(classifier):
    net = classifier(classes=7)
    scores = net(torch.randn(2, 3, 64, 64))
    assert scores.shape == (2, 7)
    scores.square().mean().backward()
    assert [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()] == []
