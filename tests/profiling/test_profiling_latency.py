"""Timing: how many runs, in which order, until when; on a clock that only the calls move."""

import dataclasses
import math

import pytest

from kerbseg.core.errors import KerbsegError
from kerbseg.profiling import latency
from kerbseg.profiling.latency import Budget, Latency, Skipped, interleaved, timed


class Clock:
    """Stands until a call takes its time; notes who was called."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.called: list[str] = []

    def perf_counter(self) -> float:
        return self.now_s

    def call(self, name: str, seconds: float):
        """A call that takes so long."""

        def run() -> None:
            self.called.append(name)
            self.now_s += seconds

        return run


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(latency, "time", clock)
    return clock


def test_median_and_95th_percentile_in_milliseconds():
    assert Latency.of([0.001 * number for number in range(1, 102)]) == Latency(
        pytest.approx(51.0), pytest.approx(96.0), 101
    )
    assert Latency(1.23456, 2.0, 3).to_dict() == {"median": 1.2346, "p95": 2.0, "runs": 3}


def test_a_call_is_over_when_its_device_is_done(clock):
    """As on a GPU, where a call returns before its work is done."""
    only_asked = timed(clock.call("launch", 0.001))
    done = timed(clock.call("launch", 0.001), clock.call("wait", 0.02))
    assert sum(only_asked(2)) == pytest.approx(0.002)
    assert sum(done(2)) == pytest.approx(0.042)
    assert clock.called[2:] == ["launch", "wait"] * 2


def test_a_number_of_runs_is_exact_and_by_turns_of_ten(clock):
    names = "quick", "slow"
    latencies = interleaved(
        [timed(clock.call(name, seconds)) for name, seconds in zip(names, (0.001, 3.0), strict=True)], Budget(runs=25)
    )
    assert [one.runs for one in latencies] == [25, 25]
    assert [one.median_ms for one in latencies] == pytest.approx([1, 3000])
    measured = clock.called[20:]  # after ten calls of each to warm up; two more are thrown away at each turn
    assert measured == (["quick"] * 12 + ["slow"] * 12) * 2 + ["quick"] * 7 + ["slow"] * 7


def test_no_run_more_than_asked_for(clock):
    latencies = interleaved([timed(clock.call("only", 0.001))], Budget(runs=1))
    assert latencies[0].runs == 1


@pytest.mark.parametrize("seconds", [1.0, 10.0])
@pytest.mark.parametrize("each_s", [(0.001,), (0.03, 0.005), (0.1, 0.1, 0.002, 0.002)])
def test_a_time_is_kept_and_used(clock, seconds, each_s):
    latencies = interleaved([timed(clock.call(str(n), each)) for n, each in enumerate(each_s)], Budget(seconds))
    assert 0.7 * seconds <= clock.now_s <= 1.05 * seconds
    assert all(one.runs >= latency.FEWEST for one in latencies)
    assert [one.median_ms for one in latencies] == pytest.approx([1000 * each for each in each_s])


def test_turns_are_taken_also_where_ten_calls_would_fill_the_time(clock):
    interleaved([timed(clock.call("a", 0.4)), timed(clock.call("b", 0.4))], Budget(10.0))
    changes = sum(one != other for one, other in zip(clock.called, clock.called[1:], strict=False))
    assert changes >= latency.TURNS


def test_a_call_longer_than_the_whole_time_is_run_three_times(clock):
    latencies = interleaved([timed(clock.call("ages", 60.0))], Budget(10.0))
    assert latencies[0].runs == 3
    assert len(clock.called) == 4  # one to warm up


def test_runs_with_seconds_are_the_most(clock):
    assert interleaved([timed(clock.call("a", 0.001))], Budget(10.0, 50))[0].runs == 50
    assert clock.now_s < 0.2
    assert interleaved([timed(clock.call("a", 1.0))], Budget(10.0, 50))[0].runs < 10


def test_without_a_word_it_is_ten_seconds(clock):
    interleaved([timed(clock.call("a", 0.01))])
    assert 9 <= clock.now_s <= 10.1
    assert [str(budget) for budget in (Budget(), Budget(2.5), Budget(runs=1), Budget(3, 50))] == [
        "10 s", "2.5 s", "1 run each", "50 runs each, 3 s at most",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("budget", "message"),
    [({"seconds": 0.0}, "seconds is 0"), ({"seconds": float("nan")}, "seconds is nan"), ({"runs": -1}, "runs is -1")],
)
def test_a_budget_that_is_none_is_refused(budget, message):
    with pytest.raises(KerbsegError, match=message):
        Budget(**budget)


def test_what_was_skipped_says_so_and_why():
    skipped = Skipped("openvino is not installed")
    assert str(skipped) == "not measured: openvino is not installed"
    assert not isinstance(skipped, str)
    with pytest.raises(dataclasses.FrozenInstanceError):
        skipped.reason = ""


@pytest.mark.parametrize("seconds", [0.0, -1.0, math.nan, math.inf, 1e30])
def test_a_time_that_would_not_end_is_refused(seconds):
    with pytest.raises(KerbsegError, match="at most 86400"):
        Budget(seconds)
