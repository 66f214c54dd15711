"""Whether torch.compile can work here."""

from __future__ import annotations

import torch

from kerbseg.core.errors import KerbsegError


def check_compiler(device: torch.device, otherwise: str) -> None:
    """Raises KerbsegError, with the way out, where torch cannot compile a network for a device."""
    try:
        torch.compile(torch.square)(torch.ones(8, device=device))
    except RuntimeError as error:
        why = str(error).strip().splitlines()[0]
        raise KerbsegError(
            f"torch finds no compiler ({why}); install a C++ compiler, for a GPU also Triton, or {otherwise}"
        ) from error
