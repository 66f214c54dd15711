"""Python's collector of cycles is off while much is imported, and on again afterwards, as it was."""

import gc
import subprocess
import sys
from contextlib import suppress

import pytest

from kerbseg.core.collector import no_collection


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_is_afterwards_what_it_was(enabled):
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with suppress(ZeroDivisionError), no_collection():
            assert not gc.isenabled()
            1 / 0  # noqa: B018 # an error on the way
        assert gc.isenabled() == enabled
    finally:
        (gc.enable if before else gc.disable)()


def test_what_is_there_when_the_command_line_ends_is_not_walked_through_once_more():
    code = (
        "import atexit, gc\n"
        "atexit.register(lambda: print(gc.get_freeze_count() > 0))\n"  # runs after what is registered later
        "from kerbseg.cli import main\n"
        "main(['--version'])\n"
    )
    finished = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert finished.stdout.endswith("True\n")
