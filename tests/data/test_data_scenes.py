"""Drawn scenes: one seed one scene, every class to be learned, and films that hold together."""

import inspect
from itertools import pairwise

import numpy as np
import pytest

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data import open_dataset, scenes
from kerbseg.data.scenes import COUNTS, Scenes, drive

SMALL = (48, 96)


@pytest.fixture(autouse=True)
def drawn_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each time; elsewhere a scene is drawn once a run."""
    monkeypatch.setattr(scenes, "frame", inspect.unwrap(scenes.frame))


def test_a_scene_follows_from_seed_split_and_index():
    assert not hasattr(scenes.frame, "__wrapped__"), "what is kept of an earlier drawing would show nothing"
    first, again = Scenes("train", size=SMALL)[3], Scenes("train", size=SMALL)[3]
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.mask, again.mask)
    others = [Scenes("train", size=SMALL)[4], Scenes("val", size=SMALL)[3], Scenes("train", size=SMALL, seed=1)[3]]
    for other in others:
        assert (other.mask != first.mask).mean() > 0.05


@pytest.mark.parametrize("size", [(16, 16), (33, 51), (64, 40), (40, 200)])
def test_any_size_gives_a_whole_sample(size):
    sample = Scenes("val", size=size)[0]
    assert sample.image.shape == (*size, 3)
    assert sample.mask.shape == size
    assert sample.image.dtype == sample.mask.dtype == np.uint8


def test_every_class_is_there_often_enough_to_be_learned():
    data = Scenes("train", count=40, size=(128, 256))
    seen = np.zeros(256, int)
    for index in range(len(data)):
        seen[np.unique(data[index].mask)] += 1
    assert set(np.flatnonzero(seen)) == {*range(19), VOID}
    rarest = seen[:19].min()
    assert rarest >= 5, dict(zip(data.labels.classes, seen[:19].tolist(), strict=True))


def test_picture_and_mask_show_the_same_thing():
    """Sky is brighter than road, and edges of the mask lie on edges of the picture."""
    steps_on, steps_off = [], []
    for index in range(6):
        sample = Scenes("test", size=(96, 192))[index]
        gray = sample.image.astype(float).mean(2)
        assert gray[sample.mask == 10].mean() > gray[sample.mask == 0].mean()
        step = np.abs(np.diff(gray, axis=1))
        edge = sample.mask[:, 1:] != sample.mask[:, :-1]
        steps_on.append(step[edge].mean())
        steps_off.append(step[~edge].mean())
    assert np.mean(steps_on) > 2 * np.mean(steps_off)


def test_a_film_moves_a_little_from_frame_to_frame():
    film = drive(seed=5, size=(64, 128))
    masks = [next(film)[1] for _ in range(8)]
    changes = [(after != before).mean() for before, after in pairwise(masks)]
    assert min(changes) > 0
    assert max(changes) < 0.2
    assert (masks[7] != masks[0]).mean() > np.mean(changes)


def test_a_film_can_be_entered_anywhere_and_goes_on_without_end():
    picture, mask = scenes.frame((5, 3), (32, 64), time=3600.0)
    assert len(np.unique(mask)) > 3
    assert picture.std() > 10


def test_it_is_a_data_set_that_needs_no_root():
    data = open_dataset("scenes", "test")
    assert len(data) == COUNTS["test"]
    assert data.labels.name == "cityscapes"
    assert data[0].mask.shape == (256, 512)


def test_a_wrong_split_names_the_nearest():
    with pytest.raises(DataError, match="did you mean 'train'"):
        open_dataset("scenes", "trian")
