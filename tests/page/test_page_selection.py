"""What was given to the page, in whichever order it came."""

import pytest
from PIL import Image

from kerbseg.core.errors import KerbsegError
from kerbseg.page.looking import Given
from kerbseg.page.selection import Selection


@pytest.fixture
def files(tmp_path):
    """Pictures a to c, and masks of a and b in a folder beside."""
    (tmp_path / "masks").mkdir()
    for name in "abc":
        Image.new("RGB", (3, 2)).save(tmp_path / f"{name}.png")
    for name in "ab":
        Image.new("L", (3, 2)).save(tmp_path / "masks" / f"{name}.png")
    return [tmp_path / f"{name}.png" for name in "abc"], [tmp_path / "masks" / f"{name}.png" for name in "ab"]


def test_masks_find_their_pictures_whichever_came_first(files):
    pictures, masks = files
    expected = [Given(pictures[0], masks[0]), Given(pictures[1], masks[1]), Given(pictures[2])]
    assert Selection().with_masks(masks).with_pictures(pictures).given == expected
    assert Selection().with_pictures(pictures).with_masks(masks).given == expected


def test_masks_that_come_later_leave_the_picture_that_is_looked_at(files):
    pictures, masks = files
    selection = Selection().with_pictures(pictures).at(1)
    assert selection.current == Given(pictures[1])
    assert selection.with_masks(masks).current == Given(pictures[1], masks[1])
    assert selection.with_pictures(pictures[::-1]).current == Given(pictures[0])


def test_after_the_last_comes_the_first(files):
    selection = Selection().with_pictures(files[0])
    assert [selection.at(number).current.name for number in (-1, 0, 2, 3)] == ["c.png", "a.png", "c.png", "a.png"]
    assert Selection().at(1).current is None


def test_files_of_which_none_is_a_picture_are_refused(tmp_path):
    notes = [tmp_path / "a.txt", tmp_path / "b.txt"]
    with pytest.raises(KerbsegError, match="no picture is among these files"):
        _ = Selection().with_pictures(notes).given


def test_pictures_of_one_name_are_told_apart(tmp_path):
    assert Given(tmp_path / "a" / "street.png").key != Given(tmp_path / "b" / "street.png").key
