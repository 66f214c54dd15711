"""What a network computes in, spelled once for runtimes, files and the command line."""

from __future__ import annotations

from typing import Literal

Precision = Literal["float32", "bfloat16", "float16", "int8"]
