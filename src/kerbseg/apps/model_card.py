"""A model's card for readers: what it is, how good, where it fails, on whose terms; all of it from its file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, NamedTuple

import yaml
from rich.table import Table

import kerbseg.models as models
from kerbseg.apps.info import CardFacts, mapping
from kerbseg.bundle import BundleCard, shipped
from kerbseg.core.labels import LabelSet
from kerbseg.core.text import counted

REPORTS = {  # entry of a card's scores: how its row begins
    "": "as it is",
    "test": "as it is",
    "train_val": "trained on train and val",
    "test_flip_scales": "flip and three scales, averaged",
}
AUGMENTATION = {"none": "no test-time augmentation", "flip": "flip averaged", "flip_scales": "flip and scales averaged"}
NOT_MEASURED = "not measured"
TERMS = {  # of data sets, by name
    "camvid": "CamVid (Brostow, Fauqueur and Cipolla, Pattern Recognition Letters 2009) is published for research. Its"
    " makers ask to be cited and name no licence, neither for the pictures nor for networks trained on them. No picture"
    " of it is part of kerbseg. For a product, ask the makers of the data, or train on pictures of your own."
}
OURS = "The weights come with kerbseg and are offered under Apache-2.0 as far as its makers hold rights."
LIMITS = {  # likewise
    "camvid": "One city and one camera, by day and at dusk, 2005 to 2008. No night, no snow, no signs of other"
    " countries. Thin and rare things (poles, signs, fences, distant people) are weak: see the table. Figures on val"
    " are too kind, since it is one film whose neighboring pictures are in train; of test, 171 pictures are of a drive"
    " that is not in train, and 62 of a drive that is. Not for decisions on which somebody's safety depends."
}
RECIPE_LINES = ("epochs", "batch_size", "augment", "loss", "optim", "schedule", "distill", "ema", "precision", "seed")


class Section(NamedTuple):
    """A table of a card, with a line on how its figures were made."""

    title: str
    head: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""


def sections(card: BundleCard) -> list[Section]:
    """The tables that the card has figures for, in the order of a page."""
    made = (_accuracy(card), _classes(card), _corruptions(card), _calibration(card), _int8(card), _storage(card))
    return [section for section in made if section.rows]


def markdown(facts: CardFacts, name: str, pictures: Mapping[str, str] | None = None) -> str:
    """The page; `pictures` are Markdown addresses of the drawings that belong to it: `curve` and `scenes`."""
    return joined([*head(facts, name), *body(facts, name, name, name in shipped(), pictures or {})])


def joined(parts: Iterable[str]) -> str:
    """A page of parts, of which some may be empty."""
    return "\n\n".join(part for part in parts if part) + "\n"


def head(facts: CardFacts, name: str) -> list[str]:
    """Title, summary and facts."""
    return [f"# {name}", f"{_summary(facts)}. {_purpose(facts.card.labels)}", _facts_table(facts)]


def body(facts: CardFacts, name: str, typed: str, ours: bool, pictures: Mapping[str, str]) -> list[str]:
    """What follows: figures, training, limits.

    `typed` is what commands call the model, `ours` whether its weights come with kerbseg.
    """
    card, data = facts.card, data_name(facts.card)
    parts = [
        *(_section(section) for section in sections(card)),
        _training(card, pictures.get("curve")),
        _looks(name, typed, data, pictures.get("scenes")),
    ]
    if terms := TERMS.get(data):
        offered = f" {OURS}" if ours else ""
        parts += [f"## Data and its terms\n\n**Data licence.** {terms}{offered}", f"## Limits\n\n{LIMITS[data]}"]
    return parts


def render_section(section: Section) -> Table:
    """The same table for a terminal."""
    table = Table(*section.head, title=section.title, caption=section.note or None, min_width=60)
    for cells in section.rows:
        table.add_row(*(cell.replace("**", "") for cell in cells))
    return table


def _summary(facts: CardFacts) -> str:
    if facts.foreign is not None:
        return f"A network of another house, made of {facts.foreign.file} by kerbseg accelerate"
    return models.card(facts.card.model).summary.rstrip(".")


def _origin(facts: CardFacts) -> str:
    return models.card(facts.card.model).paper if facts.foreign is None else f"of {facts.foreign.file}"


def _purpose(labels: LabelSet) -> str:
    return f"It names the class of every pixel of a picture: {plain(', '.join(labels.classes))}."


def plain(text: str) -> str:
    """Text as Markdown that begins neither a cell nor a tag in it."""
    return text.replace("|", r"\|").replace("<", "&lt;")


def _facts_table(facts: CardFacts) -> str:
    card, height_width = facts.card, "x".join(map(str, facts.card.input_size))
    stored = f"{facts.size_bytes / 1e6:.1f} MB{', kernels in float16' if facts.half else ''}"
    epoch = card.scores.get("epoch")
    rows = {
        "network": f"`{card.model}` ({_origin(facts)}), {facts.parameters:,} parameters",
        "file": stored,
        "classes": f"{len(card.labels)} of {card.labels.name}",
        "pictures": f"RGB, trained at {height_width} (HxW); other sizes work",
        "weights": card.source,
        "epoch": f"{epoch} of {card.recipe.get('epochs', '?')}" if epoch else "",
        "written by": ", ".join(f"{key} {value}" for key, value in card.versions.items()),
    }
    return markdown_table(("", ""), tuple((key, value) for key, value in rows.items() if value))


def _section(section: Section) -> str:
    note = f"\n\n{section.note}" if section.note else ""
    return f"## {section.title}\n\n{markdown_table(section.head, section.rows)}{note}"


def markdown_table(head: tuple[str, ...], rows: tuple[tuple[str, ...], ...]) -> str:
    """A table whose cells stay cells and text, whatever classes and files are called."""
    rows = tuple(tuple(plain(cell) for cell in cells) for cells in rows)
    return "\n".join("| " + " | ".join(cells) + " |" for cells in (head, ("---",) * len(head), *rows))


# ---- figures


def reports(card: BundleCard) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The evaluations that a card holds, with what is particular about each."""
    for key, words in REPORTS.items():
        report = card.scores if not key else mapping(card.scores.get(key))
        if _figure(report.get("miou")) != NOT_MEASURED:
            yield words, report


