"""How much of its score a network keeps on corrupted pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class CorruptionScores:
    """mIoU (0..1) on the same pictures as they are and under each corruption."""

    severity: int  # 1..5
    package: str  # whose corruptions they are, with versions
    clean: float
    miou: Mapping[str, float]  # by corruption

    @property
    def share(self) -> dict[str, float | None]:
        """Of each corruption, its mIoU as a share of the clean one; None where that is 0 or was not measured."""
        return {name: value / self.clean if self.clean > 0 else None for name, value in self.miou.items()}

    @property
    def kept(self) -> float | None:
        """The mean of these shares; None where there is none."""
        shares = [share for share in self.share.values() if share is not None]
        return math.fsum(shares) / len(shares) if shares else None

    def to_dict(self) -> dict[str, Any]:
        """As it stands in `kerbseg evaluate --json` and in the scores of a card."""
        return {
            "severity": self.severity,
            "package": self.package,
            "clean": self.clean,
            "miou": dict(self.miou),
            "kept": self.kept,
        }
