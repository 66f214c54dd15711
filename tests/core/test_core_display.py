"""Display colors are far apart to the eye, and known names have theirs in every data set."""

from math import atan2, cos, degrees, exp, hypot, radians, sin, sqrt

import numpy as np
import pytest

from kerbseg.core.display import ASPHALT, KNOWN, SKY, display_palette
from kerbseg.core.labels import LabelSet, label_set


def linear(rgb):
    return [v / 255 / 12.92 if v <= 10 else ((v / 255 + 0.055) / 1.055) ** 2.4 for v in rgb]


def lab_of_linear(rgb):
    """L*, a*, b* by the matrix of IEC 61966-2-1, white (0.9505, 1, 1.089)."""
    r, g, b = rgb
    xyz = (
        (0.4124 * r + 0.3576 * g + 0.1805 * b) / 0.9505,
        0.2126 * r + 0.7152 * g + 0.0722 * b,
        (0.0193 * r + 0.1192 * g + 0.9505 * b) / 1.089,
    )
    x, y, z = (v ** (1 / 3) if v > 216 / 24389 else (24389 / 27 * v + 16) / 116 for v in xyz)
    return 116 * y - 16, 500 * (x - y), 200 * (y - z)


def ciede2000(one, two):
    """As Sharma, Wu and Dalal (2005) write it, equations 2 to 22."""
    (l1, a1, b1), (l2, a2, b2) = one, two
    c7 = ((hypot(a1, b1) + hypot(a2, b2)) / 2) ** 7
    g = 0.5 * (1 - sqrt(c7 / (c7 + 25**7)))
    a1, a2 = (1 + g) * a1, (1 + g) * a2
    c1, c2 = hypot(a1, b1), hypot(a2, b2)
    h1, h2 = (0 if c == 0 else degrees(atan2(b, a)) % 360 for a, b, c in ((a1, b1, c1), (a2, b2, c2)))
    dh = h2 - h1 if c1 * c2 else 0
    dh += 360 if dh < -180 else -360 if dh > 180 else 0
    big_dh = 2 * sqrt(c1 * c2) * sin(radians(dh / 2))
    lm, cm = (l1 + l2) / 2, (c1 + c2) / 2
    if c1 * c2 == 0:
        hm = h1 + h2
    elif abs(h1 - h2) <= 180:
        hm = (h1 + h2) / 2
    else:
        hm = (h1 + h2 + (360 if h1 + h2 < 360 else -360)) / 2
    t = (
        1
        - 0.17 * cos(radians(hm - 30))
        + 0.24 * cos(radians(2 * hm))
        + 0.32 * cos(radians(3 * hm + 6))
        - 0.20 * cos(radians(4 * hm - 63))
    )
    rc = 2 * sqrt(cm**7 / (cm**7 + 25**7))
    rt = -sin(radians(2 * 30 * exp(-(((hm - 275) / 25) ** 2)))) * rc
    dl = (l2 - l1) / (1 + 0.015 * (lm - 50) ** 2 / sqrt(20 + (lm - 50) ** 2))
    dc, dh = (c2 - c1) / (1 + 0.045 * cm), big_dh / (1 + 0.015 * cm * t)
    return sqrt(dl**2 + dc**2 + dh**2 + rt * dc * dh)


@pytest.mark.parametrize(
    ("one", "two", "distance"),
    [  # pairs 1, 4, 7, 9, 13, 17, 20, 25, 30 and 34 of the paper's table 1
        ((50, 2.6772, -79.7751), (50, 0, -82.7485), 2.0425),
        ((50, -1.3802, -84.2814), (50, 0, -82.7485), 1.0000),
        ((50, 0, 0), (50, -1, 2), 2.3669),
        ((50, 2.49, -0.001), (50, -2.49, 0.0009), 7.1792),
        ((50, -0.001, 2.49), (50, 0.0009, -2.49), 4.8045),
        ((50, 2.5, 0), (73, 25, -18), 27.1492),
        ((50, 2.5, 0), (58, 24, 15), 19.4535),
        ((60.2574, -34.0099, 36.2677), (60.4626, -34.1751, 39.4387), 1.2644),
        ((90.9257, -0.5406, -0.9208), (88.6381, -0.8985, -0.7239), 1.5381),
        ((2.0776, 0.0795, -1.135), (0.9033, -0.0636, -0.5514), 0.9082),
    ],
)
def test_the_measure_is_ciede2000(one, two, distance):
    assert ciede2000(one, two) == pytest.approx(distance, abs=5e-5)
    assert ciede2000(two, one) == pytest.approx(distance, abs=5e-5)


def test_the_measure_knows_white_and_red():
    assert lab_of_linear(linear((255, 255, 255))) == pytest.approx((100, 0, 0), abs=0.01)
    assert lab_of_linear(linear((255, 0, 0))) == pytest.approx((53.24, 80.09, 67.20), abs=0.05)


DEUTERANOPIA = (  # of linear RGB, complete: Machado, Oliveira and Fernandes 2009
    (0.367322, 0.860646, -0.227968),
    (0.280085, 0.672501, 0.047413),
    (-0.011820, 0.042940, 0.968881),
)


