"""Which frames are chosen, online and of a whole sequence."""

from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerbseg.core.errors import InputError
from kerbseg.keyframes.offline import best_path, coverage, dynamic_programming, positions
from kerbseg.keyframes.quality import RECENT, Measures
from kerbseg.keyframes.scores import FrameScores
from kerbseg.keyframes.selection import Options, Selector, select

RULES = ("window", "gate", "first", "middle")
LATER = RECENT + 5  # index from which on no frame is judged again


def frame(index, quality=1.0, sem=0.0, motion=5.0, **more):
    return FrameScores(index, round(index * 1e9 / 15), quality, sem, motion, **more)


def film(*frames, begin=0):
    return [frame(begin + i, *each) for i, each in enumerate(frames)]


values = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.8, 0.9, 1.0])
frames = st.lists(
    st.tuples(values, values, st.sampled_from([0.0, 1.0, 7.0, 30.0, 60.0]), st.integers(0, 19)), min_size=1, max_size=50
).map(lambda rows: [frame(i, q, s, m if cut else 0.0, cut=not cut and i > 0) for i, (q, s, m, cut) in enumerate(rows)])


@pytest.mark.parametrize("rule", RULES)
@given(scores=frames)
@settings(max_examples=25, deadline=None)
def test_each_window_has_one_keyframe_and_windows_leave_no_frame_out(rule, scores):
    keyframes = select(scores, Options(rule=rule))
    assert [each.window for each in keyframes] == list(range(len(keyframes)))
    assert keyframes[0].first == 0
    for one, other in pairwise(keyframes):
        assert other.first == one.last + 1
    for each in keyframes:
        assert each.first <= each.scores.index <= each.last
        assert each.plain.index == each.last
    rest = scores[keyframes[-1].last + 1 :]
    assert sum(each.motion for each in rest) < 24, "half a step is taken at the end"
    assert not any(each.cut for each in rest[1:])


@pytest.mark.parametrize("rule", ["window", "gate"])
@given(scores=frames, shift=st.sampled_from([0, LATER]))
@settings(max_examples=40, deadline=None)
def test_what_is_let_go_of_would_not_have_been_taken(rule, scores, shift):
    """A second writing: each window as a whole."""
    scores = [frame(each.index + shift, each.quality, each.sem, each.motion, cut=each.cut) for each in scores]
    for keyframe in select(scores, Options(rule=rule)):
        window = [each for each in scores if keyframe.first <= each.index <= keyframe.last]
        best = max(each.quality for each in window)
        if rule == "window":
            most = max(each.sem for each in window)
            good = [min(1, each.quality / (0.8 * best)) if best else 0 for each in window]
            shown = [0.25 + (each.sem / most if most else 0) for each in window]
            worth = [(one * other, each.quality) for one, other, each in zip(good, shown, window, strict=True)]
        else:
            worth = [(each.sem, each.quality) if each.quality >= 0.8 * best else (-1, 0) for each in window]
        assert keyframe.scores.index == window[worth.index(max(worth))].index


def test_a_frame_is_due_by_motion_and_by_time():
    by_motion = select(film(*[(1, 0, 12.0)] * 13))
    assert [(each.last, each.why) for each in by_motion] == [(4, "motion"), (8, "motion"), (12, "motion")]
    still = select(film(*[(1, 0, 0.0)] * 47))
    assert [(each.first, each.last, each.why) for each in still] == [
        (0, 15, "time"),
        (16, 30, "time"),
        (31, 45, "time"),
    ]


def test_quality_rules_out_and_semantics_weigh():
    window = film((1, 0.1, 5), (0.05, 1.0, 5), (0.9, 0.5, 5), (1, 0.0, 40), begin=LATER)
    assert [each.scores.index - LATER for each in select(window)] == [2]
    assert [each.scores.index - LATER for each in select(window, Options(rule="first"))] == [3]


