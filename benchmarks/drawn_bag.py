"""The bag of docs/bags.md: a view that glides along a drawn street, as a robot's camera would record it.

    python benchmarks/drawn_bag.py --out drive.mcap

Pictures of 360x480 at 15 a second, the camera's calibration with each, and an inertial sensor at 100 a second, which
is silent for half a second.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np

from kerbseg.data.scenes import Scenes
from kerbseg.robots.bag_writer import BagWriter, write_bag
from kerbseg.robots.messages import IMAGE, header, typestore

STREET, SIZE, VIEW_PX, GLIDE_PX = 4, (360, 1600), 480, 8
START_NS, PICTURE_NS, IMU_NS, LATE_NS = 1_790_000_000_000_000_000, 66_666_667, 10_000_000, 4_000_000
SILENT_NS = (3_000_000_000, 3_500_000_000)
FRAME = "front_camera"


def main() -> None:
    """Writes the bag."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("drive.mcap"))
    parser.add_argument("--frames", type=int, default=141, help="141 at most")
    arguments = parser.parse_args()
    with write_bag(arguments.out) as writer:
        record(writer, arguments.frames)


def record(writer: BagWriter, frames: int) -> None:
    """Writes pictures and what else a robot records, in the order of time."""
    street = Scenes("val", size=SIZE)[STREET].image
    imu_ns = 0
    for number in range(min(frames, (SIZE[1] - VIEW_PX) // GLIDE_PX + 1)):
        picture_ns = number * PICTURE_NS
        while imu_ns <= picture_ns:
            if not SILENT_NS[0] <= imu_ns < SILENT_NS[1]:
                writer.write("/imu/data", imu(START_NS + imu_ns), START_NS + imu_ns)
            imu_ns += IMU_NS
        left = number * GLIDE_PX
        view = np.ascontiguousarray(street[:, left : left + VIEW_PX])
        stamp_ns = START_NS + picture_ns
        writer.write("/cam/image_raw", picture(view, stamp_ns), stamp_ns + LATE_NS)
        writer.write("/cam/camera_info", calibration(stamp_ns), stamp_ns + LATE_NS)


def picture(view: np.ndarray, stamp_ns: int) -> Any:
    """`sensor_msgs/Image` of rgb8."""
    height, width = view.shape[:2]
    return typestore().types[IMAGE](header(stamp_ns, FRAME), height, width, "rgb8", 0, 3 * width, view.reshape(-1))


def imu(stamp_ns: int) -> Any:
    """`sensor_msgs/Imu` of a robot that stands upright."""
    types, zeros = typestore().types, np.zeros(9)
    vector = types["geometry_msgs/msg/Vector3"]
    upright = types["geometry_msgs/msg/Quaternion"](0.0, 0.0, 0.0, 1.0)
    return types["sensor_msgs/msg/Imu"](
        header(stamp_ns, "imu"), upright, zeros, vector(0.0, 0.0, 0.0), zeros, vector(0.0, 0.0, 9.81), zeros
    )


def calibration(stamp_ns: int) -> Any:
    """`sensor_msgs/CameraInfo` of a pinhole camera."""
    types, height, width = typestore().types, SIZE[0], VIEW_PX
    camera = np.array([400.0, 0, width / 2, 0, 400, height / 2, 0, 0, 1])
    projection = np.concatenate([camera.reshape(3, 3), np.zeros((3, 1))], 1).reshape(-1)
    whole = types["sensor_msgs/msg/RegionOfInterest"](0, 0, 0, 0, False)
    return types["sensor_msgs/msg/CameraInfo"](
        header(stamp_ns, FRAME), height, width, "plumb_bob", np.zeros(5), camera, np.eye(3).reshape(-1), projection,
        0, 0, whole,
    )  # fmt: skip


if __name__ == "__main__":
    main()
