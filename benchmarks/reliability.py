"""The reliability diagram of a network on drawn scenes, as it was trained and with its temperature.

    kerbseg train smoke/scenes augment={} data.size=[64,128] epochs=20 ema=0 model.options.dropout=0 --out runs/sure
    python benchmarks/reliability.py runs/sure --out docs/images/reliability.svg

Without augmentation the network soon knows its pictures by heart, and is surer of new ones than it should be. The
temperature is fitted on the val split, and all figures are those of the test split.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from kerbseg.apps.reliability import diagram
from kerbseg.calibrate import calibrate
from kerbseg.core.files import atomic_write
from kerbseg.data.scenes import Scenes
from kerbseg.evaluate import evaluate


def main() -> None:
    """Calibrates, evaluates and draws."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", help="a bundle, or a run's folder")
    parser.add_argument("--out", type=Path, required=True, help="the .svg to write")
    parser.add_argument("--limit", type=int, help="only the first N scenes of each split")
    arguments = parser.parse_args()
    calibrated = calibrate(arguments.model, Scenes("val"), limit=arguments.limit)
    report = evaluate(calibrated.bundle, Scenes("test"), limit=arguments.limit, calibration=True)
    assert report.reliability is not None, "torch tells its logits"
    for each in (report.reliability.uncalibrated, report.reliability.calibration):
        print(each and each.figures())
    print(f"temperature {calibrated.temperature}")
    with atomic_write(arguments.out) as temporary:
        temporary.write_text(diagram(report.reliability), encoding="utf-8")
    print(arguments.out)


if __name__ == "__main__":
    main()
