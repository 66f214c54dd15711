"""The kinds of corruption one by one, and how strong each is at severity 1 to 5; `corrupt.py` says whose they are."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Literal

import numpy as np
from jaxtyping import Float, UInt8
from PIL import Image

from kerbseg.core.errors import MissingExtra

Picture = UInt8[np.ndarray, "h w 3"]
Values = Float[np.ndarray, "h w 3"]  # 0..1; what lies outside is clipped
Draws = np.random.RandomState  # the one generator of numpy whose draws are the same in every version
Apply = Callable[[Picture, Any, Draws], Picture | Values]


@dataclass(frozen=True)
class Corruption:
    """One kind: its family, how it changes a picture, and how strongly at severity 1 to 5."""

    family: Literal["noise", "blur", "weather", "digital"]
    apply: Apply
    strengths: Sequence[Any]


def _opencv() -> ModuleType:
    try:
        import cv2
    except ImportError as error:
        raise MissingExtra("opencv-python-headless", "robust") from error
    return cv2


def _unit(picture: Picture) -> Values:
    return picture.astype(np.float32) / 255


def to_bytes(values: Values) -> Picture:
    """Rounded down, as the package does; what lies below a whole number by float's error alone is that number."""
    return (np.clip(values, 0, 1) * 255 + 1e-3).astype(np.uint8)


# noise


def _gaussian_noise(picture: Picture, sigma: float, draws: Draws) -> Values:
    return _unit(picture) + draws.normal(scale=sigma, size=picture.shape)


def _shot_noise(picture: Picture, photons: float, draws: Draws) -> Values:
    values: np.ndarray = draws.poisson(picture / 255.0 * photons) / photons
    return values


def _impulse_noise(picture: Picture, share: float, draws: Draws) -> Picture:
    hit, white = draws.random_sample(picture.shape) < share, draws.random_sample(picture.shape) < 0.5
    return np.where(hit, np.where(white, np.uint8(255), np.uint8(0)), picture)


def _speckle_noise(picture: Picture, sigma: float, draws: Draws) -> Values:
    return _unit(picture) * (1 + draws.normal(scale=sigma, size=picture.shape))


# blur


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """A Gaussian of four standard deviations; the frame of the picture goes on outside it."""
    cv2 = _opencv()
    side = 2 * int(4 * sigma + 0.5) + 1
    smooth: np.ndarray = cv2.GaussianBlur(values, (side, side), sigma, borderType=cv2.BORDER_REPLICATE)
    return smooth


def _gaussian_blur(picture: Picture, sigma: float, draws: Draws) -> Values:
    return _smooth(_unit(picture), sigma)


def _defocus_blur(picture: Picture, strength: tuple[int, float], draws: Draws) -> Values:
    """A disk of that radius in pixels, its rim softened."""
    cv2 = _opencv()
    radius, soft_px = strength
    reach = max(8, radius)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x**2 + y**2 <= radius**2).astype(np.float32)
    side = 3 if radius <= 8 else 5
    kernel = cv2.GaussianBlur(disk / disk.sum(), (side, side), soft_px)
    values: np.ndarray = cv2.filter2D(_unit(picture), -1, kernel)
    return values


def _glass_blur(picture: Picture, strength: tuple[float, int, int], draws: Draws) -> Values:
    """Each pixel, from the lower right on, takes the color of one that lies at most so many pixels away."""
    sigma, farthest, rounds = strength
    smooth = to_bytes(_smooth(_unit(picture), sigma))
    height, width = picture.shape[:2]
    rows, columns = (np.arange(side - farthest, farthest, -1) for side in (height, width))
    places = (rows[:, None] * width + columns).ravel()
    source = list(range(height * width))
    for _ in range(rounds):
        dx, dy = draws.randint(-farthest, farthest, (2, places.size))
        for place, other in zip(places.tolist(), (places + dy * width + dx).tolist(), strict=True):
            source[place] = source[other]  # which may be one that was changed before
    return _smooth(_unit(smooth.reshape(-1, 3)[source].reshape(picture.shape)), sigma)


