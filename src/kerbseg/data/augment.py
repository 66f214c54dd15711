"""Random changes of a whole batch on the device it is on (kornia): one warp for all geometry, then color.

Geometric operations fill what comes from outside with 0, which is a class. Masks are therefore shifted by one while
they are warped, so that the fill becomes VOID. Color changes as a picture comes about: the light, the lens, the
sensor, the file.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int64, UInt8
from kornia import enhance
from kornia.color import hsv_to_rgb, rgb_to_grayscale, rgb_to_hsv
from kornia.filters import gaussian_blur2d
from kornia.geometry.transform import warp_affine
from torch import Tensor

from kerbseg.core.distributed import SINGLE, Rank
from kerbseg.core.resize import Resample
from kerbseg.core.types import VOID
from kerbseg.data.whole_pixels import GRAY, Axis, Border, place, round_size

Images = Float[Tensor, "b 3 h w"]
MIDDLE = 128 / 255  # gray of a byte


@dataclass(frozen=True)
class Geometry:
    """Flip, scale, rotate, translate and crop, as a single interpolation."""

    flip: float = 0.0  # share of pictures
    scale: tuple[float, float] = (1.0, 1.0)
    rotate: float = 0.0  # degrees, either way
    translate: tuple[float, float] = (0.0, 0.0)  # share of width and of height, either way
    stretch: float = 0.0  # the width's scale is the height's plus -s .. s, and at least the lowest of `scale`
    fill: bool = False  # a picture that has become smaller than the canvas is enlarged to it
    rank: Rank = SINGLE  # which rows of the whole batch the pictures are
    shift: tuple[int, int] = (0, 0)  # whole pixels of width and of height, either way
    centered: bool = False  # a picture's middle lies on the canvas's before it is moved; anywhere without it
    border: Border = "black"  # what a picture has outside; a mask has VOID
    unit: tuple[int, int] | None = None  # height and width that a scale of 1 means; the picture's own without it
    resample: Resample | None = None  # by whole pixels, as Pillow; one bilinear warp without it
    scale_step: float = 0.0  # the scales are the lowest, one by this more, ... the highest; all between without it
    cornered: bool = False  # a picture smaller than the canvas lies at its top left, the right one where it is mirrored

    def __call__(
        self,
        image: Float[Tensor, "b 3 h w"],
        mask: UInt8[Tensor, "b *m h w"],
        canvas: tuple[int, int],
        zoom: float = 1.0,
        focus: Float[Tensor, "b 2"] | None = None,
    ) -> tuple[Float[Tensor, "b 3 H W"], UInt8[Tensor, "b *m H W"]]:
        """Pictures and masks on a canvas of (height, width), drawn `zoom` times as large besides the random scale.

        Several masks of a picture stand behind each other, and each has VOID outside.
        `focus` holds points (x, y) that come to lie on the canvas; NaN for a picture without one.
        """
        size = (image.shape[-2], image.shape[-1])
        if self.resample is not None:
            axes = self.draw_whole(len(image), size, canvas, zoom, focus)
            return place(image, mask, axes, self.resample, self.border)
        matrix = self.draw(len(image), size, canvas, zoom, focus)
        if canvas == size and torch.equal(matrix, torch.eye(2, 3).expand_as(matrix)):
            return image, mask
        if any(self.shift) and (whole := _whole_pixels(matrix, size, canvas)) is not None:
            return place(image, mask, whole, "bilinear", self.border)
        return _warp(image, mask, matrix.to(image.device), canvas, self.border)

    def draw(
        self,
        n: int,
        size: tuple[int, int],
        canvas: tuple[int, int],
        zoom: float,
        focus: Float[Tensor, "b 2"] | None = None,
    ) -> Float[Tensor, "b 2 3"]:
        """Random maps of picture coordinates (x, y) to canvas coordinates.

        A picture larger than the canvas is cropped anywhere, a smaller one lies anywhere on it, unless `centered`.
        """
        scale = self._scales(n, size, canvas) * zoom  # of x and of y
        angle = self.rank.uniform(n, -self.rotate, self.rotate) * (math.pi / 180)
        mirror = torch.where(self.rank.uniform(n) < self.flip, -1.0, 1.0)
        x, y = scale[:, 0] * mirror, scale[:, 1]
        linear = torch.stack(
            [torch.stack([angle.cos() * x, -angle.sin() * y], 1), torch.stack([angle.sin() * x, angle.cos() * y], 1)], 1
        )
        center, target = (torch.tensor([(w - 1) / 2, (h - 1) / 2]) for h, w in (size, canvas))
        slack = (scale * torch.tensor([size[1], size[0]]) - torch.tensor([canvas[1], canvas[0]])).abs() / 2
        slack = slack * (not self.centered)
        lowest, highest = -slack, slack
        if self.cornered:
            smaller = scale * torch.tensor([size[1], size[0]]) < torch.tensor([canvas[1], canvas[0]])
            corner = slack * torch.stack([-mirror, -torch.ones(n)], 1)
            lowest, highest = torch.where(smaller, corner, lowest), torch.where(smaller, corner, highest)
        if focus is not None:
            # where the point lies if the centers meet; the shift must bring it between the canvas's borders
            point = target + (linear @ (focus.cpu() - center)[..., None])[..., 0]
            least, most = -point, torch.tensor([canvas[1] - 1, canvas[0] - 1]) - point
            lowest = torch.where(point.isnan(), lowest, torch.minimum(torch.maximum(lowest, least), most))
            highest = torch.where(point.isnan(), highest, torch.maximum(torch.minimum(highest, most), least))
        shift = lowest + self.rank.uniform(n, 0, 1, 2) * (highest - lowest)
        reach = torch.tensor([self.translate[0] * canvas[1], self.translate[1] * canvas[0]])
        shift = shift + (self.rank.uniform(n, 0, 1, 2) * 2 - 1) * reach + self._steps(n)
        offset = target + shift - (linear @ center)
        return torch.cat([linear, offset[..., None]], dim=2)

    def draw_whole(
        self,
        n: int,
        size: tuple[int, int],
        canvas: tuple[int, int],
        zoom: float,
        focus: Float[Tensor, "b 2"] | None = None,
    ) -> list[tuple[Axis, Axis]]:
        """As `draw`, in whole pixels: where each picture's rows and columns lie on the canvas."""
        scales = (self._scales(n, size, canvas, fill=False) * zoom).flip(1).tolist()  # of rows, of columns
        mirrored = (self.rank.uniform(n) < self.flip).tolist()
        places, moves = self.rank.uniform(n, 0, 1, 2), self.rank.uniform(n, 0, 1, 2) * 2 - 1
        reach = torch.tensor([self.translate[1] * canvas[0], self.translate[0] * canvas[1]])
        moves = (moves * reach).round().to(torch.int64) + self._steps(n).flip(1)
        points = torch.full((n, 2), torch.nan) if focus is None else focus.cpu().flip(1)
        axes = []
        for i in range(n):
            sizes: list[tuple[int, ...]] = [
                (round_size(own, scale),) for own, scale in zip(size, scales[i], strict=True)
            ]
            if self.fill and any(side[0] < most for side, most in zip(sizes, canvas, strict=True)):
                sizes = [(*side, most) for side, most in zip(sizes, canvas, strict=True)]
            flipped = (False, mirrored[i])
            starts = [
                self._start(float(places[i, axis]), size[axis], sizes[axis][-1], canvas[axis], point, flipped[axis])
                for axis, point in enumerate(points[i].tolist())
            ]
            rows, columns = (
                Axis(size[axis], sizes[axis], starts[axis] + int(moves[i, axis]), canvas[axis], flipped[axis])
                for axis in (0, 1)
            )
            axes.append((rows, columns))
        return axes

    def _start(self, place: float, own: int, size: int, canvas: int, point: float, flipped: bool) -> int:
        """Where on the canvas an axis of `own` pixels begins, resized to `size`; its `point`, if any, lies on it."""
        if self.centered:
            return (canvas - size) // 2
        lowest, highest = min(0, canvas - size), max(0, canvas - size)
        if self.cornered and size < canvas:
            lowest = highest = canvas - size if flipped else 0
        if not math.isnan(point):
            at = (point + 0.5) * size / own - 0.5
            at = size - 1 - at if flipped else at
            least, most = math.ceil(-at), math.floor(canvas - 1 - at)
            lowest, highest = min(max(lowest, least), most), max(min(highest, most), least)
        return lowest + math.floor(place * (highest - lowest + 1))

    def _steps(self, n: int) -> Int64[Tensor, "b 2"]:
        """Whole pixels along x and y, each number as likely as another."""
        if not any(self.shift):
            return torch.zeros(n, 2, dtype=torch.int64)
        most = torch.tensor(self.shift)
        return (self.rank.uniform(n, 0, 1, 2) * (2 * most + 1)).floor().to(torch.int64) - most

    def _scales(
        self, n: int, size: tuple[int, int], canvas: tuple[int, int], fill: bool = True
    ) -> Float[Tensor, "b 2"]:
        if self.scale_step:
            steps = math.floor((self.scale[1] - self.scale[0]) / self.scale_step + 1e-6)
            y = self.scale[0] + (self.rank.uniform(n) * (steps + 1)).floor().clamp(max=steps) * self.scale_step
        else:
            y = self.rank.uniform(n, *self.scale)
        x = (y + self.rank.uniform(n, -self.stretch, self.stretch)).clamp(min=self.scale[0]) if self.stretch else y
        scale = torch.stack([x, y], 1)
        if self.unit is not None:
            scale = scale * torch.tensor([self.unit[1] / size[1], self.unit[0] / size[0]])
        if self.fill and fill:
            scale = torch.maximum(scale, torch.tensor([canvas[1] / size[1], canvas[0] / size[0]]))
        return scale


