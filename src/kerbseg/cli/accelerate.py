"""`kerbseg accelerate`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.next_steps import after_accelerate
from kerbseg.cli.options import Json, LabelSetName, Out, Threads, parse_size
from kerbseg.cli.terminal import say, show, tell, write_json
from kerbseg.core.errors import KerbsegError


@app.command
def accelerate(
    network: Path,
    *,
    out: Out,
    classes: LabelSetName = None,
    mean: str | None = None,
    std: str | None = None,
    channels: Literal["rgb", "bgr"] = "rgb",
    size: str | None = None,
    logits: str | None = None,
    calibration: Path | None = None,
    int8: bool = False,
    parity: float = 0.9999,
    threads: Annotated[Threads, Parameter(help="CPU threads for the timing of --int8 (default: all)")] = None,
    json: Json = None,
) -> None:
    """Speed up the last stage of your own segmentation network, trained and exported by any program.

    Takes an ONNX file or an OpenVINO model that enlarges its logits to the picture's size at its end. kerbseg
    interpolates where classes meet, and nowhere else. The class ids stay the same; this is checked on pictures before
    anything is written. All other commands take the new file like an exported one.

    Pixels must be normalized as in training: give --mean, --std and --channels of your training. A wrong value gives
    wrong classes, and no check can see that.

    Examples: `kerbseg accelerate segformer.onnx -o fast.xml --mean 0.485,0.456,0.406 --std 0.229,0.224,0.225`,
    `kerbseg profile fast.xml --against segformer.onnx`

    Parameters
    ----------
    network
        Your network: .onnx, or the .xml of an OpenVINO model
    out
        File to write; its ending chooses the engine: .onnx, or .xml for OpenVINO
    mean
        Mean of each channel that training subtracted, such as 0.485,0.456,0.406. Numbers above 1 mean pixels of 0..255
        (default: 0, so that the network sees RGB / 255)
    std
        What training divided each channel by, such as 0.229,0.224,0.225 (default: 1)
    channels
        Order of the channels in training; bgr is that of OpenCV
    size
        Picture size, HEIGHTxWIDTH, for a network that takes any size (default: the network's own)
    logits
        Name of the logits, where the graph has several outputs or ends before they are enlarged
    calibration
        Folder of pictures like those that the network will see: the files are compared on them (default: drawn street
        scenes), and --int8 is calibrated on every second one
    int8
        Also quantize to int8, and report how many ids stay the same; needs --calibration
    parity
        Smallest fraction of pixels that must get the same class as in the untouched file
    """
    say(f"reading {network}")  # before the imports, which take seconds
    from kerbseg.accelerate import accelerate as write
    from kerbseg.accelerate.normalization import read_preprocessing

    preprocessing = read_preprocessing(mean, std, channels)
    if int8 and calibration is None:
        raise KerbsegError("--int8 needs --calibration FOLDER: pictures like those that the network will see")
    if threads is not None and not int8:
        raise KerbsegError("--threads is for the timing of --int8 only; leave it out, or add --int8")
    chosen = parse_size(size)
    if int8:
        from kerbseg.accelerate.int8 import accelerate_int8, render

        assert calibration is not None
        report = accelerate_int8(
            network,
            out,
            calibration,
            classes=classes,
            preprocessing=preprocessing,
            size=chosen,
            logits=logits,
            floor=parity,
            threads=threads,
        )
        if json is not None:
            write_json(json, report.to_dict())
        tell(f"{network.name}: {report.accelerated.tail}")
        show(render(report))
    else:
        result = write(
            network,
            out,
            classes=classes,
            preprocessing=preprocessing,
            size=chosen,
            logits=logits,
            pictures=calibration,
            floor=parity,
        )
        if json is not None:
            write_json(json, result.to_dict())
        tell(f"{network.name}: {result.tail}")
        tell(f"{out}: {result}")
    after_accelerate(out, network, calibration)