def test_frames_that_are_all_good_differ_by_what_they_show_alone():
    window = film((1, 0.50, 5), (0.85, 0.51, 5), (0.79, 0.515, 40), begin=LATER)
    assert [each.scores.index - LATER for each in select(window)] == [1]


def test_gate_takes_the_most_target_among_the_good():
    window = film((1, 0.1, 5), (0.79, 1.0, 5), (0.81, 0.5, 5), (1, 0.0, 40), begin=LATER)
    assert [each.scores.index - LATER for each in select(window, Options(rule="gate"))] == [2]
    assert [each.scores.index - LATER for each in select(window, Options(rule="window"))] == [1]


def test_middle_prefers_the_middle():
    window = film(*[(1, 0, 0.0)] * 8, (1, 0, 60))
    assert [each.scores.index for each in select(window, Options(rule="middle"))] == [4]
    assert [each.scores.index for each in select(window)] == [0], "ties: the earliest"


def test_without_any_target_quality_decides():
    window = film((0.5, 0, 5), (0.9, 0, 5), (0.7, 0, 45), begin=LATER)
    for rule in ("window", "gate"):
        assert [each.scores.quality for each in select(window, Options(rule=rule))] == [0.9]


def test_a_window_of_bad_frames_has_its_keyframe():
    assert len(select(film((0, 0, 5), (0, 0.5, 5), (0, 0, 45)))) == 1


@pytest.mark.parametrize("rule", RULES)
def test_one_frame_and_less_than_a_window_give_one_keyframe(rule):
    assert len(select(film((1, 0, 0.0)), Options(rule=rule))) == 1
    assert len(select(film((1, 0, 0.0), (1, 0, 3.0)), Options(rule=rule))) == 1
    assert select([], Options(rule=rule)) == []


def test_a_standing_camera_gives_one_a_second_or_none():
    scores = film(*[(1, 0, 0.03)] * 95)
    assert len(select(scores)) == 6
    assert len(select(scores, Options(static="skip"))) == 1
    goes_on = [*scores, *(frame(95 + i, motion=10.0) for i in range(12))]
    assert [each.why for each in select(goes_on, Options(static="skip"))][1:] != []


def test_a_cut_closes_the_window():
    scores = [frame(0), frame(1), frame(2, cut=True, motion=0), frame(3), frame(4, motion=60)]
    assert [(each.first, each.last, each.why) for each in select(scores)] == [(0, 1, "cut"), (2, 4, "motion")]


def test_a_slam_system_may_say_when_a_frame_is_due():
    keyframes = select(film(*[(1, 0, 50.0)] * 9), due=lambda scores: scores.index in (3, 7))
    assert [(each.first, each.last, each.why) for each in keyframes[:2]] == [(0, 3, "due"), (4, 7, "due")]


def test_the_first_frame_is_judged_again_when_there_is_something_to_compare_it_with():
    good, dark = Measures(2, 0.8, 0.4, 0, 0), Measures(2, 0.8, 0.1, 0, 0)
    scores = [frame(i, 1.0, 0.5 if i == 0 else 0.4, 5.0, measures=good if i else dark) for i in range(12)]
    assert [each.scores.index for each in select(scores)] != [0]
    assert select(scores)[0].scores.index == 1
    assert dynamic_programming(scores, 1) != [0]


def test_novelty_prefers_what_is_not_known():
    one, other = np.eye(2, 4, dtype=np.float32)
    first = [frame(LATER + i, motion=25.0, thumbnail=one) for i in range(3)]
    second = [frame(LATER + 3, 1.0, motion=20, thumbnail=one), frame(LATER + 4, 0.6, motion=40, thumbnail=other)]
    assert [each.scores.index - LATER for each in select([*first, *second])] == [0, 3]
    assert [each.scores.index - LATER for each in select([*first, *second], Options(novelty=True))] == [0, 4]


