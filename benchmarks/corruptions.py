"""A picture of every corruption on a drawn street, and the time that each takes.

    python benchmarks/corruptions.py --out docs/images/corruptions.jpg
    python benchmarks/corruptions.py --time 360x480

Times are those of the processor (one thread, the fastest of five runs), so that other work beside them tells little.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import cv2
import numpy as np
import torch
from jaxtyping import UInt8

from kerbseg.cli.options import parse_size
from kerbseg.data.corrupt import DEFAULT_SEVERITY, corrupt_picture
from kerbseg.data.corruption_kinds import CORRUPTIONS
from kerbseg.data.scenes import Scenes

COLUMNS = 3
RUNS = 5

Picture = UInt8[np.ndarray, "h w 3"]


def draw(out: Path, picture: Picture, name: str, severity: int) -> None:
    """Writes the picture as it is and under each corruption."""
    from matplotlib.figure import Figure

    cells = [("as it is", picture)]
    cells += [(kind, corrupt_picture(picture, kind, severity, name)) for kind in CORRUPTIONS]
    rows = -(-len(cells) // COLUMNS)
    figure = Figure(figsize=(9.6, 1.85 * rows), dpi=100, layout="constrained")
    for axes in figure.subplots(rows, COLUMNS).flat:
        axes.axis("off")
        if cells:
            title, pixels = cells.pop(0)
            axes.imshow(pixels, interpolation="lanczos")
            axes.set_title(title, fontsize=9)
    out.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(out, pil_kwargs={"quality": 88} if out.suffix == ".jpg" else {"optimize": True})


def times(picture: Picture, severity: int) -> dict[str, float]:
    """Milliseconds a kind."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    figures = {}
    for kind in CORRUPTIONS:
        spent = []
        for run in range(RUNS):
            start = time.process_time()
            corrupt_picture(picture, kind, severity, str(run))
            spent.append(time.process_time() - start)
        figures[kind] = 1000 * min(spent)
    return figures


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--time", metavar="HEIGHTxWIDTH")
    parser.add_argument("--severity", type=int, default=DEFAULT_SEVERITY)
    parser.add_argument("--scene", type=int, default=3)
    options = parser.parse_args()
    if options.out is not None:
        sample = Scenes("val", size=(256, 512))[options.scene]
        draw(options.out, sample.image, sample.name, options.severity)
    if options.time is not None:
        sample = Scenes("val", size=parse_size(options.time) or (360, 480))[options.scene]
        for kind, ms in times(sample.image, options.severity).items():
            print(f"{kind:18} {ms:7.1f} ms")


if __name__ == "__main__":
    main()
