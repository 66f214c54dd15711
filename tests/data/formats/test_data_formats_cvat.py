"""CVAT's shapes become the masks that rays count, by z_order; broken and hostile files are named."""

from pathlib import Path

import numpy as np
import pytest
from outlines import DOOR, HOUSE, PARTLY_OUT, SIZE, inside, left_out, masks, painted, picture, write

from kerbseg.core.errors import DataError
from kerbseg.data.formats import read_source, recognize

CLASSES = ["background", "house", "door"]
META = """<meta><job><labels>
  <label><name>house</name><color>#ff0080</color><type>any</type><attributes/></label>
  <label><name>door</name><color>#00ff00</color><type>polygon</type><attributes/></label>
  <label><name>wheel</name><color>#00ff00</color><type>points</type><attributes/></label>
</labels></job></meta>"""


def polygon(label, points, **more):
    return shape("polygon", label, points=";".join(f"{x},{y}" for x, y in points), **more)


def shape(tag, label, **more):
    attributes = " ".join(f'{key}="{value}"' for key, value in more.items())
    return f'<{tag} label="{label}" source="manual" occluded="0" {attributes}></{tag}>'


def image(*shapes, name="a.png", **more):
    attributes = {"id": 0, "name": name, "width": SIZE[1], "height": SIZE[0], **more}
    written = " ".join(f'{key}="{value}"' for key, value in attributes.items())
    return f"<image {written}>{''.join(shapes)}</image>"


def labels(root: Path, *images, meta=META) -> Path:
    picture(root / "images" / "a.png")
    text = f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>{meta}{"".join(images)}'
    return write(root / "annotations.xml", f"{text}</annotations>\n")


def test_shapes_lie_by_z_order_and_then_as_listed(tmp_path):
    for door, house, on_top in ((1, 0, "door"), (0, 1, "house"), (0, 0, "house")):
        labels(tmp_path, image(polygon("door", DOOR, z_order=door), polygon("house", HOUSE, z_order=house)))
        layers = [(inside(HOUSE), 1), (inside(DOOR), 2)]
        expected = painted(layers if on_top == "door" else layers[::-1])
        assert recognize(tmp_path) == ("cvat",)
        assert (masks("cvat", tmp_path, CLASSES)["images/a"] == expected).all()


def test_boxes_and_ellipses_are_painted_turned(tmp_path):
    box = shape("box", "house", xtl=5.2, ytl=10.4, xbr=15.7, ybr=14.6, rotation=90)
    ellipse = shape("ellipse", "door", cx=30, cy=15, rx=8, ry=4)
    labels(tmp_path, image(box, ellipse))
    rows, columns = np.mgrid[: SIZE[0], : SIZE[1]] + 0.5
    x, y = (5.2 + 15.7) / 2, (10.4 + 14.6) / 2
    standing = (abs(columns - x) < (14.6 - 10.4) / 2) & (abs(rows - y) < (15.7 - 5.2) / 2)
    oval = ((columns - 30) / 8) ** 2 + ((rows - 15) / 4) ** 2 < 1
    assert (masks("cvat", tmp_path, CLASSES)["images/a"] == painted([(standing, 1), (oval, 2)])).mean() >= 0.999


def test_a_mask_is_run_lengths_of_its_box(tmp_path):
    mask = shape("mask", "house", rle="2, 3, 1, 4, 2", left=35, top=4, width=4, height=3)
    labels(tmp_path, image(mask, polygon("door", PARTLY_OUT)))
    expected = np.zeros(SIZE, np.uint8)
    expected[4:7, 35:39] = np.array([[0, 0, 1, 1], [1, 0, 1, 1], [1, 1, 0, 0]])
    expected[inside(PARTLY_OUT)] = 2
    assert (masks("cvat", tmp_path, CLASSES)["images/a"] == expected).all()


def test_the_rest_is_left_out_and_counted(tmp_path):
    others = (
        shape("points", "wheel", points="1,1"),
        shape("polyline", "house", points="1,1;2,2"),
        shape("tag", "house"),
        shape("skeleton", "house"),
        shape("cuboid", "house"),
    )
    labels(tmp_path, image(*others, *others[:1]))
    assert left_out("cvat", tmp_path) == {"points": 2, "polylines": 1, "tags": 1, "skeletons": 1, "cuboids": 1}


def test_colors_and_splits_are_those_of_the_task(tmp_path):
    picture(tmp_path / "images" / "b.png")
    labels(tmp_path, image(subset="Train"), image(name="b.png", subset="Validation"))
    source = read_source("cvat", tmp_path)
    assert [(each.name, each.color) for each in source.classes] == [
        ("background", None),
        ("house", (255, 0, 128)),
        ("door", (0, 255, 0)),
    ]
    assert [each.split for each in source.entries] == ["train", "val"]