@pytest.mark.parametrize("rule", RULES)
def test_memory_does_not_grow_over_ten_thousand_frames(rule):
    chance, alive, most = np.random.default_rng(0), set(), 0

    class Picture:
        def __init__(self):
            alive.add(id(self))

        def __del__(self):
            alive.discard(id(self))

    selector, count = Selector(Options(rule=rule)), 0
    for i in range(10_000):
        scores = frame(i, chance.random(), chance.random(), chance.random() * 10)
        count += sum(1 for _ in selector.add(scores, Picture()))
        most = max(most, len(alive))
    assert count > 500
    assert most <= 40, "those of one window"


@pytest.mark.parametrize(
    "options", [{"rule": "widow"}, {"step_px": 0}, {"longest_s": -1}, {"static": "leave"}, {"step_px": float("nan")}]
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(InputError):
        Options(**options)


# ---- a whole sequence


def every_path(useful, place, count, nearest, farthest):
    """The best sum of all ways, by trying each."""
    best = -np.inf
    for path in combinations(range(len(useful)), count):
        gaps = np.diff(place[list(path)])
        ends = place[path[0]] - place[0], place[-1] - place[path[-1]]
        if (gaps >= nearest).all() and (gaps <= farthest).all() and max(ends) <= farthest:
            best = max(best, sum(useful[i] for i in path))
    return best


@given(rows=st.lists(st.tuples(st.integers(0, 9), st.integers(0, 6)), min_size=3, max_size=11), count=st.integers(1, 4))
@settings(max_examples=40, deadline=None)
def test_dynamic_programming_finds_the_best_way(rows, count):
    useful = np.array([float(value) for value, _ in rows])
    place = np.cumsum([float(step) for _, step in rows])
    count = min(count, len(rows))
    path = best_path(useful, place, count, 2.0, 9.0)
    best = every_path(useful, place, count, 2.0, 9.0)
    if path is None:
        assert best == -np.inf
    else:
        assert len(path) == count
        assert sum(useful[path]) == best


def test_gaps_are_kept_and_given_up_where_there_are_none():
    chance = np.random.default_rng(0)
    scores = film(*((chance.random(), chance.random(), 4.0) for _ in range(120)))
    chosen = dynamic_programming(scores, 10)
    gaps = np.diff(positions(scores)[chosen])
    assert (gaps >= 0.4 * 47.6).all()
    assert (gaps <= 1.8 * 47.6).all()
    jumping = film(*((1, 0, 100.0 if i == 5 else 0.0) for i in range(10)))
    assert len(dynamic_programming(jumping, 4)) == 4
    assert len(set(dynamic_programming(film(*[(1, 0, 0.0)] * 20), 5))) == 5


def covered(scores, chosen):
    """A second writing of what coverage is to make large."""
    place = np.cumsum([each.motion for each in scores])
    most = max(each.sem for each in scores) or 1
    scale = (place[-1] - place[0]) / len(chosen) / 2
    return sum(
        (0.25 + each.sem / most)
        * max((scores[i].quality * np.exp(-abs(place[i] - place[j]) / scale) for i in chosen), default=0)
        for j, each in enumerate(scores)
    )


@pytest.mark.parametrize("seed", range(4))
def test_coverage_is_near_the_best(seed):
    chance = np.random.default_rng(seed)
    scores = film(*((chance.random(), chance.random(), chance.uniform(1, 9)) for _ in range(11)))
    ours = covered(scores, coverage(scores, 3))
    best = max(covered(scores, each) for each in combinations(range(11), 3))
    assert ours >= (1 - 1 / np.e) * best
    assert ours >= 0.9 * best, "greedy is usually much nearer"


@pytest.mark.parametrize("rule", [dynamic_programming, coverage])
def test_odd_numbers_of_keyframes(rule):
    scores = film((1, 0, 1.0), (0, 0, 1.0), (0.5, 1, 1.0))
    assert rule(scores, 9) == [0, 1, 2]
    assert len(rule(scores[:1], 1)) == 1
    with pytest.raises(InputError):
        rule(scores, 0)
    with pytest.raises(InputError):
        rule([], 1)
    assert len(rule(film(*[(0, 0, 0.0)] * 4), 2)) == 2