def _accuracy(card: BundleCard) -> Section:
    rows = []
    for words, report in reports(card):
        protocol = mapping(report.get("protocol"))
        where = f"{protocol.get('data', '?')} {protocol.get('split', '?')}"
        figures = (_figure(report.get("miou")), _figure(report.get("pixel_accuracy")))
        rows.append((where, words, str(report.get("images", "all")), *figures))
    last = [report for _, report in reports(card)][-1:]
    return Section(
        "How good",
        ("data", "how", "pictures", "mIoU", "pixel accuracy"),
        tuple(rows),
        f"{describe(mapping(last[0].get('protocol')), tta=False)}. One training, one seed." if last else "",
    )


def describe(protocol: Mapping[str, Any], tta: bool = True) -> str:
    """A protocol in words."""
    size = protocol.get("label_size")
    parts = [
        f"Labels at {'x'.join(map(str, size))} (HxW)" if isinstance(size, list) else f"Labels at {size} sizes",
        AUGMENTATION.get(str(protocol.get("tta")), "") if tta else "",
        " ".join(str(protocol[key]) for key in ("runtime", "precision") if key in protocol),
        f"on {protocol['device']}" if "device" in protocol else "",
        f"the first {protocol['limit']} pictures only" if protocol.get("limit") else "",
    ]
    return ", ".join(part for part in parts if part)


def _classes(card: BundleCard) -> Section:
    val, test = card.scores, mapping(card.scores.get("test"))
    kinds = [("val", val), ("test", test)] if test else [("val", val)]
    rows = [
        (name, *(_figure(mapping(report.get("class_iou")).get(name)) for _, report in kinds))
        for name in card.labels.classes
    ]
    total = ("**mIoU**", *(f"**{_figure(report.get('miou'))}**" for _, report in kinds))
    known = bool(val.get("class_iou"))
    return Section("IoU of each class", ("class", *(kind for kind, _ in kinds)), (*rows, total) if known else ())


def _corruptions(card: BundleCard) -> Section:
    entry = mapping(card.scores.get("corruptions"))
    kinds, clean = mapping(entry.get("miou")), entry.get("clean")
    rows = [(name.replace("_", " "), _figure(miou), _part(miou, clean)) for name, miou in kinds.items()]
    if rows:
        total = ("**mean of what is kept**", "", f"**{_part(entry.get('kept'), 1.0)}**")
        rows = [("none: clean", _figure(clean), ""), *rows, total]
    how = mapping(entry.get("protocol"))
    note = (
        f"Severity {entry.get('severity', '?')} of 5, on {entry.get('images', 'all')} pictures of"
        f" {how.get('split', 'the split')}; kept is the share of the clean mIoU. Drawn by"
        f" {entry.get('package', 'a program that is not said')}."
    )
    return Section("In other light and weather", ("corruption", "mIoU", "kept"), tuple(rows), note)


