"""What stands and moves in a street, each drawn by a function `(canvas, draw, x, z, ...)` with its feet at (x, 0, z).

`draw` is the thing's own source of chance: it looks the same in every frame.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.data.scenes.canvas import NEAR, Canvas, Color, Point

ID = {name: i for i, name in enumerate(label_set("cityscapes").classes)}

Chance = np.random.Generator
Thing = Callable[[Canvas, Chance, float, float, float], None]  # canvas, chance, x, z, time in seconds

DARK, GLASS, STEEL = (38.0, 40.0, 44.0), (62.0, 76.0, 88.0), (112.0, 114.0, 116.0)
CAR_PAINTS: tuple[Color, ...] = (
    (176, 24, 28), (28, 62, 128), (214, 214, 212), (52, 54, 58), (120, 124, 128), (20, 20, 22), (196, 160, 60),
    (40, 98, 74), (232, 232, 228), (92, 30, 40),
)  # fmt: skip
CLOTHES: tuple[Color, ...] = (
    (40, 48, 90), (140, 30, 40), (200, 196, 188), (60, 60, 62), (88, 110, 60), (190, 120, 50), (30, 30, 34),
    (110, 80, 130), (70, 130, 150), (210, 190, 60),
)  # fmt: skip
SKIN: tuple[Color, ...] = ((224, 182, 152), (198, 146, 112), (142, 98, 72), (92, 62, 46))


def pick(draw: Chance, colors: tuple[Color, ...], spread: float = 14) -> Color:
    """One of the colors, a little off."""
    red, green, blue = np.clip(np.array(colors[draw.integers(len(colors))]) + draw.normal(0, spread, 3), 8, 250)
    return float(red), float(green), float(blue)


def times(color: Color, factor: float) -> Color:
    """A lighter or darker tone."""
    return color[0] * factor, color[1] * factor, color[2] * factor


def upright(x: float, z: float, shape: list[tuple[float, float]]) -> list[Point]:
    """Offsets (to the right, up) in the plane that faces the camera at (x, z)."""
    return [(x + dx, y, z) for dx, y in shape]


def along(x: float, z: float, shape: list[tuple[float, float]]) -> list[Point]:
    """Offsets (ahead, up) in the plane along the street at (x, z), cut off before the camera."""
    return [(x, y, z + dz) for dz, y in shape]


def shadow(canvas: Canvas, x: float, z: float, half: float, length: float) -> None:
    """The dark patch under a thing."""
    near = max(z - 0.3, canvas.camera.z + NEAR)
    canvas.polygon(
        [(x - half, 0, near), (x + half, 0, near), (x + half, 0, near + length), (x - half, 0, near + length)],
        (34, 35, 38), None,
    )  # fmt: skip


def box(
    canvas: Canvas,
    x: float,
    z: float,
    half: float,
    bottom: float,
    top: float,
    length: float,
    paint: Color,
    class_id: int,
) -> float:
    """A box with its near face at z; returns the x of the side that shows."""
    side = x - half if x > canvas.camera.x else x + half
    light = 0.72 if (side < x) == (canvas.light.sun > 0) else 0.95
    canvas.polygon(
        along(side, z, [(0, bottom), (length, bottom), (length, top), (0, top)]), times(paint, light), class_id
    )
    canvas.polygon(upright(x, z, [(-half, bottom), (half, bottom), (half, top), (-half, top)]), paint, class_id)
    return side


def wheels(canvas: Canvas, side: float, z: float, radius: float, places: tuple[float, ...], class_id: int) -> None:
    """Wheels on the side that shows."""
    for place in places:
        turn = [math.tau * i / 12 for i in range(12)]
        rim = [(place + radius * math.cos(a), radius + radius * math.sin(a)) for a in turn]
        canvas.polygon(along(side, z, rim), (24, 24, 26), class_id)
        hub = [(place + 0.5 * radius * math.cos(a), radius + 0.5 * radius * math.sin(a)) for a in turn]
        canvas.polygon(along(side, z, hub), (128, 130, 132), None)


def car(canvas: Canvas, draw: Chance, x: float, z: float, time: float, oncoming: bool = False) -> None:
    """A car along the street: body, cabin, windows, lights, wheels."""
    paint, half = pick(draw, CAR_PAINTS), draw.uniform(0.82, 0.95)
    length, waist, roof = draw.uniform(3.6, 4.8), draw.uniform(0.85, 1.0), draw.uniform(1.38, 1.75)
    tail = draw.uniform(0.0, 0.7)
    shadow(canvas, x, z, half + 0.15, length)
    side = box(canvas, x, z, half, 0.28, waist, length, paint, ID["car"])
    front, back, tuck = length * 0.72, tail, half * 0.16
    inner = side + (tuck if side < x else -tuck)
    cabin = [(back, waist), (front + 0.5, waist), (front - 0.2, roof), (back + 0.35, roof)]
    canvas.polygon([(side if y == waist else inner, y, z + dz) for dz, y in cabin], times(paint, 0.8), ID["car"])
    glass = [
        (back + 0.3, waist + 0.06),
        (front + 0.2, waist + 0.06),
        (front - 0.25, roof - 0.1),
        (back + 0.5, roof - 0.1),
    ]
    canvas.polygon([(side if y < waist + 0.1 else inner, y, z + dz) for dz, y in glass], GLASS, None)
    wheels(canvas, side, z, 0.33, (0.75, length - 0.8), ID["car"])
    pane = [(-half, waist), (half, waist), (half - tuck, roof), (-half + tuck, roof)]
    canvas.polygon(upright(x, z + back * 0.5, pane), times(paint, 0.9), ID["car"])
    window = [
        (-half + 0.1, waist + 0.05),
        (half - 0.1, waist + 0.05),
        (half - tuck - 0.1, roof - 0.1),
        (-half + tuck + 0.1, roof - 0.1),
    ]
    canvas.polygon(upright(x, z + back * 0.5, window), GLASS, None)
    lamp: Color = (250, 246, 220) if oncoming else (196, 22, 24)
    for left in (-half + 0.05, half - 0.35):
        canvas.polygon(upright(x, z, [(left, 0.62), (left + 0.3, 0.62), (left + 0.3, 0.8), (left, 0.8)]), lamp, None)
    canvas.polygon(upright(x, z, [(-0.26, 0.45), (0.26, 0.45), (0.26, 0.57), (-0.26, 0.57)]), (226, 224, 210), None)
    canvas.polygon(
        upright(x, z, [(-half, 0.1), (-half + 0.22, 0.1), (-half + 0.22, 0.3), (-half, 0.3)]), DARK, ID["car"]
    )
    canvas.polygon(upright(x, z, [(half - 0.22, 0.1), (half, 0.1), (half, 0.3), (half - 0.22, 0.3)]), DARK, ID["car"])


def oncoming_car(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A car that comes towards the camera."""
    car(canvas, draw, x, z, time, oncoming=True)


