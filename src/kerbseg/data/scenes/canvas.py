"""A pinhole camera over a flat world, and the sheet it draws on: picture and ids from the same polygons.

World: x to the right, y up from the ground, z ahead, in metres. The sheet is twice as large as the picture; halving it
smooths the picture, while every id is that of one drawn point.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import UInt8
from PIL import Image, ImageDraw, ImageFilter

from kerbseg.core.types import VOID

NEAR, FAR = 2.0, 150.0  # metres ahead of the camera between which things are drawn
GRAIN = 256  # side of the tile that ground textures repeat

Point = tuple[float, float, float]
Color = tuple[float, float, float]


@dataclass(frozen=True)
class Camera:
    """Where the picture is taken from; angles are small, so they only shift the vanishing point."""

    x: float
    height: float
    z: float
    focal: float  # shares of the picture's width
    vanish: tuple[float, float]  # the vanishing point, in shares of width and height


@dataclass(frozen=True)
class Light:
    """What the weather does to colors."""

    gain: float
    tint: Color
    sky: tuple[Color, Color]  # at the zenith, at the horizon
    haze: float  # share of a color lost in the sky's over 100 metres
    sun: int  # side that is lit: -1 left, 1 right, 0 overcast
    clouds: float  # share of the sky


class Canvas:
    """Draws what the camera sees, far things first."""

    def __init__(self, size: tuple[int, int], camera: Camera, light: Light) -> None:
        self.height, self.width = 2 * size[0], 2 * size[1]
        self.camera, self.light = camera, light
        self.image = Image.new("RGB", (self.width, self.height))
        self.ids = Image.new("L", (self.width, self.height), VOID)
        self._paint, self._mark = ImageDraw.Draw(self.image), ImageDraw.Draw(self.ids)
        self._focal = camera.focal * self.width
        self.horizon = camera.vanish[1] * self.height

    def scale(self, z: float) -> float:
        """Sheet pixels of a metre at a world depth."""
        return self._focal / max(z - self.camera.z, 0.1)

    def project(self, point: Point) -> tuple[float, float]:
        """Where a world point lies on the sheet."""
        x, y, z = point
        scale = self.scale(z)
        return (
            self.camera.vanish[0] * self.width + (x - self.camera.x) * scale,
            self.horizon + (self.camera.height - y) * scale,
        )

    def shade(self, color: Color, z: float) -> tuple[int, int, int]:
        """The color as light and haze let it through from that depth."""
        lost = min(0.9, max(0.0, (z - self.camera.z) / 100 * self.light.haze))
        mixed = (
            (1 - lost) * channel * self.light.gain * tint + lost * sky
            for channel, tint, sky in zip(color, self.light.tint, self.light.sky[1], strict=True)
        )
        red, green, blue = (int(min(255, max(0, channel))) for channel in mixed)
        return red, green, blue

    def polygon(self, points: Sequence[Point], color: Color, class_id: int | None) -> None:
        """A flat shape; None paints without changing ids, for what belongs to the thing below it."""
        flat = [self.project(point) for point in points]
        self._paint.polygon(flat, fill=self.shade(color, sum(z for _, _, z in points) / len(points)))
        if class_id is not None:
            self._mark.polygon(flat, fill=class_id)

    def disc(self, center: Point, radius: tuple[float, float], color: Color, class_id: int | None) -> None:
        """An upright ellipse that faces the camera; radii in metres."""
        u, v = self.project(center)
        rx, ry = (r * self.scale(center[2]) for r in radius)
        box = (u - rx, v - ry, u + rx, v + ry)
        self._paint.ellipse(box, fill=self.shade(color, center[2]))
        if class_id is not None:
            self._mark.ellipse(box, fill=class_id)

    def stroke(self, points: Sequence[Point], width: float, color: Color, class_id: int | None) -> None:
        """A bent line of a width in metres, at least one pixel of the picture."""
        flat = [self.project(point) for point in points]
        depth = min(z for _, _, z in points)
        pixels = max(2, round(width * self.scale(depth)))
        self._paint.line(flat, fill=self.shade(color, depth), width=pixels, joint="curve")
        if class_id is not None:
            self._mark.line(flat, fill=class_id, width=pixels, joint="curve")

    def ring(self, center: Point, radius: float, width: float, color: Color, class_id: int | None) -> None:
        """A wheel seen from its side."""
        turn = [math.tau * i / 14 for i in range(15)]
        x, y, z = center
        self.stroke([(x + radius * math.cos(a), y + radius * math.sin(a), z) for a in turn], width, color, class_id)

    def darken(self, shapes: Sequence[Sequence[Point]], strength: float) -> None:
        """Shadows of these shapes on what has been painted so far."""
        veil = Image.new("L", self.image.size)
        draw = ImageDraw.Draw(veil)
        for shape in shapes:
            draw.polygon([self.project(point) for point in shape], fill=int(255 * strength))
        veil = veil.reduce(4).filter(ImageFilter.GaussianBlur(1)).resize(veil.size, Image.Resampling.BILINEAR)
        self.image.paste((18, 20, 30), mask=veil)

    def sky(self, draw: np.random.Generator, class_id: int) -> None:
        """A gradient with clouds, down to the horizon."""
        rows = min(self.height, int(self.horizon) // 2 * 2 + 2)
        half = (max(1, rows // 2), self.width // 2)
        high, low = (np.array(color, np.float32) for color in self.light.sky)
        gradient = np.linspace(0, 1, half[0], dtype=np.float32)[:, None, None] ** 1.4
        colors = np.broadcast_to(high + (low - high) * gradient, (*half, 3))
        if self.light.clouds:
            noise = fractal(draw, (24, 48), octaves=3)
            cover = Image.fromarray(noise).resize(half[::-1], Image.Resampling.BICUBIC)
            thick = np.clip((np.asarray(cover) - (1 - self.light.clouds)) * 4, 0, 0.85)[..., None]
            colors = colors * (1 - thick) + np.minimum(255, low * 1.06) * thick
        painted = Image.fromarray(colors.astype(np.uint8))
        self.image.paste(painted.resize((self.width, rows), Image.Resampling.BILINEAR), (0, 0))
        self._mark.rectangle((0, 0, self.width, rows), fill=class_id)

    def ground(self, bands: Sequence[tuple[float, float, Color, float, int]], tile: UInt8[np.ndarray, "n n"]) -> None:
        """Strips along the street: (left, right, color, roughness, class), later ones over earlier ones.

        The texture is fixed to the world, so it moves with the camera.
        """
        first = int(self.horizon) // 2 * 2 + 2
        if first >= self.height:
            return
        # at the picture's own resolution: this is the one part that is painted pixel by pixel
        below = np.arange(first, self.height, 2) + 1 - self.horizon
        depth = np.minimum(self._focal * self.camera.height / below, 4 * FAR).astype(np.float32)[:, None]
        columns = (np.arange(0, self.width, 2) + 1 - self.camera.vanish[0] * self.width).astype(np.float32)
        x = columns[None] * (depth / self._focal) + self.camera.x
        edges = sorted({edge for left, right, *_ in bands for edge in (left, right)})
        tops = [next(band for band in reversed(bands) if band[0] <= edge < band[1]) for edge in edges[:-1]]
        band = np.searchsorted(np.array(edges[1:-1], np.float32), x, side="right")
        paint = np.array([top[2] for top in tops], np.float32) * self.light.gain * np.array(self.light.tint, np.float32)
        rough, ids = (np.array([top[n] for top in tops], kind) for n, kind in ((3, np.float32), (4, np.uint8)))
        z = depth + self.camera.z
        grain = tile[(z * 7).astype(np.int32) % GRAIN, (x * 9).astype(np.int32) % GRAIN]
        blotch = tile[(z * 0.9).astype(np.int32) % GRAIN, (x * 1.1).astype(np.int32) % GRAIN]
        fade = np.clip(1 - depth / 60, 0.15, 1)  # far texture is finer than a pixel
        lost = np.clip(depth / 100 * self.light.haze, 0, 0.9)
        texture = 1 + rough[band] * fade * (0.6 / 128 * grain.astype(np.float32) + 0.4 / 128 * blotch - 1)
        color = (
            paint[band] * (texture * (1 - lost))[..., None] + np.array(self.light.sky[1], np.float32) * lost[..., None]
        )
        size = (self.width, self.height - first)
        painted = Image.fromarray(np.clip(color, 0, 255).astype(np.uint8))
        self.image.paste(painted.resize(size, Image.Resampling.BILINEAR), (0, first))
        self.ids.paste(Image.fromarray(ids[band]).resize(size, Image.Resampling.NEAREST), (0, first))

    def finish(
        self, draw: np.random.Generator, noise: float, blur: float
    ) -> tuple[UInt8[np.ndarray, "h w 3"], UInt8[np.ndarray, "h w"]]:
        """Picture and ids, with the noise of a sensor and the softness of a lens."""
        small = self.image.reduce(2)
        if blur:
            small = small.filter(ImageFilter.GaussianBlur(blur))
        pixels = np.asarray(small, np.float32)
        grain = draw.standard_normal(pixels.shape[:2], np.float32)[..., None] * noise
        picture = np.clip(pixels + grain, 0, 255).astype(np.uint8)
        return picture, np.asarray(self.ids)[1::2, 1::2].copy()


def fractal(draw: np.random.Generator, size: tuple[int, int], octaves: int) -> np.ndarray:
    """Smooth float32 noise in 0..1."""
    total = np.zeros(size, np.float32)
    for octave in range(octaves):
        step = 2 ** (octaves - octave)
        cells = draw.random((max(2, size[0] // step), max(2, size[1] // step)), np.float32)
        layer = Image.fromarray(cells).resize(size[::-1], Image.Resampling.BICUBIC)
        total += np.asarray(layer) / 2**octave
    low, high = total.min(), total.max()
    scaled: np.ndarray = (total - low) / max(1e-6, high - low)
    return scaled


def tile(draw: np.random.Generator) -> UInt8[np.ndarray, "n n"]:
    """A texture for the ground."""
    noise = 0.5 * fractal(draw, (GRAIN, GRAIN), 5) + 0.5 * draw.random((GRAIN, GRAIN), np.float32)
    return (noise * 255).astype(np.uint8)