def _calibration(card: BundleCard) -> Section:
    fitted = mapping(card.scores.get("calibration"))
    tested = mapping(mapping(card.scores.get("test")).get("calibration"))
    sides = [fitted.get("before"), fitted.get("after"), tested.get("uncalibrated"), tested]
    columns = [mapping(side) for side in sides]
    rows = tuple(
        (name, *(_figure(column.get(key)) for column in columns))
        for key, name in (("ece", "ECE"), ("adaptive_ece", "adaptive ECE"), ("brier", "Brier score"))
        if any(key in column for column in columns)
    )
    temperature = fitted.get("temperature")
    known = isinstance(temperature, int | float)
    return Section(
        "Whether its confidence can be believed",
        ("lower is better", "val, as trained", "val, with temperature", "test, as trained", "test, with temperature"),
        rows,
        f"Temperature {temperature:.4g}, fitted on {mapping(fitted.get('protocol')).get('split', '?')}; exported models"
        " take it along."
        if known
        else "",
    )


def _int8(card: BundleCard) -> Section:
    entry = mapping(card.scores.get("int8"))
    sides = [mapping(entry.get(side)) for side in ("float32", "int8")]
    if not all(sides):
        return Section("In int8", (), ())
    rows = [
        ("mIoU on val", *(_figure(side.get("miou")) for side in sides)),
        ("MB", *(f"{side['size_bytes'] / 1e6:.2f}" for side in sides)),
        ("ms a picture", *(_milliseconds(side) for side in sides)),
    ]
    how = mapping(entry.get("protocol"))
    timed = mapping(how.get("latency")) or how  # times may come from a run of their own, with other threads
    known = timed.get("instructions")
    vnni = "" if known is None else " with VNNI" if "vnni" in str(known) else " without VNNI"
    processor = timed.get("processor", "a processor that is not said")
    threads = counted(timed["threads"], "thread") if "threads" in timed else "threads not said"
    note = (
        f"OpenVINO, {threads}, {processor}{vnni};"
        f" calibrated on {how.get('calibration_pictures', '?')} pictures of train."
    )
    return Section("In int8", ("figure", "float32", "int8"), tuple(rows), note)


def _storage(card: BundleCard) -> Section:
    entry = mapping(card.scores.get("float16"))
    if not entry:
        return Section("Kernels in float16", (), ())
    rows = tuple(
        (f"mIoU on val, {name}", f"{entry[key]:.5f}")
        for key, name in (("miou_float32", "in float32"), ("miou_float16", "rounded to float16"))
    )
    kept = "The file holds the rounded ones." if entry.get("used") else "The file holds float32."
    return Section("Kernels in float16", ("figure", ""), rows, kept)


def _figure(value: object) -> str:
    known = isinstance(value, int | float) and math.isfinite(value)
    return f"{value:.4f}" if known else NOT_MEASURED


def _part(value: object, whole: object) -> str:
    if not isinstance(value, int | float) or not isinstance(whole, int | float) or whole <= 0:
        return NOT_MEASURED
    return f"{100 * value / whole:.0f} %"


def _milliseconds(side: Mapping[str, Any]) -> str:
    median = mapping(side.get("latency_ms")).get("median")
    return f"{median:.1f}" if isinstance(median, int | float) else NOT_MEASURED


# ---- words


def data_name(card: BundleCard) -> str:
    """The data set that the weights were trained on; empty where the card does not say."""
    return str(mapping(card.recipe.get("data")).get("name", ""))


def _training(card: BundleCard, curve: str | None) -> str:
    if not card.recipe:
        return ""
    values = {key: _used(card.recipe[key]) for key in RECIPE_LINES if key in card.recipe}
    short = {key: value for key, value in values.items() if value or key == "seed"}
    text = yaml.safe_dump(short, sort_keys=False, default_flow_style=None, width=100, allow_unicode=True)
    drawn = f"![Loss and mIoU on val, by epoch]({curve})\n\n" if curve else ""
    lead = "Written here is what shapes the result; the file's card holds the whole recipe (`kerbseg info --json`)."
    return f"## How it was trained\n\n{drawn}{lead}\n\n```yaml\n{text}```"


def _used(value: Any) -> Any:
    """The value without entries that are zero or empty: they say what was not done."""
    return {key: _used(each) for key, each in value.items() if _used(each)} if isinstance(value, Mapping) else value


def _looks(name: str, typed: str, data: str, scenes: str | None) -> str:
    drawn = f"![Drawn scenes: the best and the worst of some]({scenes})\n\n" if scenes else ""
    words = "Above are drawn scenes, of a kind that it never saw in training. " if scenes else ""
    if not data:
        return ""
    root = "" if data == "scenes" else f" --data-root DATA/{data}"
    command = f"kerbseg evaluate {typed} --data {data}{root} --split val --html {name}.html"
    why = (
        "Pictures of the data set are not ours to show. This command makes a page of where the network errs on your own"
        " copy: the worst pictures beside truth and errors, and what was taken for what."
    )
    return f"## Good and bad\n\n{drawn}{words}{why}\n\n```\n{command}\n```"
