"""The queue gives out what came first, with what can share its call, and holds no more than its limit."""

import threading

import pytest

from kerbseg.serve.jobs import Full, Job, JobQueue


def job(model="a", confidence=False, came_s=0.0):
    return Job(model, lambda: None, lambda prediction: None, confidence, came_s)


def test_what_came_first_is_taken_first():
    queue, jobs = JobQueue(4), [job(), job(), job()]
    queue.put(jobs)
    assert [queue.take() for _ in jobs] == [[each] for each in jobs]


def test_all_or_none_where_there_is_no_room():
    queue = JobQueue(2)
    queue.put([job()])
    with pytest.raises(Full):
        queue.put([job(), job()])
    assert len(queue) == 1
    queue.put([job()])
    with pytest.raises(Full):
        queue.put([job()])


def test_a_batch_has_jobs_of_one_kind_alone_and_others_keep_their_turn():
    queue = JobQueue(9, batch=lambda model: 3)
    first, other, sure, second, third, fourth = jobs = [job(), job("b"), job(confidence=True), job(), job(), job()]
    queue.put(jobs)
    assert queue.take() == [first, second, third]
    assert queue.take() == [other]
    assert queue.take() == [sure]
    assert queue.take() == [fourth]


def test_a_batch_waits_for_others_no_longer_than_its_first_may():
    now_s = 10.0
    queue = JobQueue(9, batch=lambda model: 3, wait_s=60.0, clock=lambda: now_s)
    late = job(came_s=now_s - 60.0)
    queue.put([late])
    assert queue.take() == [late], "it has waited for a worker as long as it may"
    first, second, third = job(came_s=now_s), job(came_s=now_s), job(came_s=now_s)
    queue.put([first])
    taken = []
    taker = threading.Thread(target=lambda: taken.append(queue.take()))
    taker.start()
    queue.put([second])
    queue.put([third])
    taker.join(60)
    assert taken == [[first, second, third]], "it is full before the time is over"


def test_who_waits_for_others_ends_when_the_queue_is_closed():
    queue = JobQueue(9, batch=lambda model: 3, wait_s=3600.0, clock=lambda: 0.0)
    queue.put([only := job()])
    taken = []
    taker = threading.Thread(target=lambda: taken.append(queue.take()))
    taker.start()
    queue.close()
    taker.join(60)
    assert taken == [[only]]


def test_a_closed_queue_gives_out_what_it_has_and_then_nothing():
    queue, jobs = JobQueue(4), [job(), job()]
    queue.put(jobs)
    queue.close()
    with pytest.raises(Full):
        queue.put([job()])
    assert [queue.take(), queue.take(), queue.take()] == [[jobs[0]], [jobs[1]], []]


def test_two_takers_share_the_jobs():
    queue, jobs = JobQueue(100), [job() for _ in range(100)]
    taken = []

    def take():
        while batch := queue.take():
            taken.extend(batch)

    takers = [threading.Thread(target=take) for _ in range(2)]
    for taker in takers:
        taker.start()
    queue.put(jobs)
    queue.close()
    for taker in takers:
        taker.join(60)
    assert sorted(map(id, taken)) == sorted(map(id, jobs))
