"""The doctor: looks at every file of a data set and lists all that is wrong, where loading stops at the first."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from hashlib import blake2b
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID, Dataset
from kerbseg.data import data_root, faults, folder, open_unchecked, suspects
from kerbseg.data import splits as splits_of
from kerbseg.data.coco_text import CocoText
from kerbseg.data.faults import Fault, Look, turned_fit
from kerbseg.data.marked import MarkedPictures
from kerbseg.data.masks import check_sizes
from kerbseg.data.pairs import PairedFiles
from kerbseg.data.pictures import exif_orientation
from kerbseg.data.report import Copies, DatasetReport, Problem, SplitReport, Suspicion, UnknownInFile

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

Track = Callable[[Iterable[Any], str, int], Iterable[Any]]
"""Passes items on and shows how far it is: (items, description, number of items)."""


def silent(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """The items, and nothing shown."""
    return items


def on_terminal(items: Iterable[Any], description: str, total: int) -> Iterable[Any]:
    """The items, with a progress bar on stderr where that is a terminal."""
    from rich.markup import escape
    from rich.progress import track

    from kerbseg.core.console import SafeConsole

    console = SafeConsole(stderr=True)
    return track(items, escape(description), total, console=console, transient=True, disable=not console.is_terminal)


def examine(dataset: Dataset, track: Track = silent) -> SplitReport:
    """Figures and problems of one split, from a look at every picture and mask."""
    with ThreadPoolExecutor(min(os.cpu_count() or 1, 4)) as pool:  # decoding leaves the interpreter free
        looks = list(track(pool.map(partial(_look, dataset), range(len(dataset))), dataset.split, len(dataset)))
    k = len(dataset.labels)
    counts = np.stack([np.zeros(256, np.int64), *(look.counts for look in looks if look.counts is not None)])
    total, containing = counts.sum(0), (counts > 0).sum(0)
    return SplitReport(
        data=dataset.name,
        split=dataset.split,
        labels=dataset.labels,
        pictures=len(dataset),
        unlabelled=sum(not look.labelled for look in looks),
        sizes=dict(Counter(look.size for look in looks if look.size is not None).most_common()),
        pixels=tuple(total[:k].tolist()),
        containing=tuple(containing[:k].tolist()),
        void=int(total[VOID]),
        unknown=tuple(value for look in looks for value in look.unknown),
        damage=tuple(faults.of_split(dataset, looks)),
        notes=(*_notes(dataset), *_without_labels(dataset.split, looks)),
        fingerprints={look.name: look.fingerprint for look in looks if look.fingerprint},
        tiny={look.name: look.traits.tiny for look in looks if look.traits and look.traits.tiny is not None},
        suspicions=tuple(_suspicions(dataset, looks)),
    )


NO_VAL = (
    "there is no split 'val': kerbseg train own validates on a fifth of the training pictures; other recipes need"
    " pictures there"
)


def examine_all(
    name: str, root: str | Path | None = None, splits: Sequence[str] | None = None, track: Track = silent
) -> DatasetReport:
    """The named splits of a data set (all that are there), and the pictures that stand in more than one place.

    Raises DataError where there is no such data set or no root; what is wrong within a split is a problem.
    """
    reports: list[SplitReport] = []
    unopened: list[Problem] = []
    for split in splits or splits_of(name, root):
        try:
            dataset = open_unchecked(name, split, root)
        except DataError as error:
            problem = Problem("layout", str(error))
            unopened += [problem] if problem not in unopened else []  # dataset.yaml is that of all splits
            continue
        reports.append(examine(dataset, track))
    if splits is None:
        unopened += faults.of_splits(name, splits_of(name, root))
        if reports and reports[0].split == "train" and "val" not in splits_of(name, root):
            reports[0] = replace(reports[0], notes=(*reports[0].notes, NO_VAL))
    if splits is None and name == "folder":
        unopened += [Problem("layout", text) for text in folder.strays(data_root(name, root))]
    return DatasetReport(
        name, tuple(reports), tuple(unopened), find_copies(reports), tuple(suspects.near_copies(reports))
    )


def find_copies(reports: Sequence[SplitReport]) -> tuple[Copies, ...]:
    """Pictures that stand in more than one place, in order of their first."""
    places: dict[str, list[tuple[str, str]]] = {}
    for report in reports:
        for name, fingerprint in report.fingerprints.items():
            places.setdefault(fingerprint, []).append((report.split, name))
    return tuple(Copies(tuple(where)) for where in places.values() if len(where) > 1)


def render(report: DatasetReport, longest: int = 20) -> RenderableType:
    """Tables for a terminal, and at most `longest` problems; `to_dict` has them all."""
    from rich.console import Group
    from rich.text import Text

    parts: list[RenderableType] = [_splits_table(report)]
    labelled = [split for split in report.splits if split.labelled_pixels]
    if labelled:
        parts.append(_classes_table(labelled))
        if report.healthy:  # weights of wrong counts would be taken for good ones
            parts.append(_weights_table(labelled[0]))
    parts += [Text(line, style="yellow") for line in _suspicious(report)]
    problems = report.problems
    parts += [Text(f"{problem.kind}: {problem.text}", style="red") for problem in problems[:longest]]
    if len(problems) > longest:
        parts.append(Text(f"... and {len(problems) - longest} more problems; --json lists them all"))
    parts += [Text(f"note: {note}") for note in dict.fromkeys(note for split in report.splits for note in split.notes)]
    repeats = sum(not copies.leak for copies in report.copies)
    if repeats:
        parts.append(Text(f"note: {repeats} picture(s) stand more than once among splits of one kind"))
    parts.append(Text("healthy: nothing to mend" if report.healthy else f"{len(problems)} problem(s)", style="bold"))
    return Group(*parts)


def _suspicious(report: DatasetReport) -> Iterator[str]:
    """One line for each kind of suspicion in each split, with the first picture."""
    alike: dict[tuple[str, str], list[Suspicion]] = {}
    for each in report.suspicions:
        alike.setdefault((each.kind, each.split), []).append(each)
    for (_, split), cases in alike.items():
        first = " and ".join("/".join(place) for place in cases[0].pictures)
        more = f" (and {len(cases) - 1} more such; --html shows them)" if len(cases) > 1 else ""
        yield f"suspicious: {split}: {first}: {cases[0].text}{more}"


def _suspicions(dataset: Dataset, looks: Sequence[Look]) -> Iterator[Suspicion]:
    """What looks wrong within a split; not that the marks of words do not follow edges, which lie within them."""
    traits = {look.name: look.traits for look in looks if look.traits}
    counts = {look.name: look.counts for look in looks if look.counts is not None}
    for each in suspects.of_split(dataset.split, traits, counts, dataset.labels.classes):
        if not (isinstance(dataset, CocoText) and each.kind in ("shifted", "edges")):
            yield each


def _notes(dataset: Dataset) -> tuple[str, ...]:
    """What was left out of a split, or of the source that it is a part of."""
    if isinstance(dataset, MarkedPictures | CocoText):
        return dataset.notes
    if isinstance(dataset, PairedFiles) and dataset.listing.skipped:
        return (f"{dataset.split}: left out {dataset.listing.skipped_kinds}",)
    return ()


def _without_labels(split: str, looks: Sequence[Look]) -> Iterator[str]:
    """A mask of nothing but void may be meant, or have ids that were ignored by mistake."""
    seen = [look for look in looks if look.labelled and look.counts is not None and not look.unknown]
    void = [look.name for look in seen if not look.counts[:VOID].any()]  # type: ignore[index] # those that have counts
    if void and len(void) < len(looks):
        yield f"{split}: {len(void)} mask(s) hold void alone, the first is of {void[0]}"


def _look(dataset: Dataset, index: int) -> Look:
    if isinstance(dataset, PairedFiles):
        return _look_at_files(dataset, index)
    try:
        sample = dataset[index]
    except DataError as error:
        return Look(dataset.names[index], faults=(Fault("unreadable", str(error), (dataset.names[index],)),))
    image = sample.image
    if isinstance(dataset, CocoText) and not dataset.labelled:
        return Look(sample.name, sample.mask.shape, _fingerprint(image), labelled=False)
    counts = np.bincount(sample.mask.ravel(), minlength=256)
    traits = suspects.traits(image, sample.mask)
    return Look(sample.name, sample.mask.shape, _fingerprint(image), counts, traits=traits)


def _look_at_files(dataset: PairedFiles, index: int) -> Look:
    pair = dataset.listing.pairs[index]
    wrong: list[Fault] = []
    image = mask = None
    try:
        image = dataset.picture(index)
    except DataError as error:
        wrong.append(Fault("unreadable", str(error), (str(pair.image),)))
    try:
        mask = dataset.mask(index)
    except DataError as error:
        wrong.append(Fault("unreadable", str(error), (str(pair.mask),)))
    turned = None
    if image is not None and mask is not None and pair.mask is not None:
        try:
            check_sizes(image, mask.ids, pair.image, pair.mask)
            turned = turned_fit(image, mask.ids, exif_orientation(pair.image))
        except DataError as error:
            wrong.append(Fault("size", str(error), (str(pair.mask), str(pair.image))))
    traits = None
    if image is not None:
        traits = suspects.traits(image, mask.ids if mask and mask.ids.shape == image.shape[:2] else None)
    counts, unknown = None, tuple[UnknownInFile, ...]()
    if mask is not None:
        counts = np.bincount(mask.ids.ravel(), minlength=256)
        counts[VOID] -= sum(value.pixels for value in mask.unknown)
        unknown = tuple(UnknownInFile(str(pair.mask), v.value, v.pixels, v.row, v.column) for v in mask.unknown)
    return Look(
        pair.name,
        None if image is None else (image.shape[0], image.shape[1]),
        "" if image is None else _fingerprint(image),
        counts,
        pair.mask is not None,
        unknown,
        tuple(wrong),
        {} if mask is None else mask.palette,
        turned,
        pair,
        traits,
    )


def _fingerprint(image: np.ndarray) -> str:
    """A digest of the pixels: a copy in another format or under another name has the same."""
    digest = blake2b(np.ascontiguousarray(image).data, digest_size=16)
    digest.update(repr(image.shape).encode())
    return digest.hexdigest()


def _splits_table(report: DatasetReport) -> Table:
    from rich.table import Table
    from rich.text import Text  # a name in brackets would be read as markup

    table = Table(
        "split", "pictures", "sizes (HxW)", "void share", "unknown pixels", "problems", title=Text(report.data)
    )
    for split in report.splits:
        sizes = [f"{h}x{w}" + (f" ({n})" if len(split.sizes) > 1 else "") for (h, w), n in split.sizes.items()]
        table.add_row(
            Text(split.split),
            f"{split.pictures}" + (f" ({split.unlabelled} without labels)" if split.unlabelled else ""),
            ", ".join(sizes[:4]) + (f" and {len(sizes) - 4} more" if len(sizes) > 4 else ""),
            f"{split.void_share:.2%}" if split.labelled_pixels else "-",
            f"{sum(value.pixels for value in split.unknown)}",
            f"{len(split.problems)}",
        )
    return table


def _classes_table(labelled: Sequence[SplitReport]) -> Table:
    """Share of pixels and number of pictures of each class in each split."""
    from rich.box import SIMPLE_HEAD as SIMPLE
    from rich.table import Column, Table
    from rich.text import Text

    heads = [Text(f"{split.split}\n{figure}") for split in labelled for figure in ("share", "pictures")]
    table = Table("id", Column("class", overflow="fold"), *(Column(head, no_wrap=True) for head in heads), box=SIMPLE)
    for i, name in enumerate(labelled[0].labels.classes):
        figures = ((f"{split.shares[i]:.3%}", f"{split.containing[i]}") for split in labelled)
        table.add_row(str(i), Text(name), *chain.from_iterable(figures))
    return table


def _weights_table(split: SplitReport) -> Table:
    """Class weights of each formula, in the order of a recipe's list."""
    from rich.box import SIMPLE_HEAD as SIMPLE
    from rich.table import Column, Table
    from rich.text import Text

    heads = [Column(Text(formula.replace(" ", "\n"))) for formula in split.class_weights]
    table = Table(
        "id",
        Column("class", overflow="fold"),
        *heads,
        box=SIMPLE,
        title=Text(f"class weights from split {split.split!r}"),
    )
    for i, name in enumerate(split.labels.classes):
        table.add_row(str(i), Text(name), *(f"{weights[i]:.4f}" for weights in split.class_weights.values()))
    return table
