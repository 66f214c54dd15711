"""Under load nothing is lost, wrong or kept: 64 clients, a full queue, clients that leave, a service that is ended."""

import gc
import json
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit
from weakref import ref

import numpy as np
import pytest
from serving import PATIENCE_S, Bright, Gate, encoded, noise, running, service
from test_serve_http import ask, error

from kerbseg.core.errors import KerbsegError
from kerbseg.predict import Predictor
from kerbseg.serve import Client, ServiceError
from kerbseg.serve.limits import Limits
from kerbseg.serve.server import summary


def until(holds):
    """Waits for what another thread brings about."""
    for _ in range(PATIENCE_S * 1000):
        if holds():
            return
        threading.Event().wait(0.001)
    raise AssertionError("it did not come")


def test_no_request_of_64_clients_is_lost_or_wrong(client, predictor):
    pictures = [noise(seed, (8 + seed % 5, 16 + seed % 7)) for seed in range(64)]
    expected = [predictor(picture).ids for picture in pictures]

    def ask_all(first):
        return [(client.segment(pictures[i]).ids == expected[i]).all() for i in np.roll(range(64), first)[:2]]

    with ThreadPoolExecutor(64) as clients:
        right = [each for answers in clients.map(ask_all, range(64)) for each in answers]
    assert len(right) == 128
    assert all(right)


def test_a_full_queue_refuses_and_the_others_are_answered():
    gate = Gate()
    serving = service(Bright(gate), queue=3)
    with running(serving) as server, Client(server.address) as client, ThreadPoolExecutor(4) as clients:
        gate.shut = True
        answers = [clients.submit(client.segment, noise(0))]
        assert gate.come.wait(PATIENCE_S)
        answers += [clients.submit(client.segment, noise(seed)) for seed in (1, 2, 3)]
        until(lambda: len(serving._queue) == 3)
        with pytest.raises(ServiceError, match=r"the queue is full \(3 of 3 pictures wait\)") as refused:
            client.segment(noise(4))
        assert (refused.value.status, refused.value.retry_after_s) == (429, 1)
        with pytest.raises(ServiceError, match="4 pictures at once, and at most 3 may wait") as refused:
            client.segment_batch([noise(seed) for seed in range(4)])
        assert (refused.value.status, refused.value.retry_after_s) == (413, None), "to wait would not help"
        gate.open.set()
        for seed, answer in enumerate(answers):
            assert (answer.result(PATIENCE_S).ids == Predictor(Bright())(noise(seed)).ids).all()
        assert serving.metrics.total("dropped_total", reason="full") == 5


def test_a_client_with_patience_asks_again():
    gate = Gate()
    serving = service(Bright(gate), queue=1)
    with running(serving) as server, Client(server.address, patience_s=PATIENCE_S) as client:
        gate.shut = True
        with ThreadPoolExecutor(3) as clients:
            answers = [clients.submit(client.segment, noise(0))]
            assert gate.come.wait(PATIENCE_S)
            answers += [clients.submit(client.segment, noise(seed)) for seed in (1, 2)]
            until(lambda: serving.metrics.total("dropped_total", reason="full"))
            gate.open.set()
            assert all(answer.result(PATIENCE_S) for answer in answers)


def test_what_waits_shares_a_call_of_the_network():
    gate = Gate()
    serving = service(Bright(gate), batch=8)
    with running(serving) as server, Client(server.address) as client:
        gate.shut = True
        with ThreadPoolExecutor(8) as clients:
            answers = [clients.submit(client.segment, noise(0))]
            assert gate.come.wait(PATIENCE_S)
            answers += [clients.submit(client.segment, noise(seed)) for seed in range(1, 8)]
            until(lambda: len(serving._queue) == 7)
            gate.open.set()
            for seed, answer in enumerate(answers):
                assert (answer.result(PATIENCE_S).ids == Predictor(Bright())(noise(seed)).ids).all()
    assert gate.batches == [1, 4, 2, 1], "in calls of 4, 2 and 1, since engines compile for each number"


def test_one_of_a_batch_that_cannot_be_segmented_does_not_spoil_the_others():
    def refuse(pictures):
        if (pictures[:, 0, 0] == 1).all(-1).any():
            raise KerbsegError("logits are no numbers")

    gate = Gate()
    bad = np.ones((32, 48, 3), np.uint8)
    serving = service(Bright(lambda pictures: (gate(pictures), refuse(pictures))), batch=4)
    with running(serving) as server, Client(server.address) as client, ThreadPoolExecutor(4) as clients:
        gate.shut = True
        answers = [clients.submit(client.segment, noise(0))]
        assert gate.come.wait(PATIENCE_S)
        answers += [clients.submit(client.segment, each) for each in (noise(1), bad, noise(2))]
        until(lambda: len(serving._queue) == 3)
        gate.open.set()
        assert all(answers[place].result(PATIENCE_S) for place in (0, 1, 3))
        with pytest.raises(ServiceError, match="logits are no numbers"):
            answers[2].result(PATIENCE_S)