def truck(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A box truck, with its cargo doors or its cab to the camera."""
    paint, cab = pick(draw, ((222, 220, 214), (60, 84, 130), (150, 150, 150), (190, 80, 40))), pick(draw, CAR_PAINTS)
    half, top, length = 1.2, draw.uniform(2.8, 3.6), draw.uniform(5.5, 8.5)
    shadow(canvas, x, z, half + 0.2, length)
    if draw.random() < 0.5:  # from behind
        side = box(canvas, x, z + length - 1.8, half - 0.05, 0.5, top - 0.5, 1.8, cab, ID["truck"])
        side = box(canvas, x, z, half, 0.9, top, length - 2.0, paint, ID["truck"])
        canvas.stroke(upright(x, z, [(0, 0.95), (0, top - 0.05)]), 0.05, times(paint, 0.55), None)
        canvas.polygon(upright(x, z, [(-half, 0.5), (half, 0.5), (half, 0.9), (-half, 0.9)]), DARK, ID["truck"])
        for left in (-half + 0.05, half - 0.35):
            canvas.polygon(
                upright(x, z, [(left, 0.65), (left + 0.3, 0.65), (left + 0.3, 0.82), (left, 0.82)]), (190, 24, 22), None
            )
    else:
        side = box(canvas, x, z + 1.9, half, 0.9, top, length - 1.9, paint, ID["truck"])
        side = box(canvas, x, z, half - 0.05, 0.4, top - 0.45, 1.8, cab, ID["truck"])
        pane = [(-half + 0.15, 1.5), (half - 0.15, 1.5), (half - 0.2, top - 0.65), (-half + 0.2, top - 0.65)]
        canvas.polygon(upright(x, z, pane), GLASS, None)
        canvas.polygon(upright(x, z, [(-0.8, 0.6), (0.8, 0.6), (0.8, 1.1), (-0.8, 1.1)]), times(cab, 0.5), None)
    wheels(canvas, side, z, 0.48, (0.9, length - 1.1, length - 2.2), ID["truck"])
    for left in (-half, half - 0.3):
        canvas.polygon(upright(x, z, [(left, 0), (left + 0.3, 0), (left + 0.3, 0.5), (left, 0.5)]), DARK, ID["truck"])


def coach(
    canvas: Canvas, draw: Chance, x: float, z: float, kind: str, half: float, top: float, length: float, paint: Color
) -> None:
    """A long body with a band of windows: bus and tram."""
    shadow(canvas, x, z, half + 0.2, length)
    band = pick(draw, ((240, 238, 230), (30, 40, 70), (210, 170, 40)))
    side = box(canvas, x, z, half, 0.35, top, length, paint, ID[kind])
    canvas.polygon(along(side, z, [(0, 0.9), (length, 0.9), (length, 1.15), (0, 1.15)]), band, None)
    pitch = length / max(3, round(length / 1.5))
    for n in range(round(length / pitch)):
        start = n * pitch + 0.12
        pane = [(start, 1.35), (start + pitch - 0.24, 1.35), (start + pitch - 0.24, top - 0.6), (start, top - 0.6)]
        canvas.polygon(along(side, z, pane), GLASS, None)
    canvas.polygon(
        upright(
            x, z, [(-half + 0.12, 1.25), (half - 0.12, 1.25), (half - 0.12, top - 0.75), (-half + 0.12, top - 0.75)]
        ),
        GLASS,
        None,
    )
    canvas.polygon(
        upright(x, z, [(-0.8, top - 0.6), (0.8, top - 0.6), (0.8, top - 0.25), (-0.8, top - 0.25)]), (24, 22, 20), None
    )
    canvas.polygon(
        upright(x, z, [(-0.6, top - 0.52), (0.6, top - 0.52), (0.6, top - 0.34), (-0.6, top - 0.34)]),
        (240, 160, 40),
        None,
    )
    for left in (-half + 0.08, half - 0.4):
        canvas.polygon(
            upright(x, z, [(left, 0.6), (left + 0.32, 0.6), (left + 0.32, 0.82), (left, 0.82)]), (236, 230, 200), None
        )
    canvas.polygon(upright(x, z, [(-half, 0.12), (half, 0.12), (half, 0.38), (-half, 0.38)]), DARK, ID[kind])


def bus(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A city bus."""
    paint = pick(draw, ((170, 30, 34), (40, 90, 150), (220, 220, 216), (60, 130, 80), (226, 176, 48)))
    coach(canvas, draw, x, z, "bus", 1.25, 3.05, draw.uniform(9, 12), paint)
    side = x - 1.25 if x > canvas.camera.x else x + 1.25
    wheels(canvas, side, z, 0.5, (2.2, 7.8), ID["bus"])


def tram(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A tram under its wire; Cityscapes calls it a train."""
    paint = pick(draw, ((196, 44, 40), (228, 200, 70), (230, 228, 220), (50, 110, 90)))
    canvas.stroke([(x, 5.2, z - 8), (x, 5.2, z + 40)], 0.03, (60, 60, 62), None)
    coach(canvas, draw, x, z, "train", 1.2, 3.5, draw.uniform(16, 26), paint)
    canvas.stroke([(x - 0.5, 3.5, z + 4), (x + 0.4, 4.3, z + 5), (x, 5.2, z + 4)], 0.09, DARK, ID["train"])


def person(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """Somebody on foot, legs in step."""
    tall = draw.uniform(1.5, 1.92) * (0.68 if draw.random() < 0.1 else 1)
    coat, legs, skin = pick(draw, CLOTHES), pick(draw, CLOTHES), pick(draw, SKIN, 6)
    step = 0.17 * math.sin(draw.uniform(0, math.tau) + 7 * time)
    wide = tall * draw.uniform(0.115, 0.15)
    hip, shoulder = 0.48 * tall, 0.82 * tall
    for foot, tone in ((-step, 0.8), (step, 1.0)):
        leg = [(-0.5 * wide, hip), (0.5 * wide, hip), (foot + 0.085, 0), (foot - 0.085, 0)]
        canvas.polygon(upright(x, z, leg), times(legs, tone), ID["person"])
    for hand, tone in ((step, 0.75), (-step, 0.9)):
        canvas.stroke(
            upright(x, z, [(wide * 0.9, shoulder - 0.05), (wide + 0.06 + hand * 0.6, hip)]),
            0.1,
            times(coat, tone),
            ID["person"],
        )
        canvas.stroke(
            upright(x, z, [(-wide * 0.9, shoulder - 0.05), (-wide - 0.06 + hand * 0.6, hip)]),
            0.1,
            times(coat, tone),
            ID["person"],
        )
    hem = hip - draw.uniform(0, 0.25)
    canvas.polygon(
        upright(x, z, [(-wide, shoulder), (wide, shoulder), (wide * 0.95, hem), (-wide * 0.95, hem)]),
        coat,
        ID["person"],
    )
    canvas.disc((x, 0.92 * tall, z), (0.055 * tall, 0.075 * tall), skin, ID["person"])
    canvas.disc(
        (x, 0.955 * tall, z),
        (0.055 * tall, 0.042 * tall),
        pick(draw, ((40, 30, 24), (120, 84, 44), (190, 180, 170))),
        ID["person"],
    )


def _cyclist(canvas: Canvas, draw: Chance, x: float, z: float, seat: float, lean: float) -> None:
    """Whoever rides, from the saddle up; legs down to the pedals."""
    coat, legs, skin = pick(draw, CLOTHES), pick(draw, CLOTHES), pick(draw, SKIN, 6)
    helmet = pick(draw, ((220, 220, 220), (30, 30, 34), (190, 40, 40), (60, 120, 180)))
    canvas.stroke(upright(x, z, [(0, seat), (0.28, seat - 0.32), (0.1, 0.3)]), 0.17, legs, ID["rider"])
    back = [(-0.16, seat - 0.06), (0.18, seat - 0.02), (lean + 0.24, seat + 0.55), (lean - 0.14, seat + 0.6)]
    canvas.polygon(upright(x, z, back), coat, ID["rider"])
    canvas.stroke(
        upright(x, z, [(lean + 0.1, seat + 0.48), (lean + 0.35, seat + 0.12)]), 0.1, times(coat, 0.85), ID["rider"]
    )
    canvas.disc((x + lean + 0.08, seat + 0.76, z), (0.11, 0.13), skin, ID["rider"])
    canvas.disc((x + lean + 0.07, seat + 0.83, z), (0.12, 0.09), helmet, ID["rider"])


def bicycle(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A bicycle that leans on its stand."""
    frame = pick(draw, CAR_PAINTS)
    for wheel in (-0.52, 0.52):
        canvas.ring((x + wheel, 0.34, z), 0.33, 0.06, (30, 30, 32), ID["bicycle"])
    canvas.stroke(
        upright(x, z, [(-0.52, 0.34), (0, 0.34), (0.4, 0.8), (-0.18, 0.82), (-0.52, 0.34)]), 0.07, frame, ID["bicycle"]
    )
    canvas.stroke(upright(x, z, [(0, 0.34), (-0.18, 0.82), (-0.22, 0.95)]), 0.07, frame, ID["bicycle"])
    canvas.stroke(upright(x, z, [(0.52, 0.34), (0.38, 0.95), (0.5, 1.0)]), 0.06, frame, ID["bicycle"])
    canvas.stroke(upright(x, z, [(-0.32, 0.97), (-0.1, 0.97)]), 0.09, DARK, ID["bicycle"])


def cyclist(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A rider on a bicycle."""
    bicycle(canvas, draw, x, z, time)
    _cyclist(canvas, draw, x - 0.2, z, 0.98, 0.28)


def motorcycle(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A parked motorcycle: heavy wheels, tank, engine, lamp."""
    paint = pick(draw, CAR_PAINTS)
    for wheel in (-0.7, 0.7):
        canvas.ring((x + wheel, 0.32, z), 0.27, 0.15, (26, 26, 28), ID["motorcycle"])
    body = [
        (-0.75, 0.62),
        (-0.3, 0.78),
        (0.15, 0.74),
        (0.45, 0.92),
        (0.62, 0.86),
        (0.5, 0.5),
        (0.2, 0.28),
        (-0.3, 0.28),
    ]
    canvas.polygon(upright(x, z, body), paint, ID["motorcycle"])
    canvas.polygon(
        upright(x, z, [(-0.25, 0.25), (0.25, 0.25), (0.2, 0.55), (-0.2, 0.55)]), (70, 70, 74), ID["motorcycle"]
    )
    canvas.stroke(upright(x, z, [(0.7, 0.32), (0.5, 0.98), (0.36, 1.06)]), 0.09, STEEL, ID["motorcycle"])
    canvas.stroke(upright(x, z, [(-0.7, 0.76), (-0.2, 0.8)]), 0.13, DARK, ID["motorcycle"])
    canvas.disc((x + 0.62, 0.88, z), (0.1, 0.1), (250, 244, 214), ID["motorcycle"])


def motorcyclist(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A rider on a motorcycle."""
    motorcycle(canvas, draw, x, z, time)
    _cyclist(canvas, draw, x - 0.25, z, 0.86, 0.22)


def lamp_post(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A street lamp with its arm over the road."""
    top, arm = draw.uniform(5, 8), 1.4 if x < canvas.camera.x else -1.4
    canvas.stroke(
        [(x, 0, z), (x, top, z), (x + arm, top + 0.25, z)], 0.16, pick(draw, (STEEL, (60, 70, 66))), ID["pole"]
    )
    canvas.polygon(
        upright(x + arm, z, [(-0.35, top + 0.2), (0.35, top + 0.2), (0.3, top + 0.36), (-0.3, top + 0.36)]),
        (150, 150, 146),
        ID["pole"],
    )


def traffic_light(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A signal on its pole; one of three lamps is lit."""
    top = draw.uniform(2.9, 3.6)
    canvas.stroke([(x, 0, z), (x, top, z)], 0.13, STEEL, ID["pole"])
    canvas.polygon(
        upright(x, z, [(-0.2, top - 0.75), (0.2, top - 0.75), (0.2, top + 0.35), (-0.2, top + 0.35)]),
        (28, 30, 30),
        ID["traffic light"],
    )
    lit = int(draw.integers(3))
    for n, color in enumerate(((70, 220, 120), (250, 190, 50), (240, 50, 40))):
        canvas.disc((x, top - 0.55 + 0.36 * n, z), (0.12, 0.12), color if n == lit else times(color, 0.25), None)


def traffic_sign(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A sign on its pole: round, triangular, square or octagonal."""
    top, r = draw.uniform(2.2, 2.8), draw.uniform(0.32, 0.42)
    canvas.stroke([(x, 0, z), (x, top + r, z)], 0.08, STEEL, ID["pole"])
    kind = int(draw.integers(4))
    corners = (24, 3, 4, 8)[kind]
    rim, face = (
        ((190, 30, 36), (240, 238, 232)),
        ((190, 30, 36), (240, 238, 232)),
        ((240, 240, 240), (34, 82, 160)),
        ((240, 240, 240), (180, 26, 34)),
    )[kind]
    start = (0.0, math.pi / 2, math.pi / 4, math.pi / 8)[kind]
    for radius, color in ((r, rim), (0.76 * r, face)):
        turn = [start + math.tau * i / corners for i in range(corners)]
        canvas.polygon(
            upright(x, z, [(radius * math.cos(a), top + radius * math.sin(a)) for a in turn]), color, ID["traffic sign"]
        )
    canvas.polygon(
        upright(x, z, [(-0.4 * r, top - 0.1), (0.4 * r, top - 0.1), (0.4 * r, top + 0.06), (-0.4 * r, top + 0.06)]),
        (40, 40, 44) if kind < 2 else (244, 244, 244),
        None,
    )


def tree(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A trunk and a crown of leaves, lit from the sun's side."""
    top, wide = draw.uniform(4.5, 9), draw.uniform(1.2, 2.3)
    green = pick(draw, ((70, 104, 44), (88, 120, 52), (54, 86, 50), (122, 116, 48), (140, 92, 44)), 10)
    canvas.stroke([(x, 0, z), (x, 0.55 * top, z)], 0.32, pick(draw, ((84, 66, 50), (70, 62, 56)), 6), ID["vegetation"])
    leaves(canvas, draw, (x, 0.68 * top, z), (wide, 0.36 * top), green)


def bush(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """Leaves near the ground."""
    green = pick(draw, ((62, 98, 44), (80, 104, 52), (96, 110, 60)), 10)
    leaves(canvas, draw, (x, 0.6, z), (draw.uniform(0.7, 1.4), 0.65), green)


def leaves(canvas: Canvas, draw: Chance, center: Point, radius: tuple[float, float], green: Color) -> None:
    """A heap of leaf clusters, dark ones first."""
    x, y, z = center
    clusters = 46 if canvas.scale(z) * radius[0] > 24 else 18
    angle, far = draw.uniform(0, math.tau, clusters), np.sqrt(draw.random(clusters))
    tone = np.sort(draw.uniform(0.55, 1.3, clusters))
    for a, r, t in zip(angle.tolist(), far.tolist(), tone.tolist(), strict=True):
        place = (x + 0.82 * radius[0] * r * math.cos(a), y + 0.85 * radius[1] * r * math.sin(a), z)
        lit = t + 0.12 * canvas.light.sun * math.cos(a)
        canvas.disc(place, (0.27 * radius[0], 0.2 * radius[1]), times(green, lit), ID["vegetation"])


def clutter(canvas: Canvas, draw: Chance, x: float, z: float, time: float) -> None:
    """A bin or a box: nothing that has a class."""
    half, top = draw.uniform(0.22, 0.4), draw.uniform(0.6, 1.1)
    paint = pick(draw, ((40, 80, 60), (90, 90, 94), (150, 120, 70), (50, 60, 110)))
    canvas.polygon(upright(x, z, [(-half, 0), (half, 0), (half * 1.05, top), (-half * 1.05, top)]), paint, VOID)
    canvas.polygon(
        upright(x, z, [(-half * 1.1, top), (half * 1.1, top), (half, top + 0.12), (-half, top + 0.12)]),
        times(paint, 0.7),
        VOID,
    )