@dataclass(frozen=True)
class Turn:
    """Rotation of a finished canvas about its middle, after its crop and its colors; its corners become VOID."""

    degrees: float  # either way
    border: Border = "black"
    rank: Rank = SINGLE

    def __call__(
        self, image: Images, mask: UInt8[Tensor, "b *m h w"], chosen: Bool[Tensor, " b"]
    ) -> tuple[Images, UInt8[Tensor, "b *m h w"]]:
        """Of the `chosen` pictures; the others stay as they are."""
        angle = self.rank.uniform(len(image), -self.degrees, self.degrees)
        if not chosen.any():
            return image, mask
        angle = angle[chosen] * (math.pi / 180)
        cos, sin = angle.cos(), angle.sin()
        middle = torch.tensor([(image.shape[-1] - 1) / 2, (image.shape[-2] - 1) / 2])
        linear = torch.stack([torch.stack([cos, -sin], 1), torch.stack([sin, cos], 1)], 1)
        matrix = torch.cat([linear, (middle - linear @ middle)[..., None]], 2).to(image.device)
        at, size = chosen.to(image.device), (image.shape[-2], image.shape[-1])
        image, mask = image.clone(), mask.clone()
        image[at], mask[at] = _warp(image[at], mask[at], matrix, size, self.border)
        return image, mask


