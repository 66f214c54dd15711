"""The ways to run one network: every engine of the table, in float and, where it has that, in int8."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kerbseg.bundle import Bundle, save
from kerbseg.core.errors import KerbsegError, MissingExtra, did_you_mean
from kerbseg.core.extras import first_missing
from kerbseg.core.types import Dataset
from kerbseg.export.int8 import Quantizer
from kerbseg.runtime import ENGINES, Engine
from kerbseg.runtime.engines import BUNDLE_SUFFIX, exporting, fitting

ALL = "all"


@dataclass(frozen=True)
class Way:
    """An engine, and whether it runs the network in int8."""

    engine: Engine
    int8: bool = False

    @property
    def name(self) -> str:
        """As it is typed and shown, such as openvino-int8."""
        return f"{self.engine.name}-int8" if self.int8 else self.engine.name

    @property
    def suffix(self) -> str:
        """Of the file that it runs."""
        return self.engine.suffix

    @property
    def runs_bundles(self) -> bool:
        """Whether nothing needs to be exported for it."""
        return self.suffix == BUNDLE_SUFFIX

    def missing(self) -> MissingExtra | None:
        """The error for what is not installed of all that it needs, with the command that installs it."""
        extra = self.engine.int8_extra if self.int8 else self.engine.extra
        for each in dict.fromkeys(one for one in (self.engine.extra, extra) if one is not None):
            if (package := first_missing(each)) is not None:
                return MissingExtra(package, each)
        return None

    def file_name(self, stem: str) -> str:
        """What its file is called beside those of the other ways."""
        return f"{stem}{'_int8' if self.int8 else ''}{self.suffix}"

    def write(self, bundle: Bundle, path: Path, size: tuple[int, int], calibration: Dataset, most: int) -> None:
        """Writes its file; in int8 it is calibrated on at most so many pictures. Raises KerbsegError as `export`."""
        if self.runs_bundles:
            save(bundle, path)
        elif self.int8:
            quantizer = Quantizer.of_bundle(bundle, self.engine, size, calibration, most)
            quantizer.save(quantizer.with_uint8_logits(quantizer.quantize_all()), path)
        else:
            exporting().get(self.suffix, self.engine).writer()(bundle, path, size, False)


def all_ways() -> list[Way]:
    """Every engine that is in the table now, in float first."""
    in_int8 = [Way(engine, int8=True) for engine in ENGINES.values() if engine.quantizes]
    return [*(Way(engine) for engine in ENGINES.values()), *in_int8]


def quick_ways() -> list[Way]:
    """Those that may be the quickest: all that run exported files, and of torch what is taken without a word."""
    plain = next(iter(fitting(BUNDLE_SUFFIX)))
    return [way for way in all_ways() if not way.runs_bundles or way.engine.name == plain]


def find_ways(names: str, int8: bool) -> list[Way]:
    """The ways of a list such as 'onnx,openvino', or 'all'; `int8` adds that of each which has it.

    Raises KerbsegError for an unknown name.
    """
    known = {way.name: way for way in all_ways()}
    if names.strip() == ALL:
        return [way for way in known.values() if int8 or not way.int8]
    asked = [each.strip() for each in names.split(",") if each.strip()]
    if not asked:
        raise KerbsegError(f"formats names no engine; choose from: {ALL}, {', '.join(known)}")
    for each in asked:
        if each not in known:
            raise KerbsegError(f"unknown format {each!r}; {did_you_mean(each, [ALL, *known])}")
    more = [f"{each}-int8" for each in asked if int8]
    if int8 and not any(each in known for each in (*asked, *more) if each.endswith("-int8")):
        raise KerbsegError(f"none of {names} runs in int8; choose from: {', '.join(n for n in known if known[n].int8)}")
    return [way for name, way in known.items() if name in asked or name in more]
