"""A street without end: what it is made of follows from its seed, so any stretch of it can be drawn at any time.

Along each side stand lots (buildings, walls, fences, greens); things stand in rows at a spacing, and a row moves at its
own speed. Only what is near the camera is ever made, which is why a video of any length needs no more memory than a
picture.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from kerbseg.data.scenes import things
from kerbseg.data.scenes.canvas import FAR, NEAR, Camera, Canvas, Color, Light, tile
from kerbseg.data.scenes.things import ID, Chance, Thing, along, pick, times, upright

LOT = 13.0  # metres of street that a lot takes

FACADES: tuple[Color, ...] = (
    (168, 120, 98), (204, 188, 160), (150, 146, 142), (186, 90, 70), (222, 214, 198), (118, 104, 98), (196, 170, 112),
    (140, 150, 160), (226, 196, 178), (92, 92, 100),
)  # fmt: skip
ROOFS: tuple[Color, ...] = ((120, 62, 52), (84, 80, 82), (64, 66, 72), (146, 90, 66))
ASPHALT: tuple[Color, ...] = ((92, 92, 94), (112, 110, 108), (74, 76, 80), (126, 122, 116))
PAVING: tuple[Color, ...] = ((150, 146, 140), (168, 156, 144), (128, 128, 130), (176, 168, 152))
GRASS: tuple[Color, ...] = ((92, 116, 58), (110, 118, 66), (126, 112, 76), (76, 104, 60))

LIGHTS = (  # weather: gain, tint, sky at the zenith, sky at the horizon, haze
    (1.05, (1.03, 1.0, 0.95), (70, 124, 196), (176, 204, 228), 0.35),  # clear
    (0.88, (0.98, 1.0, 1.03), (150, 160, 170), (206, 210, 214), 0.55),  # overcast
    (0.78, (1.16, 0.97, 0.8), (90, 104, 150), (244, 190, 136), 0.5),  # late
    (0.66, (0.92, 0.97, 1.1), (96, 108, 126), (150, 160, 172), 0.8),  # rain
    (0.97, (1.0, 1.0, 1.0), (110, 150, 206), (214, 222, 228), 0.9),  # haze
)


@dataclass(frozen=True)
class Row:
    """Things in a line along the street, `spacing` metres apart, a share of the places taken, all at one speed."""

    key: int
    x: float
    spread: float  # metres by which a thing stands beside the line
    spacing: float
    taken: float
    speed: float  # metres a second
    kinds: tuple[tuple[Thing, float], ...]  # and how often each stands there


@dataclass(frozen=True)
class Street:
    """Everything of a street, from its seed."""

    seed: tuple[int, ...]

    def chance(self, *key: int) -> Chance:
        """The source of chance of one part of the street; keys may be negative."""
        return np.random.default_rng([*self.seed, *(abs(k) * 2 + (k < 0) for k in key)])

    @cached_property
    def half(self) -> float:
        """Half of the road's width, in metres."""
        return float(self.chance(1).uniform(3.6, 6.5))

    @cached_property
    def sidewalk(self) -> tuple[float, float]:
        """Widths of the left and right sidewalk."""
        left, right = self.chance(2).uniform(1.6, 3.6, 2)
        return float(left), float(right)

    @cached_property
    def verge(self) -> tuple[float, float]:
        """Widths of the green strips between sidewalks and lots; often none."""
        draw = self.chance(3)
        left, right = (float(draw.uniform(1.0, 3.5)) if draw.random() < 0.45 else 0.0 for _ in range(2))
        return left, right

    @cached_property
    def has_tram(self) -> bool:
        """Whether rails run in the middle of the road."""
        return bool(self.chance(4).random() < 0.3)

    @cached_property
    def light(self) -> Light:
        """Weather and time of day."""
        draw = self.chance(5)
        gain, tint, zenith, horizon, haze = LIGHTS[draw.choice(len(LIGHTS), p=(0.36, 0.28, 0.14, 0.1, 0.12))]
        sun = 0 if gain < 0.9 and tint[0] < 1.1 else int(draw.choice((-1, 1)))
        clouds = float(draw.uniform(0, 0.6))
        return Light(gain * float(draw.uniform(0.88, 1.1)), tint, (zenith, horizon), haze, sun, clouds)

    @cached_property
    def rows(self) -> tuple[Row, ...]:
        """Traffic, parked vehicles, people and street furniture."""
        draw, half = self.chance(6), self.half
        busy = draw.uniform(0.25, 0.8)
        traffic: tuple[tuple[Thing, float], ...] = (
            (things.car, 0.5), (things.truck, 0.16), (things.bus, 0.14), (things.motorcyclist, 0.1),
            (things.cyclist, 0.1),
        )  # fmt: skip
        parked: tuple[tuple[Thing, float], ...] = (
            (things.car, 0.72), (things.truck, 0.06), (things.motorcycle, 0.13), (things.bicycle, 0.09),
        )  # fmt: skip
        furniture: tuple[tuple[Thing, float], ...] = (
            (things.lamp_post, 0.28), (things.traffic_light, 0.2), (things.traffic_sign, 0.28), (things.tree, 0.16),
            (things.clutter, 0.08),
        )  # fmt: skip
        walkers: tuple[tuple[Thing, float], ...] = (
            (things.person, 0.86),
            (things.cyclist, 0.06),
            (things.bicycle, 0.08),
        )
        rows = [
            Row(10, half * 0.45, 0.2, 17, busy, draw.uniform(6, 11), traffic),
            Row(11, -half * 0.45, 0.2, 17, busy, -draw.uniform(6, 11), ((things.oncoming_car, 0.6), *traffic[1:])),
            Row(
                12,
                0,
                0,
                45,
                0.75 if self.has_tram else 0,
                draw.choice((-1, 1)) * draw.uniform(4, 9),
                ((things.tram, 1.0),),
            ),
            Row(13, half * 0.6, half * 0.3, 26, 0.35, 0.0, ((things.person, 1.0),)),  # crossing
        ]
        for side, (walk, green) in enumerate(zip(self.sidewalk, self.verge, strict=True)):
            way = 2 * side - 1
            rows += [
                Row(20 + side, way * (half - 1.05), 0.12, 6.2, draw.choice((0.0, 0.35, 0.7)), 0.0, parked),
                Row(30 + side, way * (half + 0.35), 0.1, 9.5, 0.75, 0.0, furniture),
                Row(
                    40 + side, way * (half + 0.5 + walk / 2), walk / 2 - 0.3, 5.0, draw.uniform(0.2, 0.7), 1.2, walkers
                ),
                Row(
                    50 + side, way * (half + 0.5 + walk / 2), walk / 2 - 0.3, 7.0, draw.uniform(0.1, 0.5), -1.3, walkers
                ),
            ]
            if green:
                kinds: tuple[tuple[Thing, float], ...] = ((things.tree, 0.6), (things.bush, 0.4))
                rows.append(Row(60 + side, way * (half + walk + green / 2), green / 4, 6.5, 0.7, 0.0, kinds))
        return tuple(rows)

    def camera(self, time: float) -> Camera:
        """The camera of a car that follows its lane."""
        draw = self.chance(7)
        start, speed = draw.uniform(0, 400), draw.uniform(6, 10)
        sway = 0.12 * math.sin(0.5 * time)
        vanish = (float(0.5 + draw.uniform(-0.12, 0.12)), float(draw.uniform(0.36, 0.5)))
        return Camera(
            x=float(self.half * draw.uniform(0.1, 0.5) + sway),
            height=float(draw.uniform(1.15, 1.9)),
            z=float(start + speed * time),
            focal=float(draw.uniform(0.72, 1.1)),
            vanish=vanish,
        )

    def draw(self, size: tuple[int, int], time: float) -> Canvas:
        """The street as the camera sees it."""
        canvas = Canvas(size, self.camera(time), self.light)
        canvas.sky(self.chance(8), ID["sky"])
        self._ground(canvas)
        lots = sorted(self._lots(canvas), key=lambda lot: -abs(lot[1] - canvas.camera.z))
        if self.light.sun:
            canvas.darken([self._shadow(side, z) for side, z in lots if side == self.light.sun], 0.4)
        for side, z in lots:
            self._lot(canvas, side, z)
        placed = sorted(self._placed(canvas.camera.z, time), key=lambda entry: -entry[1])
        for x, z, kind, key in placed:
            kind(canvas, self.chance(*key), x, z, time)
        self._bonnet(canvas)
        return canvas

    def _ground(self, canvas: Canvas) -> None:
        draw, half = self.chance(9), self.half
        asphalt, paving, grass = pick(draw, ASPHALT, 4), pick(draw, PAVING, 8), pick(draw, GRASS, 8)
        left, right = -half - self.sidewalk[0], half + self.sidewalk[1]
        bands = [
            (-1e4, 1e4, grass, 0.75, ID["terrain"]),
            (left, right, paving, 0.3, ID["sidewalk"]),
            (-half - 0.18, half + 0.18, times(paving, 1.16), 0.12, ID["sidewalk"]),  # the kerb
            (-half, half, asphalt, 0.28, ID["road"]),
        ]
        canvas.ground(bands, tile(draw))
        self._markings(canvas, draw)

    def _markings(self, canvas: Canvas, draw: Chance) -> None:
        """Lane lines, edge lines, rails and crossings; paint on the road is road."""
        first, last = canvas.camera.z + NEAR, canvas.camera.z + 90
        white: Color = (216, 216, 210)

        def stripe(x: float, near: float, far: float, width: float, color: Color) -> None:
            near, far = max(near, first), max(far, first)
            if far > near:
                corners = [(x - width, 0.0, near), (x + width, 0.0, near), (x + width, 0.0, far), (x - width, 0.0, far)]
                canvas.polygon(corners, color, None)

        if self.has_tram:
            for x in (-0.72, 0.72):
                stripe(x, first, last, 0.05, (70, 70, 74))
        else:
            for n in range(int(first // 6), int(last // 6) + 1):
                stripe(0, 6 * n, 6 * n + 3, 0.07, white)
        if draw.random() < 0.5:
            for x in (-self.half + 0.3, self.half - 0.3):
                stripe(x, first, last, 0.05, white)
        for n in range(int(first // 45), int(last // 45) + 1):
            where = self.chance(70, n)
            if where.random() < 0.5:
                z = 45 * n + where.uniform(0, 30)
                for x in np.arange(-self.half + 0.6, self.half - 0.3, 1.0):
                    stripe(float(x), z, z + 3, 0.25, white)

    def _lots(self, canvas: Canvas) -> Iterator[tuple[int, float]]:
        """Side and near end of each lot in sight."""
        first = int(canvas.camera.z // LOT)
        for n in range(first, first + int(FAR // LOT) + 1):
            yield from ((side, n * LOT) for side in (-1, 1))

    def _edge(self, side: int) -> float:
        """Where the lots of a side begin."""
        index = (side + 1) // 2
        return side * (self.half + self.sidewalk[index] + self.verge[index])

    def _kind(self, side: int, z: float) -> tuple[str, Chance]:
        draw = self.chance(80 + side, round(z / LOT))
        green = self.verge[(side + 1) // 2] > 0
        weights = (0.52, 0.12, 0.14, 0.22) if green else (0.7, 0.1, 0.1, 0.1)
        return str(draw.choice(("building", "wall", "fence", "green"), p=weights)), draw

    def _shadow(self, side: int, z: float) -> list[tuple[float, float, float]]:
        """The shade of a building over sidewalk and road."""
        kind, draw = self._kind(side, z)
        reach = draw.uniform(4, 9) if kind == "building" else 0.8
        x = self._edge(side)
        # behind the camera nothing can be drawn
        return [
            (x, 0, z + LOT),
            (x - side * reach, 0, z + LOT),
            (x - side * reach, 0, max(z, 0.1)),
            (x, 0, max(z, 0.1)),
        ]

    def _lot(self, canvas: Canvas, side: int, z: float) -> None:
        near = max(z, canvas.camera.z + NEAR)
        if near >= z + LOT:
            return
        kind, draw = self._kind(side, z)
        x = self._edge(side)
        if kind == "building":
            self._building(canvas, draw, side, x, z, near)
        elif kind == "wall":
            top, paint = draw.uniform(1.4, 3.0), pick(draw, FACADES, 10)
            face = along(x, near, [(0, 0), (z + LOT - near, 0), (z + LOT - near, top), (0, top)])
            self._green(canvas, draw, side, x, z, near)
            canvas.polygon(face, times(paint, 0.9), ID["wall"])
            for y in np.arange(0.35, top, 0.35):
                canvas.stroke(
                    along(x, near, [(0, float(y)), (z + LOT - near, float(y))]), 0.015, times(paint, 0.72), None
                )
        elif kind == "fence":
            self._green(canvas, draw, side, x, z, near)
            self._fence(canvas, draw, x, z, near)
        else:
            self._green(canvas, draw, side, x, z, near)

    def _building(self, canvas: Canvas, draw: Chance, side: int, x: float, z: float, near: float) -> None:
        paint, roof = pick(draw, FACADES), pick(draw, ROOFS)
        storeys, storey = int(draw.integers(2, 6)), draw.uniform(2.8, 3.4)
        top, deep, length = storeys * storey + 0.6, 9.0, z + LOT - near
        lit = 0.74 if side == canvas.light.sun else 1.0
        if near == z:  # its end, where the next lot is lower
            canvas.polygon(
                [(x, 0, z), (x + side * deep, 0, z), (x + side * deep, top, z), (x, top, z)],
                times(paint, 0.82),
                ID["building"],
            )
        if draw.random() < 0.5:
            ridge = [
                (x, top, near),
                (x, top, near + length),
                (x + side * 3.5, top + 3, near + length),
                (x + side * 3.5, top + 3, near),
            ]
            canvas.polygon(ridge, roof, ID["building"])
        canvas.polygon(
            along(x, near, [(0, 0), (length, 0), (length, top), (0, top)]), times(paint, lit), ID["building"]
        )
        canvas.polygon(
            along(x, near, [(0, top - 0.3), (length, top - 0.3), (length, top), (0, top)]),
            times(paint, 0.6 * lit),
            None,
        )
        count, shop = int(draw.integers(3, 6)), draw.random() < 0.45
        pitch, frame = LOT / count, times(paint, 1.25 * lit)
        pane = pick(draw, ((58, 70, 84), (84, 96, 108), (40, 46, 54)), 8)
        for level in range(storeys):
            low = level * storey + (0.4 if shop and not level else 1.0)
            high = level * storey + storey - 0.45
            for n in range(count):
                start, end = z + n * pitch + 0.18 * pitch, z + (n + 1) * pitch - 0.18 * pitch
                door = not level and not shop and n == count // 2
                start = max(start, near)
                if end <= start:
                    continue
                base = 0.05 if door else low
                for grow, color in ((0.1, frame), (0.0, times(pane, 0.6) if door else pane)):
                    corners = [
                        (0 - grow, base - grow),
                        (end - start + grow, base - grow),
                        (end - start + grow, high + grow),
                        (0 - grow, high + grow),
                    ]
                    canvas.polygon(along(x, start, corners), color, None)
        if shop:
            sign = pick(draw, ((180, 40, 40), (40, 80, 140), (40, 110, 80), (220, 180, 60), (60, 60, 64)))
            canvas.polygon(
                along(x, near, [(0, storey - 0.5), (length, storey - 0.5), (length, storey), (0, storey)]), sign, None
            )

    def _fence(self, canvas: Canvas, draw: Chance, x: float, z: float, near: float) -> None:
        top, paint = draw.uniform(1.0, 1.7), pick(draw, ((110, 84, 58), (190, 188, 182), (60, 66, 64), (140, 140, 142)))
        for y in (0.25, top - 0.12):
            canvas.stroke([(x, y, near), (x, y, z + LOT)], 0.09, paint, ID["fence"])
        post = z
        while post < z + LOT:
            if post >= near:
                canvas.stroke([(x, 0, post), (x, top, post)], 0.13, times(paint, 0.85), ID["fence"])
            post += 0.33 if post - canvas.camera.z < 30 else 0.8

    def _green(self, canvas: Canvas, draw: Chance, side: int, x: float, z: float, near: float) -> None:
        """Trees and bushes on open ground."""
        places = sorted(draw.uniform((0.0, 1.5), (LOT, 9.0), (int(draw.integers(2, 5)), 2)).tolist(), reverse=True)
        for n, (ahead, aside) in enumerate(places):
            if z + ahead > near + 1:
                kind = things.tree if n % 3 else things.bush
                kind(canvas, self.chance(90 + side, round(z / LOT), n), x + side * aside, z + ahead, 0.0)

    def _placed(self, ahead_of: float, time: float) -> Iterator[tuple[float, float, Thing, tuple[int, ...]]]:
        """What stands in the rows within sight: place, kind, and the key of its chance."""
        for row in self.rows:
            moved = row.speed * time
            first = int((ahead_of + NEAR - moved) // row.spacing)
            for n in range(first, int((ahead_of + FAR - moved) // row.spacing) + 1):
                draw = self.chance(row.key, n)
                if draw.random() >= row.taken:
                    continue
                z = n * row.spacing + draw.uniform(0, 0.3) * row.spacing + moved
                x = row.x + draw.uniform(-1, 1) * row.spread
                kinds, weights = zip(*row.kinds, strict=True)
                kind = kinds[draw.choice(len(kinds), p=np.array(weights) / sum(weights))]
                if z > ahead_of + NEAR + 1.5:
                    yield x, z, kind, (row.key, n, 1)

    def _bonnet(self, canvas: Canvas) -> None:
        """The car that carries the camera, in some streets; it belongs to no class."""
        draw = self.chance(95)
        if draw.random() < 0.5:
            return
        rise, paint = draw.uniform(0.05, 0.12), pick(draw, things.CAR_PAINTS)
        z = canvas.camera.z + 1.0
        across = canvas.width / canvas.scale(z) / 2
        center = canvas.camera.x + (0.5 - canvas.camera.vanish[0]) * canvas.width / canvas.scale(z)
        bottom = canvas.camera.height - (canvas.height - canvas.horizon) / canvas.scale(z)
        up = rise * canvas.height / canvas.scale(z)
        turn = np.linspace(0, math.pi, 24)
        shape = [(1.1 * across * math.cos(a), bottom + up * math.sin(a)) for a in turn]
        canvas.polygon(upright(center, z, shape), times(paint, 0.6), 255)
