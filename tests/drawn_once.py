"""Scenes are drawn once a test run: most of a short training on them is drawing, and all trainings begin with the same.

A scene follows from its key, size and time alone, as `tests/data/test_data_scenes.py` shows without what is kept here.
The pictures lie in a folder that all workers of the run share.
"""

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Callable
from pathlib import Path

import numpy as np

Frame = tuple[np.ndarray, np.ndarray]
Drawer = Callable[[tuple[int, ...], tuple[int, int], float], Frame]


def kept_in(folder: Path, draw: Drawer) -> Drawer:
    """A drawer that looks into the folder first; `inspect.unwrap` gives the one that draws."""

    @functools.wraps(draw)
    def drawn(key: tuple[int, ...], size: tuple[int, int], time: float) -> Frame:
        path = folder / f"{'_'.join(map(str, (*key, *size, time)))}.npy"
        if not path.exists():
            temporary = path.with_suffix(f".{os.getpid()}-{threading.get_ident()}.npy")
            picture, mask = draw(key, size, time)
            np.save(temporary, np.dstack([picture, mask]))
            temporary.replace(path)  # another worker or thread may have drawn it meanwhile
        both = np.load(path)
        return both[..., :3].copy(), both[..., 3].copy()

    return drawn
