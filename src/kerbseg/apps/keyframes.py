"""What `kerbseg keyframes` does: reads a sequence, chooses, writes pictures, lists, figures, and a page to look at."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, get_args

from kerbseg.apps.keyframe_page import Album, page
from kerbseg.apps.sending import Sender
from kerbseg.bundle import versions
from kerbseg.core.errors import DataError, InputError, KerbsegError, KerbsegWarning, did_you_mean
from kerbseg.core.files import atomic_write, check_writable
from kerbseg.core.text import counted
from kerbseg.data.pictures import read_rgb
from kerbseg.keyframes.figures import COLUMNS, Timeline, summary
from kerbseg.keyframes.formats import FORMATS, FormatWriter, places_of
from kerbseg.keyframes.offline import coverage, dynamic_programming
from kerbseg.keyframes.scores import FrameScores, all_judged
from kerbseg.keyframes.selection import Keyframe, Options, Selector, select
from kerbseg.keyframes.sequences import FrameSequence
from kerbseg.keyframes.stream import Kept, scored, target_ids
from kerbseg.keyframes.trajectories import nearest_frames
from kerbseg.predict.predictor import Predictor

Rule = Literal["window", "gate", "first", "middle", "dp", "coverage"]
OFFLINE = {"dp": dynamic_programming, "coverage": coverage}
RECORD = "keyframes.json"  # what a run writes last, with the names of all its files


@dataclass(frozen=True)
class Job:
    """What is asked for."""

    target: tuple[str, ...]
    out: Path
    format: str = "frames"
    rule: Rule = "window"
    options: Options = field(default_factory=Options)
    count: int | None = None  # of keyframes, for the offline rules; as many as the plain rule takes without it
    keep_all: bool = False  # lists and pictures of all frames, not of keyframes alone
    bytes_per_s: float | None = None  # budget of what is sent
    due_ns: tuple[int, ...] | None = None  # when a SLAM system took keyframes

    def __post_init__(self) -> None:
        for name, value, choices in (("rule", self.rule, get_args(Rule)), ("format", self.format, FORMATS)):
            if value not in choices:
                raise InputError(f"unknown {name} {value!r}; {did_you_mean(value, choices)}")
        if self.count is not None and self.rule not in OFFLINE:
            raise InputError(f"the rule {self.rule} takes no count; the rules {' and '.join(OFFLINE)} do")
        if self.count is not None and self.count < 1:
            raise InputError(f"a count of {self.count} keyframes; it must be 1 or more")
        if self.bytes_per_s is not None and not 0 < self.bytes_per_s < float("inf"):
            raise InputError(f"a budget of {self.bytes_per_s:g} bytes a second; it must be a number above 0")


@dataclass(frozen=True)
class Report:
    """What came of it."""

    source: str
    chosen: dict[str, Any]
    plain: dict[str, Any]
    sent: dict[str, Any] | None
    page: Path

    def to_dict(self) -> dict[str, Any]:
        """As `kerbseg keyframes --json` writes it."""
        return {"source": self.source, "chosen": self.chosen, "plain": self.plain, "sent": self.sent}

    def __str__(self) -> str:
        chosen = self.chosen
        lines = [f"{counted(chosen['keyframes'], 'keyframe')} of {counted(chosen['frames'], 'frame')} of {self.source}"]
        if chosen["keyframes"]:
            lines.append(_line("chosen", chosen))
            lines.append(_line("plain rule", self.plain))
        if self.sent is not None:
            lines.append(
                f"sent: {counted(self.sent['pictures'], 'picture')}, {counted(self.sent['masks'], 'mask')},"
                f" {self.sent['bytes']:,} bytes; all pictures are {self.sent['offered_bytes']:,} bytes"
            )
        return "\n".join(lines)


def _line(name: str, figures: dict[str, Any]) -> str:
    ratio, part = figures["target_ratio"], figures["part_share"]
    target = "no target seen whole" if ratio is None else f"target {ratio:.2f} times the mean"
    cut_off = "" if part is None or ratio is None else f", {part:.0%} of it cut off"
    return f"  {name}: mean quality {figures['quality']:.2f}; {target}{cut_off}"


def write_keyframes(
    predictor: Predictor, sequence: FrameSequence, job: Job, progress: Callable[[Any], Iterable[Any]] = iter
) -> Report:
    """Chooses and writes keyframes. Whatever ends it, what was chosen until then becomes files that can be used.

    Raises InputError where the job does not fit the model or the sequence, DataError after the last whole frame of one
    that is damaged, KerbsegError where a file cannot be written.
    """
    target_ids(job.target, predictor.labels)
    _check_folder(job, sequence)
    check_writable(job.out / RECORD)
    if job.rule in OFFLINE and not sequence.again:
        raise InputError(f"the rule {job.rule} looks at the whole sequence twice; {sequence.source} is read once only")
    if job.due_ns is not None and not sequence.entries:
        raise InputError("times of a SLAM system belong to a sequence of picture files, whose times are known before")
    work = _Work(predictor, sequence, job)
    ending: BaseException | None = None
    try:
        steps = work.offline(progress) if job.rule in OFFLINE else work.online(progress)
        for keyframe in steps:
            work.write(keyframe)
    except BaseException as error:  # noqa: BLE001 # raised again below, when the files are whole
        ending = error
    for keyframe in work.rest():
        work.write(keyframe)
    if not len(work.timeline):
        raise ending or DataError(f"{sequence.source} gave no frame")
    report = work.finish(whole=ending is None)
    if isinstance(ending, DataError):
        raise DataError(f"{ending}; keyframes until then are in {job.out}") from ending
    if ending is not None:
        raise ending
    return report


class _Work:
    """One run: its writers, and what is remembered for the figures and the page."""

    def __init__(self, predictor: Predictor, sequence: FrameSequence, job: Job) -> None:
        self._predictor, self._sequence, self._job = predictor, sequence, job
        self._writer = FormatWriter(job.format, job.out, sequence)
        self._album = Album(predictor.labels, target_ids(job.target, predictor.labels), _namer(sequence))
        self._sender = None if job.bytes_per_s is None else Sender(job.bytes_per_s, job.out, predictor.labels)
        self._due = self._due_frames()
        self._selector = Selector(job.options, self._due)
        self._rows: list[tuple[int, str, int, str]] = []  # of each keyframe: index, file, window, why it closed
        self._chosen: list[int] = []
        self._plain: list[int] = []
        self._written: dict[int, Any] = {}
        self.timeline = Timeline()

    def online(self, progress: Callable[[Any], Iterable[Any]]) -> Iterator[Keyframe]:
        """Each keyframe when its window closes."""
        for scores, kept in self._scored(progress):
            yield from self._selector.add(scores, kept)

    def rest(self) -> list[Keyframe]:
        """The keyframe of the window that is open at the end, whatever ended it."""
        return self._selector.finish()

    def offline(self, progress: Callable[[Any], Iterable[Any]]) -> Iterator[Keyframe]:
        """Each keyframe, after all frames were scored; their pictures are read again."""
        scores = all_judged([replace(each, thumbnail=each.thumbnail[:0]) for each, _ in self._scored(progress)])
        plain = [each.last for each in select(scores, replace(self._job.options, rule="first"), self._due)]
        chosen = OFFLINE[self._job.rule](scores, self._job.count or len(plain))
        beside = [min(plain, key=lambda each: (abs(each - i), each)) for i in chosen]
        moved = self.timeline["motion"].cumsum()
        for window, one, other in self._again(chosen, beside):
            i, j, first = chosen[window], beside[window], chosen[window - 1] + 1 if window else 0
            yield Keyframe(scores[i], window, first, j, "all", float(moved[i]), scores[j], one, other)
        self._plain = plain

    def write(self, keyframe: Keyframe) -> None:
        """A keyframe's picture, its line, and its place on the page."""
        scores, kept = keyframe.scores, keyframe.kept
        if scores.index not in self._written:
            self._written[scores.index] = self._writer.add(scores.index, scores.time_ns, kept.picture)
        name = self._written[scores.index].name
        self._rows.append((scores.index, name, keyframe.window, keyframe.why))
        self._chosen.append(scores.index)
        self._plain.append(keyframe.last)
        self._album.add(keyframe)
        if self._sender is not None:
            self._sender.keyframe(keyframe, name)

    def finish(self, whole: bool) -> Report:
        """All lists, figures and the page. Raises KerbsegError where one cannot be written."""
        out, job, timeline = self._job.out, self._job, self.timeline.judged_again()
        scores = list(_score_rows(timeline))
        chosen_rows = (
            f"{i},{timeline.times[i]},{_cell(name)},{scores[i]},{window},{why}" for i, name, window, why in self._rows
        )
        all_rows = (f"{i},{timeline.times[i]},{values}" for i, values in enumerate(scores))
        texts = {
            "keyframes.csv": _table(("index", "time_ns", "file", *COLUMNS, "window", "why"), chosen_rows),
            "scores.csv": _table(("index", "time_ns", *COLUMNS), all_rows),
        }
        sent = None if self._sender is None else self._sender.finish()
        chosen, plain = (summary(timeline, each) for each in (self._chosen, sorted({*self._plain})))
        report = Report(str(self._sequence.source), chosen, plain, sent, out / "keyframes.html")
        texts["keyframes.html"] = page(report, job.target, job.rule, self._album, timeline, self._chosen, self._plain)
        files = [*texts, *self._writer.finish(), *(self._sender.files if self._sender else [])]
        for name, text in texts.items():
            _write(out / name, text)
        before = _earlier(out)
        engine = self._predictor.runtime
        settings = asdict(job.options) | {
            "rule": job.rule,
            "target": list(job.target),
            "format": job.format,
            "keep": "all" if job.keep_all else "keyframes",
            "bytes_per_s": job.bytes_per_s,
        }
        document = {
            "source": report.source,
            "layout": self._sequence.layout,
            "whole": whole,
            "settings": settings,
            "chosen": chosen,
            "plain": plain,
            "sent": sent,
            "protocol": {
                "model": engine.card.model,
                "runtime": engine.name,
                "precision": engine.precision,
                "versions": versions(),
            },
            "files": files,
        }
        _write(out / RECORD, json.dumps(document, indent=1) + "\n")
        for name in before - {*files}:
            (out / name).unlink(missing_ok=True)
        return report

    def _due_frames(self) -> Callable[[FrameScores], bool] | None:
        if self._job.due_ns is None:
            return None
        nearest = nearest_frames(self._job.due_ns, [each.time_ns for each in self._sequence.entries])
        frames = {*nearest} - {None}
        if not frames:
            raise InputError("no time of the SLAM system is near a frame; do both count from the same beginning?")
        if lost := nearest.count(None):
            warnings.warn(
                KerbsegWarning(
                    f"{lost} of {counted(len(nearest), 'time')} of the SLAM system {'is' if lost == 1 else 'are'}"
                    " near no frame and left out; do both count from the same beginning?"
                ),
                stacklevel=2,
            )
        return lambda scores: scores.index in frames

    def _scored(self, progress: Callable[[Any], Iterable[Any]]) -> Iterator[tuple[FrameScores, Kept]]:
        """Every frame, once."""
        with closing(scored(self._sequence.source, self._predictor, self._job.target)) as frames:
            for scores, kept in progress(_Counted(frames, self._sequence.source.count())):
                self.timeline.add(scores)
                if self._job.keep_all:
                    self._written[scores.index] = self._writer.add(scores.index, scores.time_ns, kept.picture)
                if self._sender is not None:
                    self._sender.frame(scores, kept)
                yield scores, kept

    def _again(self, chosen: Sequence[int], beside: Sequence[int]) -> Iterator[tuple[int, Kept, Kept]]:
        """Number and frames of each pair, as soon as both were read again; others are let go of."""
        last: dict[int, int] = {}  # of each frame, the last pair that needs it
        for n, frames in enumerate(zip(chosen, beside, strict=True)):
            last.update(dict.fromkeys(frames, n))
        held: dict[int, Kept] = {}
        pair = 0
        for i, picture in self._pictures(sorted(last)):
            held[i] = Kept(picture, self._predictor(picture, channels="rgb").ids)
            while pair < len(chosen) and chosen[pair] in held and beside[pair] in held:
                yield pair, held[chosen[pair]], held[beside[pair]]
                pair += 1
                held = {each: kept for each, kept in held.items() if last[each] >= pair}
        if pair < len(chosen):
            raise DataError(
                f"{self._sequence.source} is shorter than when it was first read; is it still being written?"
            )

    def _pictures(self, wanted: Sequence[int]) -> Iterator[tuple[int, Any]]:
        """Some frames of the sequence, in order."""
        if self._sequence.entries:
            yield from ((i, read_rgb(self._sequence.entries[i].file)) for i in wanted)
            return
        remaining = {*wanted}
        for i, frame in enumerate(self._sequence.source):
            if i in remaining:
                remaining.remove(i)
                yield i, frame.picture
            if not remaining:
                return


