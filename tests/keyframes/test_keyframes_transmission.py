"""What is sent under a budget of bytes."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kerbseg.core.errors import InputError
from kerbseg.keyframes.scores import FrameScores
from kerbseg.keyframes.transmission import Outbox, TokenBucket, Transmitter

SECOND = 10**9


def frame(index, quality=1.0, sem=0.0, time_ns=None, thumbnail=(0.0, 0.0)):
    return FrameScores(
        index, index * SECOND if time_ns is None else time_ns, quality, sem, thumbnail=np.array(thumbnail, np.float32)
    )


offers = st.lists(
    st.tuples(st.integers(0, 3 * SECOND), st.integers(1, 5000), st.floats(0, 1), st.floats(0, 1)),
    min_size=1,
    max_size=40,
)


@given(offers=offers, rate=st.floats(1, 10_000), capacity=st.one_of(st.none(), st.floats(1, 20_000)))
@settings(max_examples=60, deadline=None)
def test_no_stretch_of_time_has_more_bytes_than_its_budget(offers, rate, capacity):
    transmitter, time_ns, sent = Transmitter(rate, capacity), 0, []
    for i, (step, size, quality, sem) in enumerate(offers):
        time_ns += step
        if transmitter.offer(frame(i, quality, sem, time_ns), size).sent:
            sent.append((time_ns, size))
        if transmitter.offer_mask(size // 4):
            sent.append((time_ns, size // 4))
    largest = transmitter.bucket.capacity
    assert largest == (3 * max(size for _, size, _, _ in offers) if capacity is None else capacity)
    for i, (begin, _) in enumerate(sent):
        total = 0
        for end, size in sent[i:]:
            total += size
            assert total <= largest + rate * (end - begin) / SECOND + 1e-6


def test_a_bucket_begins_full_and_fills_with_time():
    bucket = TokenBucket(10, 100)
    bucket.look(0, 50)
    assert bucket.take(100)
    assert not bucket.take(1)
    bucket.look(3 * SECOND, 50)
    assert bucket.tokens == pytest.approx(30)
    bucket.look(SECOND, 50)
    assert bucket.tokens == pytest.approx(30), "a clock that goes back fills nothing"
    bucket.look(99 * SECOND, 50)
    assert bucket.tokens == 100


def test_with_any_number_of_bytes_the_price_falls_until_all_that_is_worth_anything_is_sent():
    transmitter = Transmitter(1e15, 1e15)
    decisions = [transmitter.offer(frame(i, 0.2 if i < 200 else 0.18), 10) for i in range(400)]
    assert not decisions[0].sent
    assert any(each.sent for each in decisions[:200])
    assert any(each.sent for each in decisions[300:])
    assert min(each.price for each in decisions) >= 0.02
    worthless = Transmitter(1e15, 1e15)
    assert not any(worthless.offer(frame(i, 0.15), 10).sent for i in range(400)), "0.15 / 0.8 * 0.1 is less than the least"


def test_the_price_rises_with_each_frame_sent_and_falls_with_each_other():
    transmitter = Transmitter(1e9)
    first = transmitter.offer(frame(0, 1.0, 0.5), 10)
    second = transmitter.offer(frame(1, 0.0, 0.5), 10)
    third = transmitter.offer(frame(2, 0.0, 0.5), 10)
    assert (first.sent, second.sent) == (True, False)
    assert (first.price, second.price, third.price) == pytest.approx((0.3, 0.375, 0.375 * 0.97))


def test_small_bad_pictures_do_not_take_the_budget():
    """Blurred and dark frames make small files; what fits first is not what is worth sending."""
    transmitter, bucket = Transmitter(100), TokenBucket(100)
    sent, fitted = [], []
    for i in range(60):
        bad = i % 3 != 0
        size = 200 if bad else 1000
        decision = transmitter.offer(frame(i, 0.1 if bad else 1.0, 0.5), size)
        bucket.look(i * SECOND, size)
        if bucket.take(size):
            fitted.append(bad)
        if decision.sent:
            sent.append(bad)
    assert np.mean(fitted) > 0.5
    assert sent
    assert not any(sent)


def test_what_was_sent_already_is_worth_less():
    one, other = (1.0, 0.0), (0.0, 1.0)
    transmitter = Transmitter(1e9)
    assert transmitter.offer(frame(0, sem=0.5, thumbnail=one), 1).sent
    again = transmitter.offer(frame(1, sem=0.5, thumbnail=one), 1)
    new = transmitter.offer(frame(2, sem=0.5, thumbnail=other), 1)
    assert again.useful == pytest.approx(0, abs=1e-6)
    assert new.useful == pytest.approx(1.1)


def test_two_runs_are_identical():
    chance = np.random.default_rng(0)
    given_frames = [(frame(i, *chance.random(2)), int(chance.integers(1, 900))) for i in range(100)]
    runs = [[each.offer(*one) for one in given_frames] for each in (Transmitter(100), Transmitter(100))]
    assert [(a.sent, a.price, a.tokens) for a in runs[0]] == [(b.sent, b.price, b.tokens) for b in runs[1]]


def test_masks_leave_room_for_a_picture():
    transmitter = Transmitter(1)
    transmitter.offer(frame(0, 0.0), 100)
    assert not transmitter.offer_mask(201)
    assert transmitter.offer_mask(150)
    assert not transmitter.offer_mask(100)


def test_a_receiver_may_ask_for_one_of_the_last_pictures():
    outbox = Outbox(2)
    for i in range(3):
        outbox.put(i, bytes([i]))
    assert [outbox.request(i) for i in range(3)] == [None, b"\1", b"\2"]


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_budget_is_above_zero(rate):
    with pytest.raises(InputError):
        Transmitter(rate)