def _warp(
    image: Images,
    mask: UInt8[Tensor, "b *m h w"],
    matrix: Float[Tensor, "b 2 3"],
    canvas: tuple[int, int],
    border: Border,
) -> tuple[Float[Tensor, "b 3 H W"], UInt8[Tensor, "b *m H W"]]:
    outside = {"black": "zeros", "gray": "zeros", "mirror": "reflection"}[border]
    if border == "gray":
        image = image - GRAY  # what comes in is 0
    image = warp_affine(image, matrix, canvas, mode="bilinear", padding_mode=outside)
    image = image + GRAY if border == "gray" else image
    shifted = mask[:, None] if mask.ndim == 3 else mask
    shifted = warp_affine(shifted.to(image.dtype) + 1, matrix, canvas, mode="nearest", padding_mode="zeros")
    ids = shifted.round().to(torch.int16) - 1
    ids = torch.where(ids < 0, VOID, ids).to(torch.uint8)
    return image, ids[:, 0] if mask.ndim == 3 else ids


def _whole_pixels(
    matrix: Float[Tensor, "b 2 3"], size: tuple[int, int], canvas: tuple[int, int]
) -> list[tuple[Axis, Axis]] | None:
    """Where pictures lie that are only mirrored and moved by whole pixels; None where one of them is not."""
    x, y, offset = matrix[:, 0, 0], matrix[:, 1, 1], matrix[:, :, 2]
    plain = torch.diag_embed(torch.stack([x.sign(), y.abs().sign()], 1))
    if not (torch.equal(matrix[:, :, :2], plain) and torch.equal(offset, offset.round())):
        return None
    starts = offset.to(torch.int64) - (x < 0)[:, None] * torch.tensor([size[1] - 1, 0])
    return [
        (Axis(size[0], size[:1], top, canvas[0]), Axis(size[1], size[1:], left, canvas[1], flipped))
        for (left, top), flipped in zip(starts.tolist(), (x < 0).tolist(), strict=True)
    ]


