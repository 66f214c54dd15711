"""The vote over time is the argmax of an exponential average, at a cost that does not grow with the classes."""

import numpy as np
import pytest

from kerbseg.cli import main
from kerbseg.core.errors import UserError
from kerbseg.predict import Film, Predictor, predict_files
from kerbseg.predict.flicker import FlickerMeter
from kerbseg.predict.smoothing import Steady


def replay(made, sequence):
    """A runtime that gives a sequence of ids, whatever the pictures."""
    left = iter(sequence)
    return made(lambda picture: next(left))


@pytest.mark.parametrize("memory", [0.6, 0.8, 0.95])
def test_it_is_the_argmax_of_the_exponential_average(made, memory):
    generator = np.random.default_rng(0)
    sequence = [generator.choice(4, (6, 8), p=(0.4, 0.3, 0.2, 0.1)).astype(np.uint8) for _ in range(400)]
    steady = Steady(replay(made, sequence), memory)
    average = np.eye(11)[sequence[0]]
    compared = 0
    for ids in sequence:
        average = memory * average + (1 - memory) * np.eye(11)[ids]
        found = steady(np.zeros((1, 6, 8, 3), np.uint8))[0]
        first, second = np.sort(average, 2)[..., [-1, -2]].transpose(2, 0, 1)
        sure = first - second > 1e-5
        np.testing.assert_array_equal(found[sure], average.argmax(2)[sure])
        compared += sure.sum()
    assert compared > 0.99 * 400 * 48


@pytest.mark.parametrize(("memory", "delay"), [(0.51, 2), (0.7, 2), (0.8, 4), (0.9, 7)])
def test_a_new_class_is_believed_after_the_delay_and_a_flash_is_not(made, memory, delay):
    before, after = np.zeros((2, 2), np.uint8), np.full((2, 2), 3, np.uint8)
    steady = Steady(replay(made, [before] * 30 + [after] * 30), memory)
    found = [int(steady(np.zeros((1, 2, 2, 3), np.uint8)).max()) for _ in range(60)]
    assert steady.delay == delay
    assert found == [0] * (30 + delay - 1) + [3] * (30 - delay + 1)


def test_a_batch_is_successive_frames_and_another_size_begins_anew(made):
    steady = Steady(made(lambda picture: picture[..., 0]), 0.8)
    batch = np.zeros((3, 4, 4, 3), np.uint8)
    batch[2] = 5
    assert steady(batch).tolist() == np.zeros((3, 4, 4), np.uint8).tolist()
    assert (steady(np.full((1, 2, 6, 3), 7, np.uint8)) == 7).all()


def noisy(made, share=0.05, seed=0):
    """A runtime that is right but for single frames' patches."""
    generator = np.random.default_rng(seed)

    def ids(picture):
        right = (picture[..., 1] > 127).astype(np.uint8)
        wrong = generator.random((right.shape[0] // 8, right.shape[1] // 8)).repeat(8, 0).repeat(8, 1) < share
        return np.where(wrong, np.uint8(5), right)

    return made(ids)


def test_smoothing_lowers_the_flicker_of_a_noisy_network(made):
    generator = np.random.default_rng(1)
    picture = generator.integers(0, 256, (16, 24, 3), np.uint8).repeat(4, 0).repeat(4, 1)
    shares = []
    for runtime in (noisy(made), Steady(noisy(made), 0.8)):
        meter = FlickerMeter()
        for _ in range(20):
            meter.add(picture, runtime(picture[None])[0])
        shares.append(meter.result.share)
    assert shares[0] > 0.05
    assert shares[1] < shares[0] / 5


def test_each_video_begins_anew(made, film, tmp_path):
    sources = [film(tmp_path / f"{name}.mkv", frames=3) for name in "ab"]
    shown = []
    ids = iter([np.full((32, 48), i, np.uint8) for i in (0, 0, 0, 3, 3, 3)])
    predictor = Predictor(made(lambda picture: next(ids)))
    film_of = Film(smooth=0.9)
    steadied = film_of._steadied

    def watched(given):
        one = steadied(given)
        inner = one.runtime._add
        one.runtime._add = lambda each: shown.append(int(inner(each).max())) or one.runtime._winner
        return one

    object.__setattr__(film_of, "_steadied", watched)
    predict_files(predictor, sources, tmp_path, film=film_of)
    assert shown == [0, 0, 0, 3, 3, 3]


@pytest.mark.parametrize("memory", [0, 0.5, 1, -1, float("nan")])
def test_a_memory_that_does_nothing_is_refused(memory):
    with pytest.raises(UserError, match="smooth is"):
        Film(smooth=memory)


def test_the_command_takes_it(camvid_bundle, film, tmp_path, capsys):
    source = film(tmp_path / "drive.mkv")
    main(["predict", str(camvid_bundle), str(source), "-o", str(tmp_path), "--smooth", "0.7", "--flicker"])
    assert "7 frames" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), str(source), "-o", str(tmp_path), "--smooth", "0.3"])
    assert left.value.code == 2
    assert "smooth is 0.3" in capsys.readouterr().err
