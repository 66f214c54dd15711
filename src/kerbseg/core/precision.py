"""What a network computes in, spelled once for recipes, runtimes, files and the command line."""

from __future__ import annotations

from typing import Literal

FloatPrecision = Literal["float32", "bfloat16", "float16"]
Precision = Literal[FloatPrecision, "int8"]
