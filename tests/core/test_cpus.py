"""Threads run on the CPUs that were named, and elsewhere again afterwards."""

import os
import threading

import pytest

from kerbseg.core.cpus import on_cpus, parse_cpus
from kerbseg.core.errors import KerbsegError

bound = pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system binds no threads")


@pytest.mark.parametrize(("text", "cpus"), [("0", {0}), ("0,2", {0, 2}), ("4-7", {4, 5, 6, 7}), ("1, 3-4", {1, 3, 4})])
def test_numbers_and_ranges(text, cpus):
    assert parse_cpus(text) == cpus


@pytest.mark.parametrize("text", ["", "a", "0,", "-1", "3-1", "2-", "1.5", "0;1", "99999999"])
def test_what_is_no_number_is_refused(text):
    with pytest.raises(KerbsegError, match="CPUs"):
        parse_cpus(text)


@bound
def test_threads_begun_within_run_there_and_later_ones_everywhere():
    before = os.sched_getaffinity(0)
    one = frozenset({max(before)})
    seen = []
    with on_cpus(one):
        thread = threading.Thread(target=lambda: seen.append(os.sched_getaffinity(0)))
        thread.start()
        thread.join()
    assert seen == [one]
    assert os.sched_getaffinity(0) == before
    with on_cpus(None):
        assert os.sched_getaffinity(0) == before


@bound
def test_a_cpu_that_is_not_there_is_refused_and_nothing_changed():
    before = os.sched_getaffinity(0)
    with pytest.raises(KerbsegError, match="may not use CPU 9999"), on_cpus(frozenset({min(before), 9999})):
        pytest.fail("it was entered")
    assert os.sched_getaffinity(0) == before


def test_other_systems_refuse_it_in_one_line(monkeypatch):
    monkeypatch.delattr(os, "sched_setaffinity", raising=False)
    with pytest.raises(KerbsegError, match="on Linux only"), on_cpus(frozenset({0})):
        pytest.fail("it was entered")
