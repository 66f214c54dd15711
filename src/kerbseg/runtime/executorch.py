"""Runs an exported .pte file with ExecuTorch, on its kernels for processors (XNNPACK)."""

from __future__ import annotations

import json
from threading import Lock
from typing import Any

import numpy as np
from jaxtyping import Float32, UInt8

from kerbseg.core.errors import BundleError
from kerbseg.exported_card import ExportedCard
from kerbseg.runtime.cpu_head import Infer
from kerbseg.runtime.engines import ENGINES
from kerbseg.runtime.seal import TAIL_SEAL
from kerbseg.runtime.small_engine import SmallEngine

CARD = "kerbseg_card"  # a method of the program that gives its metadata as JSON, in a tensor of bytes
FORWARD = "forward"
_threads = Lock()  # ExecuTorch has one pool of them in a process


class ExecutorchRuntime(SmallEngine):
    """A .pte file of ours. ExecuTorch's threads are the process's: one network runs at a time, each with its number."""

    name = "executorch"

    def _read(self) -> ExportedCard:
        self._library = executorch()
        self._content = TAIL_SEAL.read(self._path)  # which the program reads as long as it lives
        try:
            self._program = self._library._load_for_executorch_from_buffer(self._content)
            (text,) = self._program.run_method(CARD, [])
        except RuntimeError as error:
            raise BundleError(f"ExecuTorch cannot open {self._path} ({error}); export it again") from error
        return ExportedCard.from_metadata(json.loads(bytes(text.numpy())), str(self._path))

    def _opened(self) -> Infer:
        import torch

        library, program = self._library, self._program
        meta = program.method_meta(FORWARD)
        taken, given = (list(each.sizes()) for each in (meta.input_tensor_meta(0), meta.output_tensor_meta(0)))
        logits = [given[place] for place in (0, 3, 1, 2)] if len(given) == 4 else given
        self._exported.check_tensors(taken, logits, str(self._path))

        def infer(pictures: UInt8[np.ndarray, "1 h w 3"]) -> Float32[np.ndarray, "1 H W k"]:
            picture = torch.from_numpy(np.require(pictures, requirements="W"))
            with _threads:
                if library._threadpool_get_thread_count() != self.threads:
                    library._unsafe_reset_threadpool(self.threads)  # safe while nothing runs
                try:
                    (logits,) = program.run_method(FORWARD, [picture])
                except RuntimeError as error:
                    raise BundleError(f"ExecuTorch cannot run {self._path} ({error}); export it again") from error
            result: np.ndarray = logits.detach().numpy()
            return result

        return infer


def executorch() -> Any:
    """What runs programs. Raises MissingExtra without it."""
    try:
        from executorch.extension.pybindings import portable_lib
    except ImportError as error:
        raise ENGINES["executorch"].missing("executorch") from error
    return portable_lib
