"""Colors for people to look at: far apart to the eye, and a class that is known has the same in every data set.

They are not the colors of files: `LabelSet.palette` stays what masks and benchmarks say. The known colors were chosen
within a hue each (roads are purple, people red, cars blue ...) so that the least CIEDE2000 distance (Sharma, Wu and
Dalal 2005) between any two of Cityscapes' 19, of CamVid's 11, and to asphalt and sky as cameras see them is greatest,
for eyes without green cones (deuteranopia, as Machado, Oliveira and Fernandes 2009 simulate it) too. Other names
get the farthest free color in DIN99o (DIN 6176), where straight lines measure much as CIEDE2000 does.
"""

from __future__ import annotations

import re
from functools import lru_cache

import numpy as np
from jaxtyping import Float64, Int64, UInt8

from kerbseg.core.labels import Color, LabelSet

ASPHALT: tuple[Color, ...] = ((72, 74, 80), (108, 108, 110))
"""Medians of CamVid's roads (train): of a usual picture, and of a bright one."""

SKY: tuple[Color, ...] = ((150, 170, 180), (135, 190, 235))
"""A hazy sky, as the bluest tenth of CamVid's, and a clear one."""

KNOWN: tuple[tuple[Color, tuple[str, ...]], ...] = (  # color, and names for one thing: of two in a set the first has it
    ((128, 73, 140), ("road", "asphalt", "street", "roadway", "drivable area", "drivable", "drivable surface", "lane")),
    ((254, 134, 191), ("sidewalk", "pavement", "footpath", "footway", "pedestrian area", "walkway")),
    ((145, 88, 0), ("building", "house", "edifice", "skyscraper")),
    ((185, 171, 217), ("wall",)),
    ((214, 176, 160), ("fence", "railing")),
    ((241, 244, 218), ("pole", "column pole", "utility pole", "street light", "post")),
    ((247, 163, 30), ("traffic light", "traffic signal")),
    ((249, 218, 0), ("traffic sign", "sign symbol", "sign", "signboard", "traffic sign front", "road sign")),
    ((12, 117, 59), ("vegetation", "tree", "nature", "plant", "bush", "vegetation misc", "foliage", "crop")),
    ((172, 232, 111), ("terrain", "grass", "lawn", "meadow", "field")),
    ((74, 236, 255), ("sky",)),
    ((229, 45, 76), ("person", "pedestrian", "human", "people", "child", "man", "woman")),
    ((248, 102, 0), ("rider", "bicyclist", "cyclist", "motorcyclist", "other rider")),
    ((30, 114, 237), ("car", "vehicle", "auto", "automobile")),
    ((0, 152, 145), ("truck", "lorry", "van", "truck bus", "suvpickup truck")),
    ((84, 40, 240), ("bus", "coach")),
    ((35, 231, 189), ("train", "tram", "on rails", "streetcar")),
    ((192, 95, 219), ("motorcycle", "motorbike", "motor scooter", "motorcycle scooter", "autorickshaw")),
    ((128, 27, 54), ("bicycle", "bike", "cycle")),
    ((255, 244, 255), ("lane marking", "road marking", "lane mkgs driv", "lane marking general", "marking")),
    ((0, 83, 110), ("water", "river", "sea", "lake", "pool")),
    ((138, 37, 3), ("animal", "dog", "cat", "bird", "horse", "ground animal")),
    ((137, 136, 38), ("ground", "soil", "earth", "dirt", "path", "trail", "track", "parking")),
    ((216, 0, 140), ("text", "letters", "writing", "word")),
    ((92, 94, 104), ("background", "other", "others", "unlabeled", "misc", "rest", "nothing")),
)


