"""Pictures in robots' messages as RGB: every encoding of 8 bits, and what a camera compressed.

Encodings are those of ROS (sensor_msgs/image_encodings.hpp); a row has `step` bytes, of which some may be padding.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import ModuleType
from typing import Any

import numpy as np
from jaxtyping import UInt8

from kerbseg.core.errors import DataError, MissingExtra, did_you_mean
from kerbseg.data.pictures import MAX_PIXELS, open_embedded, rgb_pixels
from kerbseg.robots.messages import IMAGE

Rgb = UInt8[np.ndarray, "h w 3"]

CHANNELS: Mapping[str, tuple[int, ...]] = {  # which of a pixel's bytes are red, green and blue
    "rgb8": (3, 0, 1, 2),
    "bgr8": (3, 2, 1, 0),
    "rgba8": (4, 0, 1, 2),
    "bgra8": (4, 2, 1, 0),
    "mono8": (1, 0, 0, 0),
    "8UC1": (1, 0, 0, 0),
    "8UC3": (3, 2, 1, 0),  # OpenCV's order, as viewers take it
    "8UC4": (4, 2, 1, 0),
}
"""Encodings with a byte a channel: bytes of a pixel, then the places of red, green and blue."""

CONVERTED: Mapping[str, tuple[int, int, str]] = {
    "bayer_rggb8": (1, 1, "COLOR_BayerRGGB2RGB"),
    "bayer_bggr8": (1, 1, "COLOR_BayerBGGR2RGB"),
    "bayer_gbrg8": (1, 1, "COLOR_BayerGBRG2RGB"),
    "bayer_grbg8": (1, 1, "COLOR_BayerGRBG2RGB"),
    "yuv422": (2, 1, "COLOR_YUV2RGB_UYVY"),
    "uyvy": (2, 1, "COLOR_YUV2RGB_UYVY"),
    "yuv422_yuy2": (2, 1, "COLOR_YUV2RGB_YUY2"),
    "yuyv": (2, 1, "COLOR_YUV2RGB_YUY2"),
    "nv21": (1, 2, "COLOR_YUV2RGB_NV21"),
    "nv12": (1, 2, "COLOR_YUV2RGB_NV12"),
}
"""Encodings that OpenCV converts: bytes of a pixel in a row; 2 where half as many rows of color follow; the name."""

ENCODINGS = (*CHANNELS, *CONVERTED)
COMPRESSED = ("JPEG", "PNG", "WEBP", "TIFF", "BMP")


def message_rgb(message: Any, shown: str) -> Rgb:
    """The picture of an Image or a CompressedImage. Raises DataError, which calls it `shown`, where it cannot be read.

    MissingExtra for an encoding that OpenCV converts, where that is not installed.
    """
    if message.__msgtype__ == IMAGE:
        return image_rgb(message.height, message.width, message.encoding, message.step, message.data, shown)
    return compressed_rgb(message.format, message.data, shown)


def image_rgb(
    height: int, width: int, encoding: str, step: int, data: UInt8[np.ndarray, " n"], shown: str = "the image"
) -> Rgb:
    """The pixels of an `Image`. Raises DataError as `message_rgb`."""
    check_encoding(encoding, shown)
    if not 0 < height * width <= MAX_PIXELS:
        raise DataError(f"{shown} is {height}x{width} (height x width), which is no size of a picture; leave it out")
    bytes_a_pixel, half_rows = (CHANNELS[encoding][0], 1) if encoding in CHANNELS else CONVERTED[encoding][:2]
    row = width * bytes_a_pixel
    if half_rows == 2 and (height % 2 or width % 2):
        raise DataError(f"{shown} is {height}x{width}; {encoding} has even sides only, so the message is damaged")
    rows = height + height // 2 if half_rows == 2 else height
    if step < row or len(data) < step * (rows - 1) + row:
        raise DataError(
            f"{shown} is {height}x{width} of {encoding} with rows of {step} bytes, which {len(data)} bytes cannot hold;"
            " the message is damaged"
        )
    pixels = np.lib.stride_tricks.as_strided(data, (rows, row), (step, 1), writeable=False)
    if encoding in CHANNELS:
        red, green, blue = CHANNELS[encoding][1:]
        by_pixel = pixels.reshape(height, width, bytes_a_pixel)
        if (red, green, blue) == (0, 1, 2):
            return np.ascontiguousarray(by_pixel[..., :3])
        return np.ascontiguousarray(by_pixel[..., [red, green, blue]])
    return _converted(pixels.reshape(rows, width, 2) if bytes_a_pixel == 2 else pixels, encoding, shown)


def check_encoding(encoding: str, shown: str) -> None:
    """Raises DataError for an encoding that is not read."""
    if encoding in ENCODINGS:
        return
    if "16" in encoding or "32" in encoding or "64" in encoding:
        raise DataError(
            f"{shown} has the encoding {encoding!r}, more than 8 bits a channel; name a topic of 8 bits, such as the"
            " one that image_proc makes of it"
        )
    raise DataError(f"{shown} has the encoding {encoding!r}, which is not read; {did_you_mean(encoding, ENCODINGS)}")


def compressed_rgb(format: str, data: UInt8[np.ndarray, " n"], shown: str = "the image") -> Rgb:
    """The pixels of a `CompressedImage`, whose format is such as `jpeg` or `rgb8; jpeg compressed bgr8`.

    Raises DataError as `message_rgb`.
    """
    check_format(format, shown)
    with open_embedded(data.tobytes(), shown, COMPRESSED) as image:
        return rgb_pixels(image, shown, DataError)


def check_format(format: str, shown: str) -> None:
    """Raises DataError for what a topic compressed that is no picture of 8 bits."""
    if "compressedDepth" in format:
        raise DataError(f"{shown} is a depth picture ({format}); name a topic of colors")


def _converted(pixels: np.ndarray, encoding: str, shown: str) -> Rgb:
    cv2 = _cv2()
    try:
        made: Rgb = cv2.cvtColor(np.ascontiguousarray(pixels), getattr(cv2, CONVERTED[encoding][2]))
    except cv2.error as error:
        raise DataError(f"{shown} cannot be converted from {encoding} ({error.err}); is it whole?") from error
    return made


def _cv2() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", "bags") from error
    module: ModuleType = cv2
    return module
