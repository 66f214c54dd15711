"""The vote over time is the argmax of an exponential average that follows what moves."""

import numpy as np
import pytest

from kerbseg.cli import main
from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Predictor, VideoOptions, predict_files
from kerbseg.predict.temporal.flicker import FlickerMeter
from kerbseg.predict.temporal.vote import TemporalVote, delay

pytest.importorskip("cv2", reason="opencv is not installed")
av = pytest.importorskip("av", reason="PyAV is not installed")


def replay(made, sequence):
    """A runtime that gives a sequence of ids, whatever the pictures."""
    left = iter(sequence)
    return made(lambda picture: next(left))


def still(size=(32, 48), seed=0):
    """A picture that flow can be seen in."""
    generator = np.random.default_rng(seed)
    return generator.integers(0, 256, (size[0] // 4, size[1] // 4, 3), np.uint8).repeat(4, 0).repeat(4, 1)


@pytest.mark.parametrize("memory", [0.6, 0.8, 0.95])
def test_where_nothing_moves_it_is_the_argmax_of_the_exponential_average(made, memory):
    generator = np.random.default_rng(0)
    sequence = [generator.choice(4, (32, 48), p=(0.4, 0.3, 0.2, 0.1)).astype(np.uint8) for _ in range(100)]
    vote = TemporalVote(replay(made, sequence), memory)
    average = np.zeros((32, 48, 11))
    compared = 0
    for ids in sequence:
        average = memory * average + (1 - memory) * np.eye(11)[ids]
        winners = vote(still()[None])[0]
        first, second = np.sort(average, 2)[..., [-1, -2]].transpose(2, 0, 1)
        sure = first - second > 2e-3 * (1 - memory)  # votes that are forgotten are as small
        np.testing.assert_array_equal(winners[sure], average.argmax(2)[sure])
        compared += sure.sum()
    assert compared > 0.9 * 100 * 32 * 48


@pytest.mark.parametrize(("memory", "late"), [(0.51, 2), (0.7, 2), (0.8, 4), (0.9, 7)])
def test_a_new_class_is_believed_after_the_delay_and_a_flash_is_not(made, memory, late):
    before, after = np.zeros((32, 48), np.uint8), np.full((32, 48), 3, np.uint8)
    vote = TemporalVote(replay(made, [before] * 60 + [after] * 10), memory)
    winners = [int(vote(still()[None]).max()) for _ in range(70)]
    assert delay(memory) == late
    assert winners == [0] * (60 + late - 1) + [3] * (10 - late + 1)


def test_in_a_tie_the_class_of_longer_standing_wins(made):
    memory = 0.61803398  # memory + memory ** 2 is 1 in float32: two frames ago and the last weigh as much as this one
    before, after = np.full((32, 48), 5, np.uint8), np.full((32, 48), 3, np.uint8)
    assert np.float32(np.float32(memory) + 1) * np.float32(memory) == np.float32(1)
    vote = TemporalVote(replay(made, [before, before, after]), memory)
    assert [int(vote(still()[None]).max()) for _ in range(3)] == [5, 5, 5]


def test_votes_move_with_what_they_are_for(made):
    wide = still((120, 240))
    truth = np.zeros((120, 240), np.uint8)
    truth[40:80, 100:140] = 4
    views = [(slice(10, 106), slice(5 * i, 5 * i + 144)) for i in range(12)]
    wrong = truth.copy()
    wrong[40:80, 100:140] = 7  # the network is wrong about a thing in the last view
    sequence = [truth[view] for view in views[:-1]] + [wrong[views[-1]]]
    vote = TemporalVote(replay(made, sequence), 0.8)
    for view in views:
        winners = vote(wide[view][None])[0]
    right = truth[views[-1]]
    assert (winners[right == 4] == 4).mean() > 0.95
    assert (winners == right).mean() > 0.98


def test_what_just_came_into_sight_is_taken_as_it_is(made):
    cut = [np.zeros((64, 96), np.uint8)] * 10 + [np.full((64, 96), 3, np.uint8)]
    vote = TemporalVote(replay(made, cut), 0.95)
    for _ in range(10):
        vote(still((64, 96), seed=0)[None])
    assert (vote(still((64, 96), seed=1)[None]) == 3).mean() > 0.8


def test_a_batch_is_successive_frames_and_another_size_begins_anew(made):
    left = iter([0, 0, 5, 7])
    vote = TemporalVote(made(lambda picture: np.full(picture.shape[:2], next(left), np.uint8)), 0.8)
    assert (vote(np.stack([still()] * 3)) == 0).all()
    assert (vote(still((16, 64))[None]) == 7).all()


def test_a_picture_too_small_for_flow_is_taken_as_it_is(made):
    vote = TemporalVote(replay(made, [np.full((4, 6), i, np.uint8) for i in range(3)]), 0.9)
    assert [int(vote(np.zeros((1, 4, 6, 3), np.uint8)).max()) for _ in range(3)] == [0, 1, 2]


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
    for runtime in (noisy(made), TemporalVote(noisy(made), 0.8)):
        meter = FlickerMeter()
        for _ in range(20):
            meter.add(picture, runtime(picture[None])[0])
        shares.append(meter.result.share)
    assert shares[0] > 0.05
    assert shares[1] < shares[0] / 5


def test_each_video_begins_anew(made, video_file, tmp_path):
    sources = [video_file(tmp_path / f"{name}.mkv", frames=3, codec="ffv1", still=True) for name in "ab"]
    ids = iter([np.full((32, 48), i, np.uint8) for i in (0, 0, 0, 3, 3, 3)])
    predict_files(Predictor(made(lambda picture: next(ids))), sources, tmp_path, options=VideoOptions(smooth=0.9))
    colors = []
    for name in "ab":
        with av.open(str(tmp_path / f"{name}_overlay.mp4")) as file:
            shown = [frame.to_ndarray(format="rgb24") for frame in file.decode(video=0)]
        colors.append([np.median(each.reshape(-1, 3), 0) for each in shown])
    assert np.abs(np.subtract(*colors)).max(1).min() > 20  # sky and pavement, from the first frame on


@pytest.mark.parametrize("memory", [0, 0.5, 1, -1, float("nan")])
def test_a_memory_that_does_nothing_is_refused(memory):
    with pytest.raises(KerbsegError, match="smooth is"):
        VideoOptions(smooth=memory)


def test_the_command_takes_it(camvid_bundle, video_file, tmp_path, capsys):
    source = video_file(tmp_path / "drive.mkv")
    main(["predict", str(camvid_bundle), str(source), "-o", str(tmp_path), "--smooth", "0.7", "--flicker"])
    assert "7 frames" in capsys.readouterr().out
    with pytest.raises(SystemExit) as left:
        main(["predict", str(camvid_bundle), str(source), "-o", str(tmp_path), "--smooth", "0.3"])
    assert left.value.code == 2
    assert "smooth is 0.3" in capsys.readouterr().err