def _moved(values: np.ndarray, radius: int, sigma: float, degrees: float) -> np.ndarray:
    """Motion along a line: copies of `values` ([h w] or [h w c]) one pixel apart, weighted by half a Gaussian."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    height, width = values.shape[:2]
    edge = 2 * radius + 1
    framed = np.pad(values, [(edge, edge), (edge, edge)] + [(0, 0)] * (values.ndim - 2), mode="edge")
    moved = np.zeros(values.shape, np.float32)
    for i, weight in enumerate((weights / weights.sum()).tolist()):
        down = math.ceil(i * math.sin(math.radians(degrees)) - 0.5)
        right = math.ceil(i * math.cos(math.radians(degrees)) - 0.5)
        if abs(down) >= height or abs(right) >= width:
            break
        moved += weight * framed[edge + down : edge + down + height, edge + right : edge + right + width]
    return moved


def _motion_blur(picture: Picture, strength: tuple[int, float], draws: Draws) -> Values:
    return _moved(_unit(picture), *strength, degrees=draws.uniform(-45, 45))


def _enlarged(values: np.ndarray, factor: float) -> np.ndarray:
    """The middle of `values` ([h w c]), `factor` times as large, corners on corners: their size, or a little more."""
    import torch  # seconds, which the help of a command does not need
    from torch.nn.functional import interpolate

    height, width = values.shape[:2]
    rows, columns = math.ceil(height / factor), math.ceil(width / factor)
    top, left = (height - rows) // 2, (width - columns) // 2
    middle = torch.from_numpy(np.ascontiguousarray(values[top : top + rows, left : left + columns]))
    size = (round(rows * factor), round(columns * factor))
    large = interpolate(middle.movedim(-1, 0)[None], size, mode="bilinear", align_corners=True)
    enlarged: np.ndarray = large[0].movedim(0, -1).numpy()
    return enlarged


def _zoom_blur(picture: Picture, strength: tuple[float, float], draws: Draws) -> Values:
    factors = np.arange(1, *strength).tolist()
    values = _unit(picture)
    total = values.copy()
    for factor in factors:
        total += _enlarged(values, factor)[: picture.shape[0], : picture.shape[1]]
    return total / (len(factors) + 1)


# weather


@dataclass(frozen=True)
class _Snow:
    mean: float  # of the noise that flakes are made of, and its deviation
    deviation: float
    size: float  # of the flakes
    least: float  # value that is a flake
    radius: int  # of their fall
    sigma: float
    clear: float  # weight of the picture as it is; the rest is whitened


def _snow(picture: Picture, snow: _Snow, draws: Draws) -> Values:
    values, (height, width) = _unit(picture), picture.shape[:2]
    flakes = _enlarged(draws.normal(snow.mean, snow.deviation, (height, width, 1)), snow.size)[..., 0]
    flakes = np.clip(np.where(flakes < snow.least, 0, flakes), 0, 1)
    fallen = _moved(flakes, snow.radius, snow.sigma, degrees=draws.uniform(-135, -45))
    layer = (np.round(fallen * 255) / 255)[:height, :width, None]
    gray = values @ np.array((0.299, 0.587, 0.114), np.float32)
    pale = snow.clear * values + (1 - snow.clear) * np.maximum(values, gray[..., None] * 1.5 + 0.5)
    return pale + layer + np.rot90(layer, 2)


def _clouds(side: int, decay: float, draws: Draws) -> Float[np.ndarray, "s s"]:
    """A fractal surface in 0..1 by diamonds and squares (Fournier, Fussell, Carpenter 1982); `side` is a power of 2."""
    heights = np.empty((side, side), np.float32)
    heights[0, 0] = 0
    step, deviation = side, 100.0

    def middle(sums: np.ndarray) -> np.ndarray:
        between: np.ndarray = sums / 4 + deviation * draws.uniform(-deviation, deviation, sums.shape)
        return between

    while step >= 2:
        half = step // 2
        corners = heights[::step, ::step]
        pairs = corners + np.roll(corners, -1, 0)
        heights[half::step, half::step] = middle(pairs + np.roll(pairs, -1, 1))
        centers = heights[half::step, half::step]
        upright, across = centers + np.roll(centers, 1, 0), centers + np.roll(centers, 1, 1)
        heights[::step, half::step] = middle(upright + (corners + np.roll(corners, -1, 1)))
        heights[half::step, ::step] = middle(across + (corners + np.roll(corners, -1, 0)))
        step, deviation = half, deviation / decay
    heights -= heights.min()
    clouds: np.ndarray = heights / max(heights.max(), np.float32(1e-6))
    return clouds


def _fog(picture: Picture, strength: tuple[float, float], draws: Draws) -> Values:
    density, decay = strength
    values, (height, width) = _unit(picture), picture.shape[:2]
    clouds = _clouds(1 << (max(height, width) - 1).bit_length(), decay, draws)[:height, :width, None]
    brightest = float(values.max())
    return (values + density * clouds) * (brightest / (brightest + density))


@dataclass(frozen=True)
class _Spatter:
    mean: float  # of the noise that drops are made of, and its deviation
    deviation: float
    sigma: float  # of the drops
    least: float  # value that is a drop
    strength: float  # of water; of mud the softness of its rim in pixels
    mud: bool


WATER, MUD = np.array((175, 238, 238), np.float32) / 255, np.array((63, 42, 20), np.float32) / 255  # RGB


def _spatter(picture: Picture, spatter: _Spatter, draws: Draws) -> Values:
    values = _unit(picture)
    drops = _smooth(draws.normal(spatter.mean, spatter.deviation, picture.shape[:2]), spatter.sigma)
    drops[drops < spatter.least] = 0
    if spatter.mud:
        cover = _smooth((drops > spatter.least).astype(np.float32), spatter.strength)[..., None]
        cover[cover < 0.8] = 0
        return values * (1 - cover) + MUD * cover
    shine = _shine((np.clip(drops, 0, 1) * 255).astype(np.uint8))
    brightest = max(float(shine.max()), 1.0)  # 0 where a small picture has no drop
    return values + (shine * (spatter.strength / brightest))[..., None] * WATER


def _shine(drops: UInt8[np.ndarray, "h w"]) -> Float[np.ndarray, "h w"]:
    """How much of its color water shows: by the distance to the outlines of drops, embossed from the lower right."""
    cv2 = _opencv()
    away = cv2.distanceTransform(255 - cv2.Canny(drops, 50, 150), cv2.DIST_L2, 5)
    near = cv2.equalizeHist(cv2.blur(np.minimum(away, 20), (3, 3)).astype(np.uint8))
    embossed = cv2.filter2D(near, cv2.CV_8U, np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]]))
    shine: np.ndarray = drops * cv2.blur(embossed, (3, 3)).astype(np.float32)
    return shine


# digital


def _brightness(picture: Picture, more: float, draws: Draws) -> Values:
    """A higher value in HSV: the same hue and saturation."""
    values = _unit(picture)
    brightest = values.max(2, keepdims=True)
    raised = np.minimum(brightest + more, 1)
    return np.where(brightest > 0, values * (raised / np.maximum(brightest, 1e-6)), raised)


def _contrast(picture: Picture, factor: float, draws: Draws) -> Values:
    values = _unit(picture)
    mean = values.mean((0, 1), keepdims=True, dtype=np.float64)
    return (values - mean) * factor + mean


def _saturate(picture: Picture, strength: tuple[float, float], draws: Draws) -> Values:
    """Another saturation in HSV, times a factor and plus a constant; what had none has the hue 0, red."""
    factor, more = strength
    values = _unit(picture)
    brightest = values.max(2, keepdims=True)
    spread = brightest - values.min(2, keepdims=True)
    saturation = spread / np.maximum(brightest, 1e-6)
    wanted = np.clip(saturation * factor + more, 0, 1)
    below = (brightest - values) / np.maximum(spread, 1e-6)  # 0 for the strongest channel, 1 for the weakest
    below = np.where(spread > 0, below, np.array((0, 1, 1), np.float32))
    return brightest * (1 - wanted * below)


def _jpeg_compression(picture: Picture, quality: int, draws: Draws) -> Picture:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality)
    return np.array(Image.open(file, formats=["JPEG"]))


def _pixelate(picture: Picture, scale: float, draws: Draws) -> Picture:
    height, width = picture.shape[:2]
    fewer = (max(1, int(width * scale)), max(1, int(height * scale)))
    small = Image.fromarray(picture).resize(fewer, Image.Resampling.BOX)
    return np.array(small.resize((width, height), Image.Resampling.NEAREST))


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": Corruption("noise", _gaussian_noise, (0.08, 0.12, 0.18, 0.26, 0.38)),
    "shot_noise": Corruption("noise", _shot_noise, (60.0, 25.0, 12.0, 5.0, 3.0)),
    "impulse_noise": Corruption("noise", _impulse_noise, (0.03, 0.06, 0.09, 0.17, 0.27)),
    "speckle_noise": Corruption("noise", _speckle_noise, (0.15, 0.2, 0.35, 0.45, 0.6)),
    "gaussian_blur": Corruption("blur", _gaussian_blur, (1, 2, 3, 4, 6)),
    "defocus_blur": Corruption("blur", _defocus_blur, ((3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5))),
    "glass_blur": Corruption("blur", _glass_blur, ((0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2))),
    "motion_blur": Corruption("blur", _motion_blur, ((10, 3), (15, 5), (15, 8), (15, 12), (20, 15))),
    "zoom_blur": Corruption("blur", _zoom_blur, ((1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03))),
    "snow": Corruption(
        "weather",
        _snow,
        (
            _Snow(0.1, 0.3, 3, 0.5, 10, 4, 0.8),
            _Snow(0.2, 0.3, 2, 0.5, 12, 4, 0.7),
            _Snow(0.55, 0.3, 4, 0.9, 12, 8, 0.7),
            _Snow(0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
            _Snow(0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
        ),
    ),
    "fog": Corruption("weather", _fog, ((1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4))),
    "spatter": Corruption(
        "weather",
        _spatter,
        (
            _Spatter(0.65, 0.3, 4, 0.69, 0.6, mud=False),
            _Spatter(0.65, 0.3, 3, 0.68, 0.6, mud=False),
            _Spatter(0.65, 0.3, 2, 0.68, 0.5, mud=False),
            _Spatter(0.65, 0.3, 1, 0.65, 1.5, mud=True),
            _Spatter(0.67, 0.4, 1, 0.65, 1.5, mud=True),
        ),
    ),
    "brightness": Corruption("digital", _brightness, (0.1, 0.2, 0.3, 0.4, 0.5)),
    "contrast": Corruption("digital", _contrast, (0.4, 0.3, 0.2, 0.1, 0.05)),
    "saturate": Corruption("digital", _saturate, ((0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2))),
    "pixelate": Corruption("digital", _pixelate, (0.6, 0.5, 0.4, 0.3, 0.25)),
    "jpeg_compression": Corruption("digital", _jpeg_compression, (25, 18, 15, 10, 7)),
}
