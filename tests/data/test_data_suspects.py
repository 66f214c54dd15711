"""What the doctor finds worth a look: it shows the pairs that were spoiled, and no others."""

import numpy as np
import pytest

from kerbseg.core.labels import label_set
from kerbseg.core.types import Sample
from kerbseg.data.doctor import examine
from kerbseg.data.report import DatasetReport
from kerbseg.data.scenes import Scenes
from kerbseg.data.suspects import near_copies, traits


class Drawn:
    """Scenes, some of which are spoiled."""

    name, labels = "drawn", label_set("cityscapes")

    def __init__(self, split, scenes):
        self.split, self._scenes = split, scenes
        self.names = [scene.name for scene in scenes]

    def __len__(self):
        return len(self._scenes)

    def __getitem__(self, index):
        return self._scenes[index]


@pytest.fixture(scope="module")
def scenes():
    drawn = Scenes("train", 10, (96, 192))
    return [drawn[i] for i in range(10)]


def replaced(scene, image=None, mask=None, name=None):
    given = (scene.image if image is None else image, scene.mask if mask is None else mask)
    return Sample(*given, name or scene.name)


def changed(scenes, index, mask):
    return [replaced(scene, mask=mask) if i == index else scene for i, scene in enumerate(scenes)]


def told(scenes):
    return [(each.kind, each.pictures[0][1], each.text) for each in examine(Drawn("train", scenes)).suspicions]


def test_whole_scenes_raise_no_suspicion(scenes):
    assert told(scenes) == []


def test_a_shifted_mask_is_shown_with_the_way_back(scenes):
    ((kind, name, text),) = told(changed(scenes, 4, mask=np.roll(scenes[4].mask, 8, 1)))
    assert (kind, name) == ("shifted", scenes[4].name)
    assert "better 8 px to the left:" in text


def test_a_mask_of_nothing_in_the_picture_is_shown(scenes):
    generator = np.random.default_rng(0)
    blocks = generator.integers(0, 19, (12, 24), np.uint8).repeat(8, 0).repeat(8, 1)
    assert {(kind, name) for kind, name, _ in told(changed(scenes, 2, mask=blocks))} >= {("edges", scenes[2].name)}


def test_a_picture_of_other_classes_is_shown(scenes):
    train = Drawn.labels.classes.index("train")
    mask = np.where(scenes[7].mask < 8, train, scenes[7].mask).astype(np.uint8)  # all that is flat or built
    ((kind, name, text),) = told(changed(scenes, 7, mask))
    assert (kind, name) == ("shares", scenes[7].name)
    assert "is 'train', usual is 0%" in text


def test_noise_and_plain_pictures_raise_no_suspicion():
    generator = np.random.default_rng(0)
    samples = [
        Sample(generator.integers(0, 256, (64, 96, 3), np.uint8), generator.integers(0, 2, (64, 96), np.uint8), f"{i}")
        for i in range(9)
    ]
    plain = [replaced(each, image=np.full_like(each.image, 90)) for each in samples]
    assert told(samples) == told(plain) == []
    assert near_copies([examine(Drawn("train", plain)), examine(Drawn("val", plain))]) == []


def test_near_copies_between_splits_are_shown_and_equal_ones_left_to_the_leaks(scenes):
    brighter = replaced(scenes[3], image=(scenes[3].image * 0.8 + 20).astype(np.uint8), name="again")
    small = Sample(scenes[5].image[::2, ::2], scenes[5].mask[::2, ::2], "smaller")
    same = replaced(scenes[6], name="same")
    others = [Scenes("val", 4, (96, 192))[i] for i in range(4)]
    reports = [
        examine(Drawn("train", scenes)), examine(Drawn("val", [*others, brighter, small, same])),
        examine(Drawn("train_more", scenes)),
    ]  # fmt: skip
    assert [each.pictures for each in near_copies(reports[:2])] == [
        (("train", scenes[3].name), ("val", "again")),
        (("train", scenes[5].name), ("val", "smaller")),
    ]
    assert near_copies([reports[0], reports[2]]) == [], "two kinds of training"
    figures = DatasetReport("drawn", (), near_copies=tuple(near_copies(reports[:2]))).to_dict()
    assert figures["suspicions"][0]["pictures"] == (("train", scenes[3].name), ("val", "again"))
    assert figures["healthy"] is True, "a suspicion is no problem"


def test_moves_are_told_in_pixels_of_the_picture(scenes):
    large = Scenes("train", 1, (300, 1200))[0]  # compared at a third
    found = traits(large.image, np.roll(large.mask, (0, -12), (0, 1)))
    assert found.move == (0, 12)
    assert found.gain > 1.08


@pytest.mark.parametrize("mask", [None, np.zeros((96, 192), np.uint8)])
def test_without_borders_there_is_nothing_to_compare(scenes, mask):
    assert traits(scenes[0].image, mask).contrast is None
