"""How pictures are looked at: at another size, in part, in tiles, on which CPUs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kerbseg.predict.predictor import Predictor
from kerbseg.predict.roi import Roi, RoiSegmenter
from kerbseg.predict.tiles import TiledRuntime, plan_tiles
from kerbseg.predict.videos import Segmenter
from kerbseg.runtime import Runtime, network_size


@dataclass(frozen=True)
class Looks:
    """The options of `kerbseg predict` that say how pictures are looked at."""

    size: tuple[int, int] | None = None  # height, width
    roi: Roi | None = None
    tile: tuple[int, int] | None = None  # height, width
    overlap: int | None = None  # pixels
    cpus: frozenset[int] | None = None

    def open(self, runtime: Runtime, **how: Any) -> tuple[Predictor, Segmenter, dict[str, Any]]:
        """The predictor of a runtime, what segments with it, and what `--json` says of it; `how` is for `Predictor`."""
        tiles = None if self.tile is None else plan_tiles(runtime, self.tile, self.overlap)
        if tiles is not None:
            predictor = Predictor(TiledRuntime(runtime, tiles), input_size="own", **how)
        else:
            if self.size is not None:
                network_size(self.size, runtime, self.size)  # refused before any picture is read
            predictor = Predictor(runtime, input_size=self.size or "trained", **how)
        looks = {
            "size": None if self.size is None else list(self.size),
            "roi": None if self.roi is None else [self.roi.x, self.roi.y, self.roi.width, self.roi.height],
            "tiles": None if tiles is None else tiles.to_dict(),
            "cpus": None if self.cpus is None else sorted(self.cpus),
        }
        return predictor, predictor if self.roi is None else RoiSegmenter(predictor, self.roi), looks
