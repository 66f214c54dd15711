"""What every network expects of its pixels and how it enlarges its logits: the papers' numbers, spelled again."""

import pytest
import torch

from kerbseg.core.normalize import Normalize, to_unit
from kerbseg.models import card, create_model, list_models
from kerbseg.models.classifiers import CLASSIFIERS

PLAIN = ("rgb", (0.0, 0.0, 0.0), (1.0, 1.0, 1.0))  # pixels in 0..1
IMAGENET = ("rgb", (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
MINICITY = ("rgb", (0.2870, 0.3257, 0.2854), (0.1879, 0.1908, 0.1880))
TENSORFLOW = ("bgr", (0.5, 0.5, 0.5), (1.0, 1.0, 1.0))  # as cv2 reads, x / 255 - 0.5
HALF = ("rgb", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
ESPNET = (  # as cv2 reads, (x - mean) / std / 255
    "bgr",
    (72.3923111 / 255, 82.90893555 / 255, 73.15840149 / 255),
    (45.3192215, 46.15289307, 44.91483307),
)

FAMILIES = {  # first word of a name, or all of it -> pixels, and whether corners are aligned in interpolation
    "erfnet": (PLAIN, False),
    "mininet": (TENSORFLOW, True),
    "liteseg": (IMAGENET, True),
    "efficientseg": (MINICITY, False),
    "unet": (MINICITY, True),
    "enet": (PLAIN, False),
    "segnet": (PLAIN, False),
    "espnet": (ESPNET, False),
    "kerbnet": (PLAIN, False),
    "ddrnet": (IMAGENET, False),
    "pidnet": (IMAGENET, True),
    "pp": (HALF, False),
    "fast": (IMAGENET, False),
    "fast_scnn_public": (IMAGENET, True),
}
SEEN = {  # what the pixel (51, 102, 204) of a picture is to a network
    PLAIN: (0.2, 0.4, 0.8),
    IMAGENET: (-1.244541, -0.25, 1.751111),
    MINICITY: (-0.463012, 0.389413, 2.737234),
    TENSORFLOW: (0.3, -0.1, -0.3),
    HALF: (-0.6, -0.2, 0.6),
    ESPNET: (0.011388, 0.001622, -0.001935),
}


def family(name: str) -> tuple[tuple, bool]:
    return FAMILIES.get(name) or FAMILIES[name.partition("_")[0]]


@pytest.mark.parametrize("name", list_models())
def test_pixels_are_prepared_as_the_authors_do(name):
    preprocessing, (expected, _) = card(name).preprocessing, family(name)
    assert (preprocessing.channels, preprocessing.mean, preprocessing.std) == expected
    picture = torch.tensor([51, 102, 204], dtype=torch.uint8).expand(1, 2, 2, 3)
    seen = Normalize(preprocessing)(to_unit(picture))[0, :, 0, 0]
    torch.testing.assert_close(seen, torch.tensor(SEEN[expected]), rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", list_models())
def test_logits_are_enlarged_as_the_authors_do(name):
    with torch.device("meta"):
        net = create_model(name, 2)
    row = torch.tensor([0.0, 1.0]).expand(1, 2, 2, 2)
    aligned = family(name)[1]
    enlarged = torch.tensor([0, 1 / 3, 2 / 3, 1] if aligned else [0, 0.25, 0.75, 1])
    torch.testing.assert_close(net.upsample(row, (4, 4)), enlarged.expand(1, 2, 4, 4))
    torch.testing.assert_close(net.upsample(row.mT, (4, 4)), enlarged.expand(1, 2, 4, 4).mT)
    assert net.align_corners is aligned  # exported graphs and last stages go by it


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_a_backbone_is_trained_on_the_pixels_of_its_networks(name):
    preprocessing = CLASSIFIERS[name].preprocessing
    expected = PLAIN if name.startswith("erfnet") else IMAGENET
    assert (preprocessing.channels, preprocessing.mean, preprocessing.std) == expected
