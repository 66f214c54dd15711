"""`kerbseg keyframes`."""

from __future__ import annotations

from pathlib import Path
from signal import SIGINT
from typing import Annotated, Literal

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.options import Device, Fit, Json, OneTopic, Precision, Runtime, Threads, WholeOrNothing
from kerbseg.cli.terminal import progress, result, tell, write_json


@app.command
def keyframes(
    model: str,
    source: str,
    *,
    target: Annotated[list[str], Parameter(negative="")],
    out: Annotated[Path, Parameter(name=["--out", "-o"])],
    format: str = "frames",
    rule: Literal["window", "gate", "first", "middle", "dp", "coverage"] = "window",
    step: float = 48.0,
    longest: float = 1.0,
    static: Literal["keep", "skip"] = "keep",
    novelty: Annotated[bool, Parameter(negative="")] = False,
    count: WholeOrNothing = None,
    keep: Literal["keyframes", "all"] = "keyframes",
    due: Path | None = None,
    budget: float | None = None,
    fps: float | None = None,
    raw: str | None = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
    json: Json = None,
    topic: OneTopic = None,
) -> None:
    """Choose keyframes: frames that are sharp, well lit, and show a target whole.

    Writes the chosen pictures with the lists that other programs read, keyframes.csv, scores.csv (all frames),
    keyframes.json, and the page keyframes.html, which shows each chosen frame beside the one that a plain SLAM rule
    would take.

    Example: `kerbseg keyframes mininet_v2_cpu-camvid drive.mp4 --target pedestrian --target bicyclist -o keyframes`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, or hf://OWNER/NAME
    source
        Video, stream, bag, glob or folder of pictures, or folder of a TUM, EuRoC or KITTI sequence
    target
        Class that keyframes are to show whole; once for each class, or several separated by commas
    out
        Folder for the results; other files in it stay as they are
    format
        Layout of the results: {keyframe_formats}. colmap lists the files of a folder where they are
    rule
        How frames are chosen. window: in each window between two due frames the best product of quality and target;
        gate: the most target among sharp and well-lit frames; middle: window, near the middle; first: the due frame
        itself, as plain SLAM; dp and coverage: best sum, and best cover, of the whole sequence
    step
        Motion after which a frame is due, in pixels of a picture 480 wide
    longest
        Seconds after which a frame is due in any case
    static
        Whether there are keyframes while the view stands still; skip: none
    novelty
        Prefer frames that do not look like the last keyframes
    count
        Number of keyframes, of the rules dp and coverage (default: as many as the plain rule takes)
    keep
        Which frames are written; all: the others too, for SLAM systems, which lose track between keyframes alone
    due
        File with the times at which a SLAM system took keyframes, such as ORB-SLAM2's KeyFrameTrajectory.txt
    budget
        Bytes a second that may be sent to other robots: also decide which frames to send, and write them to OUT/sent
    fps
        Frames a second of pictures whose names tell no time
    raw
        HEIGHTxWIDTH@RATE of RGB frames without a container on the standard input, such as 360x480@25
    """
    from kerbseg.apps.keyframes import Job, write_keyframes
    from kerbseg.keyframes.selection import Options
    from kerbseg.keyframes.sequences import open_sequence
    from kerbseg.keyframes.trajectories import read_times
    from kerbseg.predict import Predictor, RawFrames
    from kerbseg.predict.interrupts import FROM_OUTSIDE, ending_once

    with ending_once(SIGINT, *FROM_OUTSIDE, last=True):
        names = tuple(name.strip() for each in target for name in each.split(",") if name.strip())
        online = rule if rule in ("gate", "first", "middle") else "window"
        options = Options(online, step, longest, static=static, novelty=novelty)
        due_ns = None if due is None else tuple(read_times(due))
        job = Job(names, out, format, rule, options, count, keep == "all", budget, due_ns)
        sequence = open_sequence(source, fps, None if raw is None else RawFrames.parse(raw), topic)
        predictor = Predictor(model, fit=fit, engine=runtime, device=device, threads=threads, precision=precision)
        report = write_keyframes(predictor, sequence, job, progress)
        if json is not None:
            write_json(json, report.to_dict())
        result(report)
        tell(f"results in {out}; look at {report.page}")