def test_a_defect_is_told_without_its_text_and_the_service_goes_on(caplog):
    def fail(pictures):
        if (pictures == 7).all():
            raise ZeroDivisionError("secret")

    with running(service(Bright(fail))) as server:
        status, line = error(ask(server.address, "POST", "/v1/segment", encoded(np.full((32, 48, 3), 7, np.uint8))))
        assert (status, "secret" in line) == (500, False)
        assert ask(server.address, "POST", "/v1/segment", encoded(noise(1)))[0] == 200
    assert caplog.text.count("ZeroDivisionError: secret") == 1


def test_a_defect_of_many_does_not_end_the_worker(caplog):
    def lack(pictures):
        if len(pictures) > 1:
            raise RuntimeError("out of memory")

    gate = Gate()
    serving = service(Bright(lambda pictures: (gate(pictures), lack(pictures))), batch=8)
    with running(serving) as server, Client(server.address) as client, ThreadPoolExecutor(5) as clients:
        gate.shut = True
        answers = [clients.submit(client.segment, noise(0))]
        assert gate.come.wait(PATIENCE_S)
        answers += [clients.submit(client.segment, noise(seed)) for seed in range(1, 5)]
        until(lambda: len(serving._queue) == 4)
        gate.open.set()
        for seed, answer in enumerate(answers):
            assert (answer.result(PATIENCE_S).ids == Predictor(Bright())(noise(seed)).ids).all()
    assert gate.batches == [1, 4, 1, 1, 1, 1]
    assert "4 pictures at once; each is tried alone" in caplog.text
    assert "RuntimeError: out of memory" in caplog.text


def _broken(pictures):
    if (pictures == 7).all():
        raise ZeroDivisionError("secret")


def _in_a_batch(client, picture):
    (result,) = client.segment_batch([picture])
    return str(result)


def _in_a_stream(client, picture):
    with client.frames() as stream:
        stream.send(picture)
        return stream.receive().error


def _by_kserve(client, picture):
    tensor = {"name": "pictures", "datatype": "UINT8", "shape": [1, *picture.shape], "data": picture.ravel().tolist()}
    body = json.dumps({"inputs": [tensor]}).encode()
    return error(ask(client.address, "POST", "/v2/models/first/infer", body))[1]


@pytest.mark.parametrize("way", [_in_a_batch, _in_a_stream, _by_kserve])
def test_the_traceback_of_a_defect_stands_in_the_log_as_the_answer_says(way, caplog):
    with running(service(Bright(_broken))) as server, Client(server.address) as client:
        line = way(client, np.full((32, 48, 3), 7, np.uint8))
    assert "whose traceback stands in the log" in line
    assert "secret" not in line
    assert caplog.text.count("ZeroDivisionError: secret") == 1


def _leave(address, content):
    """Sends a request and is gone."""
    place = urlsplit(address)
    with socket.create_connection((place.hostname, place.port), PATIENCE_S) as connection:
        head = f"POST /v1/segment HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: {len(content)}\r\n\r\n"
        connection.sendall(head.encode() + content)
        yield
    yield


def test_the_pictures_of_a_client_that_has_left_are_not_segmented(caplog):
    gate = Gate()
    serving = service(Bright(gate))
    with running(serving) as server, Client(server.address) as client, ThreadPoolExecutor(2) as clients:
        gate.shut = True
        first = clients.submit(client.segment, noise(0))
        assert gate.come.wait(PATIENCE_S)
        leaving = _leave(server.address, encoded(noise(1)))
        next(leaving)
        until(lambda: len(serving._queue) == 1)
        (job,) = serving._queue._waiting
        next(leaving)
        until(job.future.cancelled)
        gate.open.set()
        assert first.result(PATIENCE_S)
        assert client.segment(noise(2))
    assert serving.metrics.total("dropped_total", reason="left") == 1
    assert gate.batches == [1, 1]
    gc.collect()
    assert not caplog.records, "it is nothing that a log need tell of"