@dataclass(frozen=True)
class Color:
    """Brightness, contrast, saturation, hue, gamma, gains, gray, blur, noise and JPEG; each picture draws its own.

    A change has a strength, 0 for none, and the later ones also a probability (`_p`), among the pictures that `gate`
    lets through. All is drawn from torch's generator on the CPU, so that one seed gives one augmentation on every
    device and a resumed run goes on alike; of noise only the seeds are, and a GPU makes other noise of them.
    """

    color_p: float = 1.0  # share of pictures that are changed at all
    brightness: float = 0.0  # factor 1 - b .. 1 + b; likewise the next two
    contrast: float = 0.0
    saturation: float = 0.0
    hue: float = 0.0  # turns of the color circle, either way
    jpeg: float = 0.0  # share of pictures
    jpeg_quality: tuple[int, int] = (30, 95)
    hue_factor: float = 0.0  # the hue's angle times 1 - h .. 1 + h (EfficientSeg): red stays, violet moves far
    gamma: float = 0.0  # values to the power exp(-g) .. exp(g): dark as often as bright
    gamma_p: float = 1.0
    channel_balance: float = 0.0  # red, green and blue each times 1 - c .. 1 + c of its own: the light's color
    channel_balance_p: float = 1.0
    gray: float = 0.0  # how far towards gray: 1 leaves no color
    gray_p: float = 1.0
    blur: float = 0.0  # pixels, a Gaussian's standard deviation: 0 .. b
    blur_p: float = 1.0
    noise: float = 0.0  # a Gaussian's standard deviation, of values in 0..1: 0 .. n
    noise_p: float = 1.0
    rank: Rank = SINGLE
    offset: float = 0.0  # added to all values: -o .. o, in whole levels of a byte
    offset_p: float = 1.0
    mid_contrast: tuple[float, float] = (1.0, 1.0)  # lowest and highest factor of the distance from middle gray
    mid_contrast_p: float = 1.0
    jpeg_first: bool = False  # before all other changes, where it is the last without this
    brightness_p: float = 1.0  # probabilities of changes that had none at first
    contrast_p: float = 1.0
    saturation_p: float = 1.0
    hue_p: float = 1.0
    shuffle: bool = False  # those four before the others, in an order of its own for each picture

    def choose(self, n: int) -> Bool[Tensor, " b"]:
        """Which of n pictures are changed at all."""
        return self.rank.uniform(n) < self.color_p

    def __call__(self, image: Images, chosen: Bool[Tensor, " b"] | None = None) -> Images:
        """Pictures in 0..1, changed; those that are `chosen`, where others are to know which."""
        n, device = len(image), image.device
        chosen = self.choose(n) if chosen is None else chosen

        def some(probability: float) -> Bool[Tensor, " b"]:
            return chosen & (self.rank.uniform(n) < probability)

        def factor(spread: float, probability: float = 1.0) -> Float[Tensor, " b"]:
            drawn = self.rank.uniform(n, 1 - spread, 1 + spread)
            return torch.where(some(probability) if probability < 1 else chosen, drawn, 1.0).to(device)

        def turns() -> Float[Tensor, " b"]:
            drawn = self.rank.uniform(n, -self.hue, self.hue) * 2 * math.pi
            return torch.where(some(self.hue_p) if self.hue_p < 1 else chosen, drawn, 0.0).to(device)

        if self.jpeg and self.jpeg_first:
            image = self._compress(image, some(self.jpeg))
        if self.shuffle:
            image = self._shuffled(image, factor, turns)
        if self.brightness and not self.shuffle:
            image = enhance.adjust_brightness_accumulative(image, factor(self.brightness, self.brightness_p))
        if self.offset:
            levels = (self.rank.uniform(n, -self.offset, self.offset) * 255).trunc() / 255
            levels = torch.where(some(self.offset_p), levels, 0.0).to(device)
            image = (image + levels[:, None, None, None]).clamp(0, 1)
        if self.contrast and not self.shuffle:
            image = enhance.adjust_contrast_with_mean_subtraction(image, factor(self.contrast, self.contrast_p))
        if self.mid_contrast != (1.0, 1.0):
            wide = torch.where(some(self.mid_contrast_p), self.rank.uniform(n, *self.mid_contrast), 1.0).to(device)
            image = ((image - MIDDLE) * wide[:, None, None, None] + MIDDLE).clamp(0, 1)
        if self.saturation and not self.shuffle:
            image = enhance.adjust_saturation_with_gray_subtraction(image, factor(self.saturation, self.saturation_p))
        if self.hue and not self.shuffle:
            image = enhance.adjust_hue(image, turns())
        if self.hue_factor:
            hsv = rgb_to_hsv(image)
            angle = hsv[:, 0] * factor(self.hue_factor)[:, None, None] % (2 * math.pi)
            image = hsv_to_rgb(torch.stack([angle, hsv[:, 1], hsv[:, 2]], dim=1))
        if self.gamma:
            exponent = self.rank.uniform(n, -self.gamma, self.gamma).exp()
            image = image ** torch.where(some(self.gamma_p), exponent, 1.0).to(device)[:, None, None, None]
        if self.channel_balance:
            gains = self.rank.uniform(n, 1 - self.channel_balance, 1 + self.channel_balance, 3)
            gains = torch.where(some(self.channel_balance_p)[:, None], gains, 1.0)
            image = (image * gains.to(device)[..., None, None]).clamp(max=1)
        if self.gray:
            way = torch.where(some(self.gray_p), self.gray, 0.0).to(device)[:, None, None, None]
            image = torch.lerp(image, rgb_to_grayscale(image), way)
        if self.blur:
            image = self._blur(image, some(self.blur_p))
        if self.noise:
            image = self._add_noise(image, some(self.noise_p))
        if self.jpeg and not self.jpeg_first:
            image = self._compress(image, some(self.jpeg))
        return image

    def _shuffled(self, image: Images, factor: Callable[[float, float], Tensor], turns: Callable[[], Tensor]) -> Images:
        """Brightness, contrast, saturation and hue, each picture's in its own order."""
        changes: list[tuple[Callable[[Tensor, Tensor], Tensor], Tensor]] = [
            (enhance.adjust_brightness_accumulative, factor(self.brightness, self.brightness_p)),
            (enhance.adjust_contrast_with_mean_subtraction, factor(self.contrast, self.contrast_p)),
            (enhance.adjust_saturation_with_gray_subtraction, factor(self.saturation, self.saturation_p)),
            (enhance.adjust_hue, turns()),
        ]
        orders = self.rank.uniform(len(image), 0, 1, len(changes)).argsort(1)
        image = image.clone()
        for turn in range(len(changes)):
            for index, (change, strength) in enumerate(changes):
                still = 0.0 if index == len(changes) - 1 else 1.0
                at = (orders[:, turn] == index).to(image.device) & (strength != still)
                if at.any():
                    image[at] = change(image[at], strength[at])
        return image

    def _blur(self, image: Images, chosen: Bool[Tensor, " b"]) -> Images:
        sigma = self.rank.uniform(len(image), 0, self.blur).clamp(min=1e-3)  # of 0, the Gaussian is not defined
        if not chosen.any():
            return image
        at, kernel = chosen.to(image.device), 2 * math.ceil(3 * self.blur) + 1
        both_axes = sigma[chosen, None].expand(-1, 2).to(image.device)
        image = image.clone()
        with torch.autocast(image.device.type, enabled=False):  # a network's bfloat16 has too few levels for a picture
            image[at] = gaussian_blur2d(image[at], kernel, both_axes, border_type="replicate")
        return image

    def _add_noise(self, image: Images, chosen: Bool[Tensor, " b"]) -> Images:
        """A seed a picture, since so many numbers are made where they are needed, and each rank has its own rows."""
        n, deviation = len(image), self.rank.uniform(len(image), 0, self.noise)
        seeds = torch.randint(2**62, (n * self.rank.count,))[self.rank.rows(n)]
        generator, noise = torch.Generator(image.device), torch.zeros_like(image)
        for i in chosen.nonzero()[:, 0].tolist():
            noise[i].normal_(0, float(deviation[i]), generator=generator.manual_seed(int(seeds[i])))
        return (image + noise).clamp(0, 1)

    def _compress(self, image: Images, chosen: Bool[Tensor, " b"]) -> Images:
        quality = self.rank.uniform(len(image), *self.jpeg_quality)
        if not chosen.any():
            return image
        at = chosen.to(image.device)
        compressed = enhance.jpeg_codec_differentiable(image[at].contiguous(), quality[chosen].to(image.device))
        image = image.clone()
        image[at] = compressed.to(image.dtype)
        return image
