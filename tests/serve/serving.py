"""Services on loopback, at free ports, whose networks need no time."""

import io
import threading
from contextlib import contextmanager

import numpy as np
from PIL import Image

from kerbseg.bundle_card import BundleCard
from kerbseg.core.labels import label_set
from kerbseg.core.types import Preprocessing
from kerbseg.predict import Predictor
from kerbseg.serve.limits import Limits
from kerbseg.serve.server import Server, ServerOptions
from kerbseg.serve.service import Service

PATIENCE_S = 300  # for what comes at once, but on a busy machine


class Bright:
    """A runtime that sees class 1 where it is bright, else class 0; `before` is called with each batch."""

    name, device, precision, threads, size = "made", "cpu", "float32", 1, None

    def __init__(self, before=lambda pictures: None):
        labels = label_set("camvid")
        self.card = BundleCard("mininet_v2_cpu", labels, Preprocessing(), (32, 48), len(labels))
        self._before = before

    def __call__(self, pictures):
        self._before(pictures)
        return (pictures[..., 1] > 127).astype(np.uint8)

    def with_confidence(self, pictures, **how):
        return self(pictures), pictures[..., 0].astype(np.float32) / 255

    def logits(self, pictures):
        return np.eye(len(self.card.labels), dtype=np.float32)[self(pictures)].transpose(0, 3, 1, 2)


class Gate:
    """Holds a network back until it is opened, and says when a batch has come."""

    def __init__(self):
        self.come, self.open = threading.Event(), threading.Event()
        self.shut = False  # while the network warms up
        self.batches = []

    def __call__(self, pictures):
        if self.shut:
            self.batches.append(len(pictures))
            self.come.set()
            assert self.open.wait(PATIENCE_S)


def noise(seed, size=(32, 48)):
    """A random picture."""
    return np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)


def encoded(pixels, kind="PNG", **how):
    """The content of a file with the picture."""
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind, **how)
    return content.getvalue()


def service(*runtimes, workers=1, **limits):
    """Of networks that are called first, second ..."""
    models = {name: Predictor(each) for name, each in zip(("first", "second"), runtimes, strict=False)}
    return Service(models, Limits(workers=workers, **limits))


@contextmanager
def running(serving, **options):
    """The server of a service, in a thread; it is told to end behind the block, and has ended then."""
    server = Server(serving, ServerOptions(port=0, **options))
    ready = threading.Event()
    thread = threading.Thread(target=server.serve_until_told, args=(ready.set,))
    thread.start()
    assert ready.wait(PATIENCE_S)
    try:
        yield server
    finally:
        if thread.is_alive():
            server.end()
        thread.join(PATIENCE_S)
        assert not thread.is_alive()
