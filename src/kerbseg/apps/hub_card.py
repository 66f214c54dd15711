"""A model's page on a hub: the card for readers, under the front matter that a hub sorts models by."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote

import yaml

from kerbseg.apps.info import CardFacts, mapping
from kerbseg.apps.model_card import (
    OURS,
    TERMS,
    body,
    data_name,
    describe,
    head,
    joined,
    markdown_table,
    reports,
)
from kerbseg.core.display import display_palette
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import Color, LabelSet
from kerbseg.hub.addresses import is_address

METRICS = {"miou": ("mean_iou", "mIoU"), "pixel_accuracy": ("accuracy", "pixel accuracy")}  # as a hub calls them
TERMS_ELSEWHERE = {  # of data sets without a section of their own
    "cityscapes": "Cityscapes: its licence allows non-commercial use; see cityscapes-dataset.com/license",
    "minicity": "Minicity is a part of Cityscapes, whose licence allows non-commercial use",
    "scenes": "drawn by kerbseg; no rights of others",
}
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,60}")


@dataclass(frozen=True)
class Publication:
    """What a page says of where its model is, beside what the model's file says."""

    name: str  # the page's title
    typed: str  # what commands call the model
    ours: bool = False  # whether the weights come with kerbseg
    license: str | None = None  # of the weights, as hubs call it, such as apache-2.0
    pictures: Sequence[str] = ()  # addresses of pictures, from the page
    exported: Sequence[str] = ()  # names of exported files beside it


def readme(facts: CardFacts, about: Publication) -> str:
    """The page. Raises KerbsegError for a licence that no hub has a name like."""
    if about.license is not None and not _LICENSE.fullmatch(about.license):
        raise KerbsegError(f"license {about.license!r} is no name that hubs have; write it as apache-2.0 or cc-by-4.0")
    matter = yaml.safe_dump(_front_matter(facts, about), sort_keys=False, allow_unicode=True, width=100)
    return f"---\n{matter}---\n\n" + joined(
        [
            *head(facts, about.name),
            _pictures(about),
            _usage(facts, about),
            _classes(facts.card.labels),
            *body(facts, about.name, about.typed, about.ours, {}),
            _speed(facts, about),
            _licences(facts, about),
        ]
    )


def _front_matter(facts: CardFacts, about: Publication) -> dict[str, Any]:
    card = facts.card
    results = list(_results(facts))
    known = {metric["type"] for result in results for metric in result["metrics"]}
    network = [] if facts.foreign is not None else [card.model]
    return {
        "library_name": "kerbseg",
        "pipeline_tag": "image-segmentation",
        **_license_fields(facts, about),
        "tags": ["kerbseg", "semantic-segmentation", "real-time", "robotics", *network, card.labels.name],
        **({"metrics": [name for name, _ in METRICS.values() if name in known]} if known else {}),
        **({"model-index": [{"name": about.name, "results": results}]} if results else {}),
    }


def _license_fields(facts: CardFacts, about: Publication) -> dict[str, str]:
    """A licence is what somebody says; of ours it is not one alone, since the data has terms of its own."""
    if about.license is not None:
        return {"license": about.license}
    if about.ours:
        return {"license": "other", "license_name": "apache-2.0-and-terms-of-the-data"}
    return {"license": "unknown"}


def _results(facts: CardFacts) -> Iterator[dict[str, Any]]:
    """The evaluations of the card, each with its protocol in words."""
    for words, report in reports(facts.card):
        protocol = mapping(report.get("protocol"))
        data, split = str(protocol.get("data", "unknown")), str(protocol.get("split", "unknown"))
        how = f"{describe(protocol)}; {words}"
        metrics = [
            {"type": kind, "name": name, "value": round(float(report[key]), 4)}
            for key, (kind, name) in METRICS.items()
            if isinstance(report.get(key), int | float)
        ]
        yield {
            "task": {"type": "image-segmentation", "name": "Semantic segmentation"},
            "dataset": {"type": data, "name": data, "split": split, "args": how},
            "metrics": metrics,
        }


def _pictures(about: Publication) -> str:
    """Each as Markdown: what would end its name or its address is escaped there, which a % may be already."""
    names = (re.sub(r"([\[\]\\])", r"\\\1", unquote(each.rpartition("/")[2])) for each in about.pictures)
    addresses = (quote(each, safe="/%:?#@!$&'*+,;=~") for each in about.pictures)
    return "\n\n".join(f"![{name}]({address})" for name, address in zip(names, addresses, strict=True))


def _usage(facts: CardFacts, about: Publication) -> str:
    typed = shlex.quote(about.typed)
    extra = " with its extra `hub`" if is_address(about.typed) else ""
    commands = [f"kerbseg predict {typed} street.jpg -o out"]
    if facts.last_stage is None:  # not exported yet
        commands.append(f"kerbseg export {typed} -o street.onnx")
    files = ", ".join(f"`{name}`" for name in about.exported)
    parts = [
        f"## How to use it\n\nWith kerbseg installed{extra}:",
        "\n".join(["```sh", *commands, "```"]),
        f'```python\nimport kerbseg\n\nprediction = kerbseg.Predictor({json.dumps(about.typed)})("street.jpg")\n'
        "prediction.ids  # uint8 [h w]\n```",
        f"Exported files of it, for programs without kerbseg too: {files}." if files else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _classes(labels: LabelSet) -> str:
    shown = display_palette(labels)[: len(labels)].tolist()
    rows = tuple(
        (str(index), name, _code(shown[index]), _code(labels.colors[index]))
        for index, name in enumerate(labels.classes)
    )
    table = markdown_table(("id", "class", "color in overlays", "color in masks"), rows)
    return f"## Classes and colors\n\n{table}\n\nThe id 255 is of no class, and black."


def _code(color: Color | Sequence[int]) -> str:
    red, green, blue = color
    return f"`#{red:02x}{green:02x}{blue:02x}`"


def _speed(facts: CardFacts, about: Publication) -> str:
    """Words where the card has no times; a table of them stands with the int8 figures."""
    sides = (mapping(mapping(facts.card.scores.get("int8")).get(side)) for side in ("float32", "int8"))
    if any(mapping(side.get("latency_ms")).get("median") is not None for side in sides):
        return ""
    return f"## Speed\n\nNot measured. `kerbseg benchmark {shlex.quote(about.typed)}` times it on your machine."


def _licences(facts: CardFacts, about: Publication) -> str:
    rows = (
        ("code", "kerbseg is under Apache-2.0; its networks are written from papers, not copied from authors' code"),
        ("weights", _terms_of_weights(facts, about)),
        ("data", _terms_of_data(facts)),
    )
    return f"## Licences\n\n{markdown_table(('of', 'terms'), rows)}"


def _terms_of_weights(facts: CardFacts, about: Publication) -> str:
    origin = facts.card.source if facts.card.source.startswith("imported") else ""
    said = OURS if about.ours else "not said; ask who published them"
    if about.license is not None:
        said = f"{about.license}, as who published them says"
    return f"{said}. They were {origin}" if origin else said


def _terms_of_data(facts: CardFacts) -> str:
    data = data_name(facts.card)
    if data in TERMS:
        return "see [Data and its terms](#data-and-its-terms)"
    named = f"the terms of {data} are not said here; ask its makers" if data else "not said in the file"
    return TERMS_ELSEWHERE.get(data, named)