def test_a_picture_that_waited_too_long_is_not_segmented():
    gate = Gate()
    serving = service(Bright(gate), seconds=30)
    with running(serving) as server, Client(server.address) as client, ThreadPoolExecutor(2) as clients:
        gate.shut = True
        first = clients.submit(client.segment, noise(0))
        assert gate.come.wait(PATIENCE_S)
        second = clients.submit(client.segment, noise(1))
        until(lambda: len(serving._queue) == 1)
        serving._queue._waiting[0].came_s -= 31
        gate.open.set()
        assert first.result(PATIENCE_S)
        with pytest.raises(ServiceError, match="waited 30 s without being segmented") as refused:
            second.result(PATIENCE_S)
        assert refused.value.status == 503


def test_a_body_that_comes_too_slowly_is_refused():
    with running(service(Bright(), seconds=0.1)) as server:
        place = urlsplit(server.address)
        with socket.create_connection((place.hostname, place.port), PATIENCE_S) as connection:
            connection.sendall(
                f"POST /v1/segment HTTP/1.1\r\nHost: {place.netloc}\r\nContent-Length: 9\r\n\r\n1".encode()
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


def test_what_waits_is_answered_when_the_service_is_told_to_end():
    gate = Gate()
    serving = service(Bright(gate), workers=1)
    with ThreadPoolExecutor(4) as clients, running(serving) as server:
        client = Client(server.address)
        gate.shut = True
        answers = [clients.submit(client.segment, noise(0))]
        assert gate.come.wait(PATIENCE_S)
        answers += [clients.submit(client.segment, noise(seed)) for seed in (1, 2, 3)]
        client._labels_of("first")
        until(lambda: len(serving._queue) == 3)
        server.end()
        gate.open.set()
        for seed, answer in enumerate(answers):
            assert (answer.result(PATIENCE_S).ids == Predictor(Bright())(noise(seed)).ids).all()
        until(lambda: not serving._threads[0].is_alive())
        with pytest.raises(ServiceError, match="does not answer"):
            Client(server.address).segment(noise(4))
    assert summary(serving.metrics) == "5 requests, 4 pictures"


def test_a_client_that_does_not_take_its_answer_keeps_no_service_from_ending():
    picture = encoded(noise(1, (1000, 1200)), "PNG")  # beside the colors: more than a system keeps for a connection
    with running(service(Bright(), seconds=0.3)) as server:
        place = urlsplit(server.address)
        with socket.socket() as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect((place.hostname, place.port))
            head = f"POST /v1/segment?answer=side HTTP/1.1\r\nHost: {place.netloc}\r\n"
            connection.sendall(f"{head}Content-Length: {len(picture)}\r\n\r\n".encode() + picture)
            until(lambda: server._service.metrics.total("pictures_total", model="first"))
            server.end()
            until(lambda: not server._service._threads[0].is_alive())


def test_nothing_is_kept_of_answered_requests(monkeypatch):
    serving = service(Bright(), workers=2)
    read, finish = serving._read, serving._finish
    seen = []  # by weak references; other tests of this process have jobs and predictions of their own

    def reading(job):
        seen.append(ref(job))
        return read(job)

    def finishing(job, prediction):
        seen.append(ref(prediction))
        finish(job, prediction)

    def nothing_is_kept():
        gc.collect()
        return not any(each() for each in seen)

    monkeypatch.setattr(serving, "_read", reading)
    monkeypatch.setattr(serving, "_finish", finishing)
    with running(serving) as server, Client(server.address) as client:
        for seed in range(20):
            client.segment(noise(seed))
            with pytest.raises(ServiceError):
                client.segment(b"no picture")
        lines = len(serving.metrics_text().splitlines())
        assert len(seen) == 20 + 20 + 20, "jobs and predictions of good pictures, jobs of bad ones"
        until(nothing_is_kept)
        client.segment(noise(0))
        assert len(serving.metrics_text().splitlines()) == lines


@pytest.mark.parametrize(
    ("bounds", "words"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"queue": 0}, "queue is 0; give 1 to 100,000"),
        ({"batch": 0}, "batch is 0"),
        ({"wait_ms": -1}, "wait-ms is -1"),
        ({"wait_ms": float("nan")}, "wait-ms is nan"),
        ({"megabytes": 0}, "max-mb is 0"),
        ({"pixels": 10}, "max-pixels is 10; give 1e\\+06 to 67,108,864"),
        ({"seconds": 0}, "timeout is 0"),
    ],
)
def test_bounds_that_are_none(bounds, words):
    with pytest.raises(KerbsegError, match=words):
        Limits(**bounds)


def test_batches_are_for_gpus():
    assert [Limits().batch_on(device) for device in ("cpu", "cuda", "tensorrt")] == [1, 8, 8]
    assert [Limits().workers_on(device) for device in ("cpu", "cuda", "tensorrt")] == [2, 1, 1]
    assert (Limits(batch=3).batch_on("cpu"), Limits(workers=3).workers_on("cuda")) == (3, 3)
