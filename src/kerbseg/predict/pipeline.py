"""Stages that work at the same time, each in a thread of its own, on a bounded number of items."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from kerbseg.predict import interrupts

MAX_IN_FLIGHT = 8
"""Items between source and consumer: enough that each of four stages has one in hand and one to come."""

PATIENCE_S = 0.2  # Ctrl-C may have taken the sign that all is over out of the queue

SOURCE_PATIENCE_S = 1.0  # for a source to end, which may wait for a camera that is silent for ever

Stage = Callable[[Any], Any]


@dataclass(frozen=True)
class _EndOfStream:
    """What follows the last item: nothing, or the error that ended it."""

    error: BaseException | None = None


class ThreadedPipeline:
    """Iterates over what the last stage makes of each item of a source, in order.

    At most `max_in_flight` items are taken from the source and not yet handed out; one may count as several, which
    `cost` tells. An error of the source or of a stage is raised after all items before it. The threads end with the
    process, so a source that never answers holds up nobody.
    """

    def __init__(
        self,
        source: Iterable[Any],
        *stages: Stage,
        max_in_flight: int = MAX_IN_FLIGHT,
        cost: Callable[[Any], int] = lambda item: 1,
    ) -> None:
        self._room = threading.Semaphore(max_in_flight)
        self._cost = lambda item: min(cost(item), max_in_flight)
        self._costs: deque[int] = deque()  # of the items in flight, in order
        self._stopped = threading.Event()
        self._ended = False  # nothing more comes out of the last stage
        self._queues: list[SimpleQueue[Any]] = [SimpleQueue() for _ in range(len(stages) + 1)]
        self._feeder = self._last_thread = self._start(self._feed, source)
        self._workers = [
            self._start(_work, stage, taken, given)
            for stage, taken, given in zip(stages, self._queues, self._queues[1:], strict=False)
        ]
        if self._workers:
            self._last_thread = self._workers[-1]

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        if self._ended:
            raise StopIteration
        item = self._take()
        if isinstance(item, _EndOfStream):
            self._ended = True
            self.stop()
            self._feeder.join(SOURCE_PATIENCE_S)  # the source is closed before its end is told
            if item.error is not None:
                raise item.error
            raise StopIteration
        self._room.release(self._costs.popleft())
        return item

    def _take(self) -> Any:
        """The next of the last queue; what follows the last item where nobody is left to give more."""
        while True:
            if not self._stopped.is_set():
                interrupts.check()
            over = not self._last_thread.is_alive()  # asked before the queue, for a thread may put something and end
            try:
                return self._queues[-1].get(timeout=PATIENCE_S)
            except Empty:
                if over:
                    return _EndOfStream()

    def stop(self) -> None:
        """Takes nothing more from the source; what is under way can still be iterated over."""
        self._stopped.set()
        self._queues[0].put(_EndOfStream())
        self._room.release(MAX_IN_FLIGHT)  # a source that waits for room is to see that it is over

    def finish(self) -> None:
        """Stops, and returns when what was under way has gone through all stages and no stage works any more.

        Errors of what was under way are left out: whoever calls this has a reason to end already.
        """
        self.stop()
        with suppress(Exception):
            for _ in self:
                pass
        for worker in self._workers:
            worker.join()

    @staticmethod
    def _start(target: Callable[..., None], *arguments: Any) -> threading.Thread:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
        return thread

    def _feed(self, source: Iterable[Any]) -> None:
        """Puts the items of the source into the first queue, then what ended it."""
        given = self._queues[0]
        try:
            items = iter(source)
        except Exception as error:  # noqa: BLE001 # raised again where the items are taken
            given.put(_EndOfStream(error))
            return
        ending = _EndOfStream()
        while not isinstance(item := _next(items, self._room), _EndOfStream):
            if self._stopped.is_set():
                break
            self._costs.append(self._cost(item))
            for _ in range(self._costs[-1] - 1):  # one was taken before the item was
                self._room.acquire()
            given.put(item)
            del item  # the queue has it; a name that waits beside it would keep one more alive
        else:
            ending = item
        if isinstance(items, Iterator) and hasattr(items, "close"):
            items.close()
        given.put(ending)


def _next(items: Iterator[Any], room: threading.Semaphore) -> Any:
    """The next item once there is room for it, or what ended the source."""
    room.acquire()
    try:
        return next(items)
    except StopIteration:
        return _EndOfStream()
    except BaseException as error:  # noqa: BLE001 # not swallowed: raised where the results are taken
        return _EndOfStream(error)


def _work(stage: Stage, taken: SimpleQueue[Any], given: SimpleQueue[Any]) -> None:
    while True:
        item = taken.get()
        if not isinstance(item, _EndOfStream):
            try:
                item = stage(item)
            except BaseException as error:  # noqa: BLE001 # not swallowed: raised where the results are taken
                item = _EndOfStream(error)
        given.put(item)
        if isinstance(item, _EndOfStream):
            return
        del item
