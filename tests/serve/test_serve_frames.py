"""A stream of frames: the newest first or each in its turn, and every frame in one count."""

import json
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from serving import PATIENCE_S, Bright, Gate, encoded, noise, running, service
from test_serve_load import until

from kerbseg.predict import Predictor
from kerbseg.serve import Client, ServiceError

sync = pytest.importorskip("websockets.sync.client", reason="websockets is not installed (extra serve)")

from websockets.exceptions import InvalidStatus  # noqa: E402


def connect(address, query="", **headers):
    return sync.connect(
        f"ws{address.removeprefix('http')}/v1/frames{query}", additional_headers=headers, open_timeout=PATIENCE_S
    )


def test_all_frames_are_answered_in_order(client, predictor):
    pictures = [noise(i, (32, 48 + i)) for i in range(10)]
    with client.frames(order="all", confidence=True) as stream:
        for picture in pictures:
            stream.send(picture)
        found = [stream.receive() for _ in pictures]
    assert [(each.frame, each.dropped, each.error) for each in found] == [(i, 0, None) for i in range(10)]
    for picture, each in zip(pictures, found, strict=True):
        assert (each.prediction.ids == predictor(picture).ids).all()
        assert each.prediction.confidence.shape == picture.shape[:2]


def test_the_newest_frame_is_taken_and_the_others_are_counted():
    gate = Gate()
    serving = service(Bright(gate))
    with running(serving) as server, Client(server.address) as client, client.frames() as stream:
        gate.shut = True
        stream.send(noise(0))
        assert gate.come.wait(PATIENCE_S)  # the first is worked on, and the others come
        for i in range(1, 10):
            stream.send(noise(i))
        stream._socket.ping().wait(PATIENCE_S)  # the service has read what was sent before
        gate.open.set()
        first, last = stream.receive(), stream.receive()
        assert (first.frame, first.dropped) == (0, 0)
        assert (last.frame, last.dropped) == (9, 8)
        assert (last.prediction.ids == Predictor(Bright())(noise(9)).ids).all()
        assert serving.metrics.total("dropped_total", reason="frame") == 8


def test_a_bad_frame_ends_nothing(client):
    with client.frames(order="all") as stream:
        for picture in (b"no picture", noise(1)):
            stream.send(picture)
        bad, good = stream.receive(), stream.receive()
    assert bad.error.startswith("frame 0 cannot be read as a picture")
    assert bad.prediction is None
    assert (good.frame, good.error) == (1, None)


def test_pictures_follow_their_counts(served, predictor):
    with connect(served.address, "?answer=ids&order=all") as socket:
        socket.send(encoded(noise(3)))
        assert json.loads(socket.recv(PATIENCE_S)) == {"frame": 0, "dropped": 0, "model": "first", "size": [32, 48]}
        content = socket.recv(PATIENCE_S)
    import io

    from PIL import Image

    assert (np.asarray(Image.open(io.BytesIO(content))) == predictor(noise(3)).ids).all()


def test_an_unknown_model_is_told(client):
    with pytest.raises(ServiceError, match="no model 'x' is served"), client.frames(model="x") as stream:
        stream.receive()


def test_a_service_that_is_not_there():
    with pytest.raises(ServiceError, match="ended"), Client("http://127.0.0.1:9").frames():
        pass


@pytest.mark.parametrize(("origin", "status"), [("https://example.org", 403), ("own", None), ("null", 403)])
def test_pages_of_other_origins_are_refused(served, origin, status):
    headers = {"Origin": served.address if origin == "own" else origin}
    if status is None:
        with connect(served.address, **headers):
            pass
    else:
        with pytest.raises(InvalidStatus) as refused, connect(served.address, **headers):
            pass
        assert refused.value.response.status_code == status


def test_a_stream_that_is_not_understood_gets_one_line(client):
    refused = pytest.raises(ServiceError, match="order: Input should be 'newest' or 'all'; found 'x'")
    with refused as error, client.frames(order="x"):
        pass
    assert error.value.status == 400


def test_a_frame_whose_sender_has_left_is_not_segmented():
    gate = Gate()
    serving = service(Bright(gate))
    with running(serving) as server, Client(server.address) as client, ThreadPoolExecutor(1) as clients:
        gate.shut = True
        first = clients.submit(client.segment, noise(0))
        assert gate.come.wait(PATIENCE_S)
        with client.frames() as stream:
            stream.send(noise(1))
            until(lambda: len(serving._queue) == 1)
            (job,) = serving._queue._waiting
        until(job.future.cancelled)
        gate.open.set()
        assert first.result(PATIENCE_S)
        until(lambda: serving.metrics.total("dropped_total", reason="left"))
    assert gate.batches == [1]


def test_what_fails_beside_a_stream_is_not_called_its_end(client):
    with pytest.raises(FileNotFoundError), client.frames():
        raise FileNotFoundError("of who uses the stream")
    with client.frames() as stream:
        stream._socket.close()
        with pytest.raises(ServiceError, match=r"the stream to http://127.0.0.1:\d+ ended"):
            stream.send(noise(1))


def test_frames_may_be_sent_while_results_are_received(client, predictor):
    class Sent(dict):
        """What was sent; another frame is, between the looks that a result takes."""

        def items(self):
            before = list(super().items())
            stream.send(noise(1))
            return before

        def __delitem__(self, number):
            super().__delitem__(number)
            if number == 0:
                stream.send(noise(1))

    with client.frames(order="all") as stream:
        stream.send(noise(0))
        stream._sent = Sent(stream._sent)
        first, second = stream.receive(), stream.receive()
    assert (first.frame, second.frame) == (0, 1)
    assert (second.prediction.ids == predictor(noise(1)).ids).all()


def test_a_key_is_asked_for():
    with running(service(Bright()), keys=["0123456789abcdef"]) as server:
        for key in (None, "0123456789abcdeg"):
            refused = pytest.raises(ServiceError, match="asks for a key; send it as the header X-API-Key")
            with refused as error, Client(server.address, key=key).frames():
                pass
            assert error.value.status == 401
        with Client(server.address, key="0123456789abcdef").frames(order="all") as stream:
            stream.send(noise(1))
            assert stream.receive().error is None