def lab(rgb, without_green=False):
    light = linear(rgb)
    if without_green:
        light = [min(1, max(0, sum(w * v for w, v in zip(row, light, strict=True)))) for row in DEUTERANOPIA]
    return lab_of_linear(light)


def shown(labels):
    return [tuple(color) for color in display_palette(labels)[: len(labels)].tolist()]


def least(colors, **eye):
    seen = [lab(color, **eye) for color in colors]
    return min(ciede2000(one, two) for i, one in enumerate(seen) for two in seen[:i])


def to(colors, others):
    return min(ciede2000(lab(one), lab(other)) for one in colors for other in others)


@pytest.mark.parametrize(
    ("name", "apart", "without_green", "asphalt", "sky"),
    [("camvid", 23.5, 11.7, 21.7, 17.9), ("cityscapes", 18.4, 8.1, 21.7, 17.5)],
)
def test_colors_are_far_apart_and_from_what_streets_look_like(name, apart, without_green, asphalt, sky):
    colors = shown(label_set(name))
    figures = (least(colors), least(colors, without_green=True), to(colors, ASPHALT), to(colors, SKY))
    assert all(
        figure > bound - 0.05 for figure, bound in zip(figures, (apart, without_green, asphalt, sky), strict=True)
    )
    assert min(lab(color)[0] for color in colors) > 28, "none is as dark as shadow"
    own = label_set(name).colors
    assert least(own) < 12, "the colors of files would not do: CamVid's have 9.3, Cityscapes' 11.4"
    assert least(own, without_green=True) < 4


def named(*names, **more):
    return LabelSet("named", names, ((0, 0, 0),) * len(names), **more)


def test_a_known_name_has_its_color_in_every_data_set_and_spelling():
    theirs = dict(zip(label_set("cityscapes").classes, shown(label_set("cityscapes")), strict=True))
    camvid = dict(zip(label_set("camvid").classes, shown(label_set("camvid")), strict=True))
    same = {
        "sky": "sky",
        "building": "building",
        "pole": "pole",
        "road": "road",
        "pavement": "sidewalk",
        "tree": "vegetation",
        "sign_symbol": "traffic sign",
        "fence": "fence",
        "car": "car",
        "pedestrian": "person",
        "bicyclist": "rider",
    }
    assert camvid == {name: theirs[other] for name, other in same.items()}
    for spelled, name in {
        "Traffic_Light": "traffic light",
        "TrafficLight": "traffic light",
        "traffic-lights": "traffic light",
        "object--traffic-light": "traffic light",
        "construction--flat--road": "road",
        "Bicyclist": "rider",
        "Column_Pole": "pole",
        "person, individual, someone": "person",
        "Cars": "car",
        "vehicle": "car",
        "asphalt": "road",
    }.items():
        assert shown(named("zebra", spelled, "gnu"))[1] == theirs[name], spelled


def test_known_names_are_far_apart_and_stand_once():
    assert least([color for color, _ in KNOWN]) > 16.5
    names = [name for _, names in KNOWN for name in names]
    assert len(names) == len(set(names))


def test_of_two_names_for_one_thing_the_first_known_has_the_color_in_any_order():
    red = shown(named("person", "sky"))[0]
    for names in (("person", "pedestrian"), ("pedestrian", "person")):
        colors = dict(zip(names, shown(named(*names)), strict=True))
        assert colors["person"] == red != colors["pedestrian"]
    assert shown(named("pedestrian", "sky"))[0] == red


def test_a_class_keeps_its_color_when_others_come():
    few = shown(named("road", "gnu", "zebra"))
    assert shown(named("road", "gnu", "zebra", "okapi"))[:3] == few
    assert shown(named("gnu", "zebra", "okapi", "road"))[3] == few[0]
    assert few == shown(named("road", "gnu", "zebra"))


@pytest.mark.parametrize(("count", "apart"), [(2, 50), (5, 32), (8, 27), (20, 15), (100, 7), (255, 3.7)])
def test_names_that_nobody_knows_have_colors_of_their_own(count, apart):
    colors = shown(named(*(f"thing {i}" for i in range(count))))
    assert len(set(colors)) == count
    assert (0, 0, 0) not in colors, "which is no class"
    assert least(colors) > apart


def test_they_keep_away_from_known_ones_and_from_streets():
    known = label_set("cityscapes").classes
    colors = shown(named(*known, *(f"thing {i}" for i in range(10))))
    assert colors[:19] == shown(label_set("cityscapes"))
    assert least(colors) > 11
    assert to(colors[19:], (*ASPHALT, *SKY)) > 11


def test_a_palette_has_a_color_for_every_id():
    palette = display_palette(label_set("text"))
    assert palette.shape == (256, 3)
    assert palette.dtype == np.uint8
    assert not palette[2:].any()
    palette[:] = 7  # which is the caller's
    assert (display_palette(label_set("text"))[:2] != 7).any()
