"""`kerbseg doctor` and `convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_convert, after_doctor
from kerbseg.cli.options import DataRoot, Html, Json, Whole
from kerbseg.cli.terminal import next_commands, say, show, tell, write_json, write_page
from kerbseg.core.errors import DataError, KerbsegError


@app.command
def doctor(data: str, *, data_root: DataRoot = None, html: Html = None, json: Json = None) -> None:
    """Check a data set before training: masks, sizes, ids, class balance. Of a bag: topics, rates, gaps.

    Examples: `kerbseg doctor my_streets`, `kerbseg doctor camvid --data-root data/camvid`, `kerbseg doctor drive.mcap`

    Parameters
    ----------
    data
        Folder with pictures, masks and dataset.yaml, or the name of a data set: {data_sets}; or a bag of ROS
    html
        Write a contact sheet (one file): pictures with their masks drawn on, classes, problems, suspicious pairs
    """
    from kerbseg.apps.contact_sheet import page
    from kerbseg.data import check_name
    from kerbseg.data.doctor import examine_all, on_terminal, render
    from kerbseg.data.report import DatasetReport, Problem
    from kerbseg.robots.bags import is_bag

    if is_bag(Path(data)) and data_root is None:
        if html is not None:
            raise KerbsegError("--html shows pictures beside their masks, which a bag has not; leave it out")
        _doctor_bag(data, json)
        return
    data, data_root = _named(data, data_root)
    check_name(data)
    try:
        report = examine_all(data, data_root, track=on_terminal)
    except DataError as error:  # nothing can be opened, which the sheet says as well
        if html is not None:
            write_page(html, page(DatasetReport(data, (), (Problem("layout", str(error)),)), data_root))
        raise
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    if html is not None:
        write_page(html, page(report, data_root))
        tell(f"contact sheet: {html}")
    if not report.healthy:
        raise KerbsegError(f"data set {data!r} has {len(report.problems)} problem(s), listed above; fix them first")
    after_doctor(data, data_root)


def _doctor_bag(bag: str, json: Path | None) -> None:
    from kerbseg.robots.bag_report import examine_bag, render

    report = examine_bag(bag)
    if json is not None:
        write_json(json, report.to_dict())
    show(render(report))
    if report.problems:
        raise KerbsegError(f"bag {bag!r} has {len(report.problems)} problem(s), listed above")
    for topic in [each.topic for each in report.topics if each.pictures][:1]:
        next_commands(
            [
                "kerbseg",
                "predict",
                "mininet_v2_cpu-camvid",
                bag,
                "--topic",
                topic,
                "-o",
                f"{Path(bag).stem}_labeled.mcap",
            ]
        )


def _named(data: str, data_root: Path | None) -> tuple[str, Path | None]:
    """Name and root of a data set that is given by its name, or as a folder of one's own."""
    from kerbseg.data import is_known
    from kerbseg.data.formats import recognize

    if is_known(data) or data_root is not None or not Path(data).is_dir():
        return data, data_root
    if not (Path(data) / "dataset.yaml").exists():
        next_commands(*(["kerbseg", "convert", each, data, "-o", "my_streets"] for each in recognize(Path(data))))
    return "folder", Path(data)


@app.command
def convert(
    format: str,
    source: Path,
    *,
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    map: Path | None = None,
    split: float | None = None,
    seed: Whole = 0,
    json: Json = None,
) -> None:
    """Convert labels of an annotation tool or a public data set to a `folder` data set.

    Writes copies of the pictures, one palette PNG per mask, and dataset.yaml. If an entry is broken, it is named and
    nothing is written.

    Example: `kerbseg convert coco my_labels -o my_streets`

    Parameters
    ----------
    format
        Format of the labels: {data_formats}
    source
        Folder with the labels and the pictures; for some formats also the label file itself
    out
        Folder to write the data set to (new or empty)
    map
        YAML file that renames or joins classes, one 'theirs: ours' per line, or 'theirs: ignore' (default:
        map.yaml in the source, else their classes)
    split
        Fraction of pictures for training, such as 0.8; a drive is never split (default: the source's splits, or 0.8)
    seed
        Random seed of the split
    """
    from kerbseg.data.convert import convert as convert_to_folder
    from kerbseg.data.convert import render
    from kerbseg.data.doctor import on_terminal

    conversion = convert_to_folder(format, source, out, class_map=map, share=split, seed=seed, track=on_terminal)
    if json is not None:
        write_json(json, conversion.to_dict())
    show(render(conversion))
    for line in conversion.warnings:
        say(line)
    after_convert(out)
