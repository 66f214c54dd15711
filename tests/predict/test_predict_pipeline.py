"""The stages overlap, in order, on a bounded number of items; errors come where the results are taken."""

import itertools
import threading
import time

import pytest

from kerbseg.predict.pipeline import ThreadedPipeline


def test_results_are_those_of_one_stage_after_another_in_order():
    work = ThreadedPipeline(range(100), lambda i: i * i, lambda i: i + 1, str)
    assert list(work) == [str(i * i + 1) for i in range(100)]
    assert list(work) == []


def test_without_stages_and_without_items_there_is_nothing_to_wait_for():
    assert list(ThreadedPipeline(range(3))) == [0, 1, 2]
    assert list(ThreadedPipeline((), str)) == []


def test_stages_work_at_the_same_time():
    def wait(item):
        time.sleep(0.03)
        return item

    started = time.monotonic()
    assert len(list(ThreadedPipeline(range(12), wait, wait, wait))) == 12
    assert time.monotonic() - started < 0.7 * 12 * 3 * 0.03


@pytest.mark.parametrize("alive", [1, 3])
def test_no_more_items_are_taken_than_there_is_room_for(alive):
    taken, ahead = 0, []

    def source():
        nonlocal taken
        for i in range(40):
            taken += 1
            yield i

    for given in ThreadedPipeline(source(), lambda i: i, lambda i: i, alive=alive):
        time.sleep(0.001)
        ahead.append(taken - given)
    assert max(ahead) <= alive + 1  # room is made as a result is handed out
    assert taken == 40


def test_an_error_of_a_stage_comes_after_what_was_before_it_and_ends_the_source():
    taken = itertools.count()
    work = ThreadedPipeline(taken, lambda i: 6 // (3 - i), lambda i: i)
    got = []
    with pytest.raises(ZeroDivisionError):
        got.extend(iter(work.__next__, None))
    with pytest.raises(StopIteration):
        next(work)
    time.sleep(0.05)
    reached = next(taken)
    time.sleep(0.05)
    assert next(taken) == reached + 1
    assert reached < 20


def test_an_error_of_the_source_comes_after_its_items():
    def source():
        yield from range(5)
        raise KeyError("over")

    got = []
    with pytest.raises(KeyError):
        got.extend(iter(ThreadedPipeline(source(), str).__next__, None))
    assert got == list("01234")


def test_once_stopped_what_is_under_way_is_finished_and_the_source_closed():
    closed = threading.Event()

    def source():
        try:
            yield from itertools.count()
        finally:
            closed.set()

    work = ThreadedPipeline(source(), lambda i: i, alive=4)
    first = [next(work), next(work)]
    work.stop()
    rest = list(work)
    assert first + rest == list(range(2 + len(rest)))
    assert len(rest) <= 4
    assert closed.wait(5)


def test_a_source_that_never_answers_holds_up_nobody():
    silent = threading.Event()

    def source():
        yield 0
        silent.wait(60)

    work = ThreadedPipeline(source(), str)
    assert next(work) == "0"
    work.stop()
    assert list(work) == []
    silent.set()