class _Counted:
    """An iterator that knows how many items are to come, for a progress bar."""

    def __init__(self, items: Iterable[Any], count: int) -> None:
        self._items, self._count = items, count

    def __iter__(self) -> Iterator[Any]:
        return iter(self._items)

    def __length_hint__(self) -> int:
        return self._count


def _namer(sequence: FrameSequence) -> Callable[[FrameScores], str]:
    """How a frame is called on the page."""
    if sequence.entries:
        return lambda scores: sequence.entries[scores.index].file.name
    return lambda scores: f"frame {scores.index}, {scores.time_s:.2f} s"


def _check_folder(job: Job, sequence: FrameSequence) -> None:
    out = job.out
    if out.exists() and not out.is_dir():
        raise KerbsegError(f"{out} is a file; name a folder for the results")
    places = [each for each in (sequence.given, sequence.root) if each is not None]
    if any(out.resolve() == each.resolve() for each in places):
        raise KerbsegError(f"{out} is the sequence's own folder; name another one, so that none of its files is lost")
    parents = {each.resolve() for each in (*places, *(entry.file.parent for entry in sequence.entries))}
    folders, lists = places_of(job.format)
    in_place = job.format == "colmap" and sequence.entries
    written = [
        (out / each).resolve()
        for each in (*([] if in_place else folders), *([] if job.bytes_per_s is None else ["sent"]))
    ]
    lost = next((each for each in sorted(parents) if any(each.is_relative_to(place) for place in written)), None)
    if lost is not None:
        raise KerbsegError(
            f"{out} is written into {lost}, where the sequence lies; name another folder, so that no picture is lost"
        )
    before = _earlier(out)
    ours = {(out / name).resolve() for name in before}
    mine = next((each.file for each in sequence.entries if each.file.resolve() in ours), None)
    if mine is not None:
        raise KerbsegError(
            f"{mine} is of an earlier run into {out}, whose files this one would replace; name another folder, so that"
            " no picture is lost"
        )
    foreign = next((name for name in lists if name not in before and (out / name).exists()), None)
    if foreign is not None:
        raise KerbsegError(f"{out / foreign} is not of an earlier run; name another folder, so that it is not lost")


def _earlier(out: Path) -> set[str]:
    """The files that an earlier run wrote here, by its own record."""
    try:
        files = json.loads((out / RECORD).read_text(encoding="utf-8"))["files"]
    except (OSError, ValueError, KeyError, TypeError):  # none, or none of ours
        return set()
    inside = (name for name in files if isinstance(name, str) and ".." not in Path(name).parts)
    return {name for name in inside if not Path(name).is_absolute()}


def _score_rows(timeline: Timeline) -> Iterator[str]:
    for values in zip(*(timeline[name].tolist() for name in COLUMNS), strict=True):
        yield ",".join(f"{value:.6g}" for value in values)


def _table(head: Sequence[str], rows: Iterable[str]) -> str:
    return "".join(f"{line}\n" for line in [",".join(head), *rows])


def _cell(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(each in text for each in ',"\n') else text


def _write(path: Path, text: str) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