BROKEN = {
    "a polygon of two points": (polygon("door", DOOR[:2]), r"shape 1 \(polygon\): a polygon of 2 point"),
    "a polygon without points": (shape("polygon", "door"), "points must be x,y;x,y"),
    "a polygon of text": (shape("polygon", "door", points="1,2;x,4;5,6"), "points must be x,y"),
    "points that are no numbers": (shape("polygon", "door", points="1,2;nan,4;5,6"), "no place in a picture"),
    "an unknown class": (polygon("dor", DOOR), "label 'dor' is none of the task's; did you mean 'door'"),
    "a class that has no masks": (polygon("wheel", DOOR), "label 'wheel' is none"),
    "a box without an edge": (shape("box", "door", xtl=1, ytl=1, xbr=2), "ybr must be a number, found None"),
    "a shape of tomorrow": (shape("spline", "door"), "<spline> is not known"),
    "lengths too few": (
        shape("mask", "door", rle="2, 3", left=0, top=0, width=4, height=3),
        "for 5 pixels",
    ),
    "lengths of text": (
        shape("mask", "door", rle="2; 3", left=0, top=0, width=4, height=3),
        "no list of whole",
    ),
    "a mask outside": (shape("mask", "door", rle="12", left=38, top=0, width=4, height=3), r"4x3 at \(38, 0\) leaves"),
    "a mask before": (shape("mask", "door", rle="12", left=-1, top=0, width=4, height=3), r"at \(-1, 0\) leaves"),
    "an endless mask": (shape("mask", "door", rle="12", left=0, top=0, width=10**9, height=10**9), "leaves"),
    "no width": (shape("mask", "door", rle="12", left=0, top=0, height=3), "width must be a whole number, found None"),
    "an odd z_order": (polygon("door", DOOR, z_order="x"), "z_order must be a whole number, found 'x'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_a_broken_shape_is_named(tmp_path, case):
    wrong, says = BROKEN[case]
    labels(tmp_path, image(polygon("house", HOUSE), wrong))
    with pytest.raises(DataError, match=rf"annotations\.xml: image 0 \(a\.png\).*{says}") as caught:
        read_source("cvat", tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("images", "says"),
    [
        ([image(name="b.png")], "picture 'b.png' is not in"),
        ([image(name="../../b.png")], "picture '../../b.png' lies outside"),
        ([image(name="")], "has no name"),
        ([image(width="x")], "width must be a whole number"),
        ([image(width=0)], "a picture of 0x30"),
        ([], "holds no pictures"),
        (["<track id='0' label='door'></track>"], "is 'CVAT for video'"),
        (["<image"], "is no whole XML"),
    ],
)
def test_a_broken_file_is_named(tmp_path, images, says):
    labels(tmp_path, *images)
    with pytest.raises(DataError, match=rf"annotations\.xml.*{says}"):
        read_source("cvat", tmp_path)


def test_without_labels(tmp_path):
    labels(tmp_path, image(polygon("house", HOUSE)), meta="")
    with pytest.raises(DataError, match="lists no labels"):
        read_source("cvat", tmp_path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_entities_are_refused_before_anything_grows(tmp_path, encoding):
    entities = "".join(f'<!ENTITY a{i} "{f"&a{i - 1};" * 10}">' for i in range(1, 12))
    text = f'<?xml version="1.0" encoding="{encoding}"?><!DOCTYPE annotations [<!ENTITY a0 "ha">{entities}]>'
    path = tmp_path / "annotations.xml"
    path.write_bytes(f"{text}<annotations>&a11;</annotations>".encode(encoding))
    with pytest.raises(DataError, match=r"annotations\.xml (has a document type|is no UTF-8 text)"):
        read_source("cvat", path)


def test_a_file_of_the_system_is_not_read(tmp_path):
    secret = write(tmp_path / "secret.txt", "hidden")
    text = f'<!DOCTYPE annotations [<!ENTITY x SYSTEM "file://{secret}">]><annotations><meta>&x;</meta></annotations>'
    with pytest.raises(DataError, match="has a document type"):
        read_source("cvat", write(tmp_path / "annotations.xml", text))


def test_another_xml_is_not_cvats(tmp_path):
    with pytest.raises(DataError, match="begins with <svg>, not <annotations>"):
        read_source("cvat", write(tmp_path / "a.xml", "<svg></svg>"))
    with pytest.raises(DataError, match="holds no CVAT file"):
        read_source("cvat", tmp_path)