@lru_cache(maxsize=16)
def _colors(classes: tuple[str, ...]) -> tuple[Color, ...]:
    chosen: dict[str, Color] = {}
    plain = {name: _plain(name) for name in classes}
    for color, known in KNOWN:
        of_thing = [name for name in classes if plain[name] in known]
        if of_thing:  # the classes' order decides only between two spellings of one name
            chosen[min(of_thing, key=lambda name: known.index(plain[name]))] = color
    grid, lab = _bold_colors()
    taken = np.array([*ASPHALT, *SKY, (0, 0, 0), *chosen.values()])
    distance = ((lab[:, None] - _eye(taken)) ** 2).sum(-1).min(1)
    for name in classes:
        if name not in chosen:
            farthest = distance.argmax()
            red, green, blue = grid[farthest].tolist()
            chosen[name] = (red, green, blue)
            distance = np.minimum(distance, ((lab - lab[farthest]) ** 2).sum(-1))
    return tuple(chosen[name] for name in classes)


def display_palette(labels: LabelSet) -> UInt8[np.ndarray, "256 3"]:
    """The color that people see for every uint8 id; what is no class is black.

    A known name's color depends on nothing else, unless two classes of a set are names for one thing. That of another
    name depends on the known ones and on the names before it: a class that is added at the end leaves it.
    """
    palette = np.zeros((256, 3), np.uint8)
    palette[: len(labels)] = _colors(labels.classes)
    return palette


def thing_of(name: str) -> str:
    """The first of the names in `KNOWN` for the same thing, `person` for `Pedestrian`; the plain name of another."""
    plain = _plain(name)
    return next((known[0] for _, known in KNOWN if plain in known), plain)


def is_known(thing: str) -> bool:
    """Whether a thing has a color of its own."""
    return thing in _KNOWN_NAMES


def _plain(name: str) -> str:
    """A name as `KNOWN` spells it, also of `Traffic_Light`, `object--traffic-light` and `traffic light, lamp`."""
    name = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", name.split("--")[-1].split(",")[0])
    plain = " ".join(re.split(r"[\W_]+", name.casefold())).strip()
    return plain if plain in _KNOWN_NAMES else plain.removesuffix("s")


_KNOWN_NAMES = frozenset(name for _, names in KNOWN for name in names)


@lru_cache(maxsize=1)
def _bold_colors() -> tuple[Int64[np.ndarray, "n 3"], Int64[np.ndarray, "n 3"]]:
    """Colors to choose from, and where `_eye` has them: none near gray or as dark as shadow, none glaring."""
    levels = np.linspace(0, 255, 18).astype(np.int64)
    grid = np.stack(np.meshgrid(levels, levels, levels, indexing="ij"), -1).reshape(-1, 3)
    lab = cielab(grid)
    lightness, chroma = lab[:, 0], np.hypot(lab[:, 1], lab[:, 2])
    grid = grid[(lightness > 35) & (lightness < 92) & (chroma > 25) & (chroma < 95)]
    return grid, _eye(grid)


def _eye(rgb: Int64[np.ndarray, "n 3"]) -> Int64[np.ndarray, "n 3"]:
    """DIN99o coordinates, in hundredths: whole numbers, so that every machine chooses alike."""
    lightness, a, b = cielab(rgb).T
    turn = np.radians(26)
    red = a * np.cos(turn) + b * np.sin(turn)
    yellow = 0.83 * (b * np.cos(turn) - a * np.sin(turn))
    chroma = np.log1p(0.075 * np.hypot(red, yellow)) / 0.0435
    hue = np.arctan2(yellow, red) + turn
    lab = (303.67 * np.log1p(0.0039 * lightness), chroma * np.cos(hue), chroma * np.sin(hue))
    return (100 * np.stack(lab, -1)).round().astype(np.int64)


def cielab(rgb: Int64[np.ndarray, "n 3"]) -> Float64[np.ndarray, "n 3"]:
    """L*, a*, b* of sRGB colors in its own white (D65)."""
    encoded = np.asarray(rgb) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    xyz = linear @ _TO_XYZ.T / _TO_XYZ.sum(1)
    x, y, z = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29).T
    return np.stack((116 * y - 16, 500 * (x - y), 200 * (y - z)), -1)


_TO_XYZ = np.array(  # IEC 61966-2-1
    [(0.4124, 0.3576, 0.1805), (0.2126, 0.7152, 0.0722), (0.0193, 0.1192, 0.9505)]
)
