"""Processes that time models: what they are asked for has a limit, and one that is gone is told as such."""

from multiprocessing import Pipe

import pytest

from kerbseg.core.errors import KerbsegError
from kerbseg.profiling.workers import TimeOver, Worker


def asked(answer=None, gone=False, limit_s=None):
    """What becomes of a question, and how often the process was ended."""
    ours, theirs = Pipe()
    ended = []
    if answer is not None:
        theirs.send(answer)
    if gone:
        theirs.close()
    try:
        return Worker(None, frozenset({"call"}), ours, lambda: ended.append(1)).ask("call", 3, limit_s), ended
    except TimeOver:
        assert ended == [1]
        raise
    finally:
        ours.close()
        theirs.close()


@pytest.mark.parametrize("limit_s", [None, 0.0, 60.0])
def test_an_answer_that_is_there_is_given(limit_s):
    assert asked([0.1, 0.2, 0.3], limit_s=limit_s) == ([0.1, 0.2, 0.3], [])


@pytest.mark.parametrize("limit_s", [0.0, -1.0])
def test_what_is_not_there_in_time_ends_the_process(limit_s):
    with pytest.raises(TimeOver, match="longer than its share of the time"):
        asked(limit_s=limit_s)


@pytest.mark.parametrize("limit_s", [None, 60.0])
def test_a_process_that_is_gone_is_said_to_be(limit_s):
    with pytest.raises(KerbsegError, match="has ended; is there memory"):
        asked(gone=True, limit_s=limit_s)
