"""Memory that a training step frees is kept for the next one, in place of being asked for anew page by page."""

from __future__ import annotations

import ctypes
import os
import sys

SWITCH = "KERBSEG_KEEP_MEMORY"  # 0: leave the allocator alone
# of a user who has chosen an allocator, or how it works
CHOSEN = ("LD_PRELOAD", "MALLOC_CONF", "GLIBC_TUNABLES", "MALLOC_MMAP_MAX_", "MALLOC_MMAP_THRESHOLD_",
          "MALLOC_TRIM_THRESHOLD_", "MALLOC_TOP_PAD_")  # fmt: skip
# of glibc's malloc.h
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX = -1, -2, -4
_NEVER = 2**31 - 1
_STEP = 64 * 2**20  # bytes by which the heap grows


def keep_freed_memory() -> bool:
    """Lets glibc keep what is freed until the process ends; says whether it does.

    It would map large blocks one by one, and give them back when they are freed (mallopt(3)): each step then takes the
    same memory again, zeroed, page by page. The numbers computed stay the same. Nothing is changed where there is no
    glibc, where KERBSEG_KEEP_MEMORY is 0, or where the user has chosen by the environment.
    """
    if sys.platform != "linux" or os.environ.get(SWITCH) == "0" or any(name in os.environ for name in CHOSEN):
        return False
    libc = ctypes.CDLL(None)
    if not hasattr(libc, "gnu_get_libc_version"):
        return False
    settings = ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _NEVER), (_TOP_PAD, _STEP))
    return all(libc.mallopt(name, value) for name, value in settings)
