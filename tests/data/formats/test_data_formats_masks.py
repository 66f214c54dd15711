"""Masks of public data sets are read by what their values mean there; a value without a meaning is named."""

from pathlib import Path

import numpy as np
import pytest
from outlines import DOOR, HOUSE, inside, left_out, masks, painted, picture, write
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.data.formats import FORMATS, read_source, recognize
from kerbseg.data.formats.voc import CLASSES as VOC
from kerbseg.data.formats.voc import voc_color

SHAPE = painted([(inside(HOUSE), 1), (inside(DOOR), 2)])  # values 0, 1, 2 by place


def mask(path: Path, values, palette: bool = False) -> Path:
    """Writes a mask that holds values[0] around, values[1] in the house and values[2] in its door."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(np.array(values, np.uint8)[SHAPE])
    if palette:
        image.putpalette(np.array([voc_color(i) for i in range(256)], np.uint8).tobytes())
    image.save(path)
    return path


def read(format, root, **classes):
    """The one mask of a folder, with classes by the values that are given, VOID where none is."""
    source = read_source(format, root)
    (entry,) = source.entries
    return entry.marks.mask(SHAPE.shape, {each.name: classes.get(each.name, VOID) for each in source.classes})


def voc(root, values, palette=True):
    picture(root / "VOC2012" / "JPEGImages" / "a.jpg")
    picture(root / "VOC2012" / "JPEGImages" / "without_mask.jpg")
    mask(root / "VOC2012" / "SegmentationClass" / "a.png", values, palette)
    return root / "VOC2012"


def mapillary(root, values):
    picture(root / "training" / "images" / "a.jpg")
    mask(root / "training" / "v2.0" / "labels" / "a.png", values, palette=True)
    labels = [("road", True), ("car", True), ("void--unlabeled", False)]
    rows = [{"name": name, "color": [i, 9, 9], "evaluate": on, "readable": "x"} for i, (name, on) in enumerate(labels)]
    write(root / "config_v2.0.json", {"version": "2.0", "labels": rows})


def bdd100k(root, values):
    picture(root / "images" / "10k" / "train" / "a.jpg")
    mask(root / "labels" / "sem_seg" / "masks" / "train" / "a.png", values)


def old_bdd100k(root, values):
    picture(root / "images" / "train" / "a.jpg")
    mask(root / "labels" / "train" / "a_train_id.png", values)


def kitti(root, values):
    picture(root / "training" / "image_2" / "a.png")
    mask(root / "training" / "semantic" / "a.png", values)


def ade20k(root, values):
    picture(root / "images" / "training" / "a.jpg")
    mask(root / "annotations" / "training" / "a.png", values)


def idd(root, objects):
    picture(root / "leftImg8bit" / "train" / "12" / "0001_leftImg8bit.png")
    content = {"imgHeight": SHAPE.shape[0], "imgWidth": SHAPE.shape[1], "objects": objects}
    write(root / "gtFine" / "train" / "12" / "0001_gtFine_polygons.json", content)


MADE = {
    "voc": (voc, (7, 15, 255), {"car": 3, "person": 4}, (3, 4, VOID)),
    "mapillary": (mapillary, (0, 1, 2), {"road": 3, "car": 4}, (3, 4, VOID)),
    "bdd100k": (bdd100k, (0, 13, 255), {"road": 3, "car": 4}, (3, 4, VOID)),
    "bdd100k (older)": (old_bdd100k, (0, 13, 255), {"road": 3, "car": 4}, (3, 4, VOID)),
    "kitti": (kitti, (7, 26, 4), {"road": 3, "car": 4}, (3, 4, VOID)),
    "ade20k": (ade20k, (1, 150, 0), {"1": 3, "150": 4}, (3, 4, VOID)),
}


@pytest.mark.parametrize("case", MADE)
def test_values_have_the_meaning_of_their_data_set(tmp_path, case):
    make, values, classes, expected = MADE[case]
    make(tmp_path, values)
    assert recognize(tmp_path) == (case.split()[0],)
    assert (read(case.split()[0], tmp_path, **classes) == np.array(expected, np.uint8)[SHAPE]).all()


@pytest.mark.parametrize("case", MADE)
def test_a_value_without_a_meaning_is_named(tmp_path, case):
    make, values, _, _ = MADE[case]
    make(tmp_path, (values[0], values[1], 199))
    with pytest.raises(
        DataError, match=r"\.png: \d+ pixels hold values outside .*\(199 x\d+; the first at row 15, column 12"
    ):
        read(case.split()[0], tmp_path)


@pytest.mark.parametrize("case", MADE)
def test_a_mask_without_a_picture_is_named(tmp_path, case):
    make, values, _, _ = MADE[case]
    make(tmp_path, values)
    for path in [*tmp_path.rglob("a.jpg"), *tmp_path.rglob("image_2/a.png")]:
        path.unlink()
    with pytest.raises(DataError, match=r"mask .*a(_train_id)?\.png has no picture"):
        read_source(case.split()[0], tmp_path)


def test_a_mask_of_another_size_is_named(tmp_path):
    voc(tmp_path, (0, 1, 2))
    (entry,) = read_source("voc", tmp_path).entries
    with pytest.raises(DataError, match=r"a\.png is 30x40 but its picture is 30x50 \(HxW\)"):
        entry.marks.mask((30, 50), dict.fromkeys(VOC, 0))


def test_vocs_colors_are_those_of_its_palette(tmp_path):
    assert [voc_color(each) for each in (0, 1, 2, 15, 20, 255)] == [
        (0, 0, 0),
        (128, 0, 0),
        (0, 128, 0),
        (192, 128, 128),
        (0, 64, 128),
        (224, 224, 192),
    ]
    root = voc(tmp_path, (7, 15, 255))
    path = root / "SegmentationClass" / "a.png"
    with Image.open(path) as image:
        rgb = image.convert("RGB")
    rgb.save(path)  # the same in colors
    assert (read("voc", tmp_path, car=3, person=4) == np.array([3, 4, VOID], np.uint8)[SHAPE]).all()


def test_vocs_lists_are_its_splits(tmp_path):
    root = voc(tmp_path, (0, 1, 2))
    for name in ("b", "c"):
        picture(root / "JPEGImages" / f"{name}.jpg")
        mask(root / "SegmentationClass" / f"{name}.png", (0, 1, 2))
    for split, names in (("train", "a\n"), ("val", "c\n"), ("trainval", "a\nc\n")):
        write(root / "ImageSets" / "Segmentation" / f"{split}.txt", names)
    entries = read_source("voc", tmp_path).entries
    assert [(each.picture.name, each.split) for each in entries] == [("a.jpg", "train"), ("c.jpg", "val")]
    write(root / "ImageSets" / "Segmentation" / "val.txt", "d\n")
    with pytest.raises(DataError, match=r"d\.png does not exist, but ImageSets"):
        read_source("voc", tmp_path)


def test_a_labelmap_says_what_colors_mean(tmp_path):
    root = voc(tmp_path, (0, 1, 2))
    colors = np.array([(0, 0, 0), (10, 20, 30), (40, 50, 60)], np.uint8)
    Image.fromarray(colors[SHAPE]).save(root / "SegmentationClass" / "a.png")
    write(root / "labelmap.txt", "# label:color_rgb:parts:actions\nbackground:0,0,0::\nroad:10,20,30::\ncar:40,50,60::")
    assert (masks("voc", tmp_path, ["background", "road", "car"])["VOC2012/JPEGImages/a"] == SHAPE).all()
    write(root / "labelmap.txt", "background:0,0,0::\nroad:10,20,30::\nignored:40,50,60::")
    expected = np.array([0, 1, VOID], np.uint8)[SHAPE]
    assert (masks("voc", tmp_path, ["background", "road"])["VOC2012/JPEGImages/a"] == expected).all()
    write(root / "labelmap.txt", "background:0,0,0::\nroad:10,20,30::\n")
    with pytest.raises(DataError, match=r"a\.png: .*\(40, 50, 60\) x\d+; the first at row"):
        masks("voc", tmp_path, ["background", "road"])
    for line, says in (("road", "is not name:r,g,b"), ("x:1,2::", "is not name"), ("x:0,0,0::", "stands twice")):
        write(root / "labelmap.txt", f"background:0,0,0::\n{line}\n")
        with pytest.raises(DataError, match=rf"labelmap\.txt.*{says}"):
            read_source("voc", tmp_path)


def test_labelmes_names_of_voc_masks(tmp_path):
    root = voc(tmp_path, (0, 1, 2))
    write(root / "class_names.txt", "__ignore__\n_background_\nroad\ncar\n")
    assert (masks("voc", tmp_path, ["background", "road", "car"])["VOC2012/JPEGImages/a"] == SHAPE).all()


def test_ade20ks_names(tmp_path):
    ade20k(tmp_path, (0, 2, 3))
    rows = ["Idx\tRatio\tTrain\tVal\tStuff\tName"]
    rows += [f"{i}\t0.1\t9\t9\t1\t{name}" for i, name in enumerate(("wall", "road, route", "screen", "screen"), 1)]
    write(tmp_path / "objectInfo150.txt", "\n".join(rows))
    names = [each.name for each in read_source("ade20k", tmp_path).classes]
    assert names[:5] == ["wall", "road", "screen (3)", "screen (4)", "5"]
    assert (read("ade20k", tmp_path, road=1, **{"screen (3)": 2}) == np.array([VOID, 1, 2], np.uint8)[SHAPE]).all()
    write(tmp_path / "objectInfo150.txt", "head\nwall")
    with pytest.raises(DataError, match=r"objectInfo150\.txt:2: 'wall' is not"):
        read_source("ade20k", tmp_path)


def test_idds_polygons_lie_as_listed(tmp_path):
    objects = [
        {"label": "road", "polygon": HOUSE},
        {"label": "cargroup", "polygon": DOOR},
        {"label": "car", "polygon": HOUSE, "deleted": 1},
        {"label": "polegroup", "polygon": [[30, 1], [33, 1], [33, 9], [30, 9]]},
        {"label": "out of roi", "polygon": [[35, 1], [38, 1], [38, 9], [35, 9]]},
        {"label": "car", "polygon": [[1, 1], [2, 2]]},
    ]
    idd(tmp_path, objects)
    assert recognize(tmp_path) == ("idd",)
    expected = np.full(SHAPE.shape, VOID, np.uint8)
    expected[inside(HOUSE)] = 2
    expected[inside(DOOR)] = 0
    expected[1:9, 30:33] = 1
    made = masks("idd", tmp_path, ["car", "polegroup", "road"])
    assert (made["12/0001"] == expected).all()
    assert left_out("idd", tmp_path) == {"polygons of fewer than three points": 1}
    assert read_source("idd", tmp_path).entries[0].split == "train"
    (tmp_path / "leftImg8bit" / "train" / "12" / "0001_leftImg8bit.png").unlink()
    with pytest.raises(DataError, match=r"0001_gtFine_polygons\.json: its picture .* does not exist"):
        read_source("idd", tmp_path)


def test_mapillarys_other_layouts(tmp_path):
    mapillary(tmp_path, (0, 1, 2))
    (tmp_path / "training" / "v2.0").rename(tmp_path / "training" / "v1.2")
    (tmp_path / "config_v2.0.json").rename(tmp_path / "config_v1.2.json")
    assert read_source("mapillary", tmp_path).notes == ("labels are those of v1.2/labels",)
    (tmp_path / "config_v1.2.json").unlink()
    with pytest.raises(DataError, match="holds no Mapillary Vistas"):
        FORMATS["mapillary"].read(tmp_path)


def test_kitti_has_cityscapes_classes(tmp_path):
    kitti(tmp_path, (7, 26, 4))
    classes = read_source("kitti", tmp_path).classes
    assert [(each.name, each.color) for each in classes] == list(
        zip(label_set("cityscapes").classes, label_set("cityscapes").colors, strict=True)
    )


@pytest.mark.parametrize("name", FORMATS)
def test_a_folder_of_nothing_is_of_no_format(tmp_path, name):
    assert recognize(tmp_path) == ()
    with pytest.raises(DataError, match=str(tmp_path)):
        read_source(name, tmp_path)
    with pytest.raises(DataError, match="none"):
        read_source(name, tmp_path / "none")
