"""Which tests one worker of pytest-xdist runs: all of a module that makes something once for all of them.

Groups of pytest-xdist 3.8 itself (`xdist_group`) have no effect under pytest 9.2, which names tests in another way:
each worker would make again what its module shares.
"""

from __future__ import annotations

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from xdist.scheduler import LoadScopeScheduling


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> LoadScopeScheduling | None:
    """What hands tests out where `--dist loadgroup` is asked for; the largest units are begun first."""
    if config.getoption("dist") != "loadgroup":
        return None
    from xdist.scheduler import LoadScopeScheduling

    class ModulesTogether(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return unit(config.rootpath, nodeid)

    return ModulesTogether(config, log)


def unit(root: Path, nodeid: str) -> str:
    """The name that a test shares with those of the same worker: its module's, or its own."""
    module = nodeid.partition("::")[0]
    return module if _makes_once(root / module) else nodeid


@functools.cache
def _makes_once(module: Path) -> bool:
    return 'scope="module"' in module.read_text(encoding="utf-8")
