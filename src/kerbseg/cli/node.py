"""`kerbseg node`."""

from __future__ import annotations

import os
import warnings
from signal import SIGINT
from typing import Annotated

from cyclopts import Parameter

from kerbseg.cli.app import app
from kerbseg.cli.options import Device, Fit, Json, Precision, Runtime, Threads, WholeOrNothing
from kerbseg.cli.terminal import tell, write_json
from kerbseg.core.collector import no_collection
from kerbseg.core.errors import KerbsegError, KerbsegWarning

DOMAIN = "ROS_DOMAIN_ID"  # the variable by which ROS 2 knows it

Addresses = Annotated[tuple[str, ...], Parameter(negative="")]
Flag = Annotated[bool, Parameter(negative="")]


@app.command
def node(
    model: str,
    *,
    image: str,
    out: Annotated[str, Parameter(name=["--out", "-o"])] = "/kerbseg",
    confidence: Flag = False,
    overlay: Flag = False,
    alpha: float = 0.5,
    domain: WholeOrNothing = None,
    connect: Addresses = (),
    listen: Addresses = (),
    multicast: Flag = False,
    no_hashes: Flag = False,
    name: str = "kerbseg",
    frames: WholeOrNothing = None,
    seconds: float | None = None,
    runtime: Runtime = None,
    device: Device = "cpu",
    threads: Threads = None,
    precision: Precision = None,
    fit: Fit = "letterbox",
    size: str | None = None,
    roi: str | None = None,
    cpus: str | None = None,
    unknown: float | None = None,
    json: Json = None,
) -> None:
    """Segment a robot's camera as it comes, without ROS installed: a node of ROS 2 over Zenoh.

    Reads a topic of pictures and publishes, with their headers, OUT/mask (class ids, mono8), OUT/label_info (what the
    ids mean; kept for who comes late), and /diagnostics (rate, latency, counts). The newest picture is taken; those
    that come while one is worked on are dropped and counted. Other nodes see it where their middleware is rmw_zenoh.
    Ctrl-C ends it.

    Example: `kerbseg node mininet_v2_cpu-camvid --image /cam/image_raw --out /kerbseg --confidence`

    Parameters
    ----------
    model
        Model: a file, a run folder, the name of shipped weights, or hf://OWNER/NAME
    image
        Topic with pictures (sensor_msgs/Image; CompressedImage where its name ends with /compressed)
    out
        Before the names of the topics that are published
    confidence
        Also publish OUT/confidence, the probability of each pixel's class (mono8, 0 to 255)
    overlay
        Also publish OUT/overlay/compressed, the picture under its classes' colors (JPEG)
    alpha
        Weight of the colors in the overlay: 0 to 1
    domain
        Domain of ROS 2 (default: $ROS_DOMAIN_ID, or 0)
    connect
        Address of a router or another node, such as tcp/192.168.1.5:7447; once for each (default: rmw_zenoh's router
        at tcp/localhost:7447)
    listen
        Address to be reached at, such as tcp/0.0.0.0:7448 (default: this machine alone, any port)
    multicast
        Also look for others in the local network by multicast
    no_hashes
        As ROS 2 Humble, whose rmw_zenoh knows no hashes of types
    name
        Name of the node
    frames
        End after so many pictures were segmented
    seconds
        End after this time
    size
        HEIGHTxWIDTH that pictures are looked at (default: the height that the network was trained on)
    roi
        X,Y,W,H of the part that is looked at, in pixels; ids elsewhere are 255
    cpus
        CPUs to run on, such as 0,2 or 4-7 (Linux)
    unknown
        Give pixels the id 255 (no class) where the confidence is below UNKNOWN (0 to 1)
    """
    from kerbseg.core.cpus import on_cpus, parse_cpus
    from kerbseg.predict.interrupts import FROM_OUTSIDE, ending_once

    bound = None if cpus is None else parse_cpus(cpus)
    with on_cpus(bound), ending_once(SIGINT, *FROM_OUTSIDE, last=True):
        with no_collection():
            import numpy as np

            from kerbseg.cli.predicting import parse_looks, protocol
            from kerbseg.predict import Style
            from kerbseg.robots.node import NodeOptions, SegmentationNode
            from kerbseg.robots.rmw import checked_domain, checked_node
            from kerbseg.robots.zenoh_link import ANY_PORT, ROUTER, ZenohOptions, zenoh_link
            from kerbseg.runtime import open_runtime

            options = NodeOptions(image, out, confidence, overlay, Style(alpha), frames, seconds)
            network = ZenohOptions(
                connect=connect or (() if listen else (ROUTER,)),
                listen=listen or (ANY_PORT,),
                domain=checked_domain(_domain() if domain is None else domain),
                multicast=multicast,
                hashes=not no_hashes,
                node=checked_node(name),
            )
            asked = parse_looks(size, roi, None, None, bound)
            opened = open_runtime(model, engine=runtime, device=device, threads=threads, precision=precision)
        predictor, segmenter, looks = asked.open(opened, fit=fit, unknown=unknown)
        # the first call takes longest, and says whether there is confidence
        predictor(np.zeros((*opened.card.input_size, 3), np.uint8), confidence=confidence)
        with zenoh_link(network) as link:
            working = SegmentationNode(segmenter, link, options, _warn)
            tell(f"node {network.node} on domain {network.domain}: {options.image} -> {', '.join(working.published)}")
            report = working.run()
        if json is not None:
            write_json(json, {**report.to_dict(), "protocol": {**protocol(predictor), **looks}})
        tell(report)


def _warn(text: str) -> None:
    warnings.warn(KerbsegWarning(text), stacklevel=2)


def _domain() -> int:
    """That of the environment, as ROS 2 takes it. Raises KerbsegError where it is no number."""
    text = os.environ.get(DOMAIN) or "0"
    if not (text.isascii() and text.isdigit()):
        raise KerbsegError(f"{DOMAIN} is {text!r}, which is no number; set it, or give --domain")
    return int(text)
