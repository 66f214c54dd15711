"""A map joins classes, leaves out others, and every slip in it is named."""

from pathlib import Path

import pytest

from kerbseg.core.errors import DataError
from kerbseg.core.types import VOID
from kerbseg.data.class_map import Mapped, map_classes
from kerbseg.data.formats.source import SourceClass

THEIRS = [
    SourceClass("background"),
    SourceClass("car", (1, 2, 3)),
    SourceClass("truck", (4, 5, 6)),
    SourceClass("road", (7, 8, 9)),
    SourceClass("unlabeled", void=True),
]


def mapped(tmp_path: Path, text: str, theirs: list[SourceClass] = THEIRS) -> Mapped:
    path = tmp_path / "map.yaml"
    path.write_text(text)
    return map_classes(theirs, "streets", path)


def test_without_a_map_classes_stay() -> None:
    made = map_classes(THEIRS, "streets")
    assert made.labels.name == "streets"
    assert made.labels.classes == ("background", "car", "truck", "road")
    assert made.labels.colors[1:] == ((1, 2, 3), (4, 5, 6), (7, 8, 9))
    assert made.train_ids == {"background": 0, "car": 1, "truck": 2, "road": 3, "unlabeled": VOID}


def test_several_become_one_in_the_order_of_the_map(tmp_path: Path) -> None:
    made = mapped(tmp_path, "road: road\ntruck: vehicle\ncar: vehicle\nbackground: ignore\nunlabeled: ignore\n")
    assert made.labels.classes == ("road", "vehicle")
    assert made.labels.colors == ((7, 8, 9), (1, 2, 3))
    assert made.train_ids == {"road": 0, "truck": 1, "car": 1, "background": VOID, "unlabeled": VOID}


def test_a_star_stands_for_all_others(tmp_path: Path) -> None:
    made = mapped(tmp_path, 'road: road\n"*": other\ncar: ignore\n')
    assert made.labels.classes == ("road", "other")
    assert made.train_ids == {"road": 0, "background": 1, "truck": 1, "unlabeled": VOID, "car": VOID}
    made = mapped(tmp_path, 'road: road\n"*": other\nunlabeled: other\n')
    assert made.train_ids["unlabeled"] == 1, "named, it counts"


def test_ids_may_be_mapped_by_number(tmp_path: Path) -> None:
    made = mapped(tmp_path, "1: road\n2: car\n", [SourceClass("1"), SourceClass("2")])
    assert made.train_ids == {"1": 0, "2": 1}


def test_a_color_that_two_have_is_given_once() -> None:
    made = map_classes([SourceClass("a", (1, 1, 1)), SourceClass("b", (1, 1, 1))], "x")
    assert len(set(made.labels.colors)) == 2


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("caar: vehicle\nroad: road\n'*': ignore", r"'caar' is no class of the source; did you mean 'car'\?"),
        ("car: vehicle\nroad: road", r"says nothing of class 'background'; add background: ignore, or \"\*\": ignore"),
        ("", "must hold lines such as car: vehicle"),
        ("- car", "must hold lines such as car: vehicle"),
        ("car: [a, b]", r"car must become a class or ignore, found \['a', 'b'\]"),
        ("car:", "car must become a class or ignore, found None"),
        ("car: no", "car must become a class or ignore, found False; put it in quotes"),
        ("no: car", "False is no class; put it in quotes"),
        ("car: a\ncar: b", "stands twice"),
        ("'*': ignore", "names no class; two or more are needed"),
        ("road: road\n'*': ignore", "names only class 'road'; two or more are needed"),
        ("road: road\n'*': ignore\ncar: ''", "car must become a class or ignore, found ''"),
        ("road: road\n'*': \"a\\eb\"", "which cannot be shown"),
    ],
)
def test_a_slip_is_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(DataError, match=rf"map\.yaml.*{says}"):
        mapped(tmp_path, text)


def test_too_many_classes_are_joined_by_a_map(tmp_path: Path) -> None:
    many = [SourceClass(f"c{i}") for i in range(300)]
    with pytest.raises(DataError, match=r"the source has 300 classes, at most 255 fit; join some with a map \(--map"):
        map_classes(many, "x")
    assert len(mapped(tmp_path, "c7: one\n'*': rest", many).labels) == 2


def test_a_map_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.yaml"):
        map_classes(THEIRS, "x", tmp_path / "none.yaml")
