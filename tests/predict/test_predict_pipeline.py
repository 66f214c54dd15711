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
    together = threading.Barrier(3, timeout=30)

    def meet(stage):
        def work(item):
            if 2 <= stage + item < 12:  # else the source has not begun, or has ended, for one of them
                together.wait()
            return item

        return work

    assert list(ThreadedPipeline(range(12), *map(meet, range(3)))) == list(range(12))


@pytest.mark.parametrize("most", [1, 3])
def test_no_more_items_are_taken_than_there_is_room_for(most):
    taken, ahead = 0, []

    def source():
        nonlocal taken
        for i in range(40):
            taken += 1
            yield i

    for given in ThreadedPipeline(source(), lambda i: i, lambda i: i, max_in_flight=most):
        time.sleep(0.001)
        ahead.append(taken - given)
    assert max(ahead) <= most + 1  # room is made as a result is handed out
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


def test_a_source_that_cannot_even_begin_is_an_error_and_no_endless_wait():
    class Broken:
        def __iter__(self):
            raise ValueError("no frames here")

    with pytest.raises(ValueError, match="no frames here"):
        list(ThreadedPipeline(Broken(), str))


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

    items = source()  # kept, lest the end of its thread closes it
    work = ThreadedPipeline(items, lambda i: i, max_in_flight=4)
    first = [next(work), next(work)]
    work.stop()
    rest = list(work)
    assert first + rest == list(range(2 + len(rest)))
    assert len(rest) <= 4
    assert closed.wait(5)


class Camera:
    """A source that is held open until it is closed, and that nobody's garbage collection closes."""

    def __init__(self, items: int | None) -> None:
        self.closed = 0
        self._items = itertools.count() if items is None else iter(range(items))

    def __iter__(self):
        return self

    def __next__(self):
        return next(self._items)

    def close(self):
        self.closed += 1


def test_a_source_is_closed_before_the_end_is_told():
    ends_itself, is_stopped, fails = Camera(5), Camera(None), Camera(None)
    assert list(ThreadedPipeline(ends_itself, str)) == list("01234")
    assert ends_itself.closed == 1
    work = ThreadedPipeline(is_stopped, str)
    assert next(work) == "0"
    assert is_stopped.closed == 0
    work.stop()
    list(work)
    assert is_stopped.closed == 1
    with pytest.raises(ZeroDivisionError):
        list(ThreadedPipeline(fails, lambda i: 1 // (3 - i)))
    deadline = time.monotonic() + 5  # the source is told after the stage has failed
    while not fails.closed and time.monotonic() < deadline:
        time.sleep(0.01)
    assert fails.closed == 1


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
