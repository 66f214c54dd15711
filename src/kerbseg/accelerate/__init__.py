"""Networks of other houses with our last stage: found in their graphs, cut, checked, written as our exported files."""

from kerbseg.accelerate.files import Accelerated, accelerate

__all__ = ["Accelerated", "accelerate"]
