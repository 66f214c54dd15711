"""Pictures and masks are read as stored, and every damaged file gets one line that names it."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.core.types import VOID
from kerbseg.data.masks import check_sizes, color_mask, mask_of, read_ids, train_ids
from kerbseg.data.pairs import by_relative_stem, by_stem, pair_up
from kerbseg.data.pictures import read_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (24, 32, 3), np.uint8)


@pytest.mark.parametrize("suffix", ["png", "bmp", "tif", "ppm"])
def test_picture_is_read_as_rgb(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path)
    assert np.array_equal(read_rgb(path), PIXELS)


@pytest.mark.parametrize("mode", ["L", "RGBA", "P", "1", "CMYK"])
def test_picture_of_another_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(PIXELS).convert(mode).save(path)
    assert read_rgb(path).shape == (24, 32, 3)


def test_picture_is_turned_as_the_camera_noted(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = 6  # the camera was held upright
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), np.rot90(PIXELS, -1))


def test_picture_of_16_bits_is_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png has mode I;16.*save it with 8 bits"):
        read_rgb(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("read", [read_rgb, read_ids])
@pytest.mark.parametrize("suffix", ["png", "jpg", "webp", "bmp", "tif", "ppm"])
def test_truncated_file_is_named(tmp_path: Path, suffix: str, read: object) -> None:
    if (suffix, read) == ("jpg", read_ids):
        pytest.skip("no mask is a JPEG, whole or not")
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(PIXELS).save(path)
    whole = path.read_bytes()
    for size in (0, 1, 20, len(whole) // 2, len(whole) * 9 // 10):
        path.write_bytes(whole[:size])
        with pytest.raises(DataError, match=rf"a\.{suffix} cannot be read as a picture .*replace it"):
            read(path)  # type: ignore[operator]


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_damaged_bytes_never_escape_as_another_error(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    for suffix in ("png", "jpg", "tif"):
        path = tmp_path / f"a.{suffix}"
        Image.fromarray(PIXELS).save(path)
        whole = np.frombuffer(path.read_bytes(), np.uint8)
        for _ in range(60):
            broken = whole.copy()
            broken[generator.integers(0, min(200, len(whole)), 3)] = generator.integers(0, 256, 3)
            path.write_bytes(broken.tobytes())
            with suppress(DataError):
                read_rgb(path)


def test_file_that_is_no_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_text("<html>not found</html>")
    with pytest.raises(DataError, match=r"a\.png cannot be read as a picture"):
        read_rgb(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"b\.png does not exist"):
        read_rgb(tmp_path / "b.png")


@pytest.mark.parametrize("mode", ["L", "P"])
def test_mask_keeps_stored_ids(tmp_path: Path, mode: str) -> None:
    ids = PIXELS[..., 0] % 12
    image = Image.fromarray(ids)
    if mode == "P":
        image.putpalette(PIXELS.reshape(-1)[:768].tobytes())
    image.save(tmp_path / "a.png")
    assert np.array_equal(read_ids(tmp_path / "a.png"), ids)


def test_mask_of_16_bits_is_read_where_its_ids_fit(tmp_path: Path) -> None:
    Image.fromarray(np.full((4, 4), 7, np.uint16)).save(tmp_path / "a.png")
    assert (read_ids(tmp_path / "a.png") == 7).all()
    Image.fromarray(np.full((4, 4), 1000, np.uint16)).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png holds ids 1000\.\.1000; ids are 0\.\.255"):
        read_ids(tmp_path / "a.png")


def test_mask_of_colours_is_refused_with_the_remedy(tmp_path: Path) -> None:
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png has mode RGB, not one id a pixel; save it as 8-bit gray"):
        read_ids(tmp_path / "a.png")


def test_unknown_ids_are_told_with_place_and_number() -> None:
    ids = np.zeros((6, 8), np.uint8)
    ids[2, 3], ids[4, 1:3] = 40, 99
    mask = mask_of(ids, label_set("camvid"))
    assert [(u.value, u.pixels, u.row, u.column) for u in mask.unknown] == [("40", 1, 2, 3), ("99", 2, 4, 1)]
    assert (mask.ids == VOID).sum() == 3
    with pytest.raises(DataError, match=r"m\.png: 3 pixels .* 'camvid' \(40 x1, 99 x2; the first at row 2, column 3\)"):
        train_ids(ids, label_set("camvid"), Path("m.png"))


def test_many_unknown_ids_still_make_one_line() -> None:
    with pytest.raises(DataError, match=r"and 236 more") as caught:
        train_ids(np.arange(256, dtype=np.uint8)[None], label_set("camvid"), Path("m.png"))
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400


def test_colours_become_ids_and_unknown_ones_are_told(tmp_path: Path) -> None:
    rgb = np.zeros((4, 5, 3), np.uint8)
    rgb[1], rgb[2], rgb[3, 4] = (10, 20, 30), (255, 255, 255), (1, 2, 3)
    Image.fromarray(rgb).save(tmp_path / "a.png")
    mask = color_mask(tmp_path / "a.png", {(10, 20, 30): 0, (255, 255, 255): 1, (0, 0, 0): VOID})
    assert mask.ids[:, 0].tolist() == [VOID, 0, 1, VOID]
    assert [(u.value, u.pixels, u.row, u.column) for u in mask.unknown] == [("(1, 2, 3)", 1, 3, 4)]


def test_sizes_that_differ_name_both_files() -> None:
    with pytest.raises(DataError, match=r"mask m\.png is 6x8 but picture p\.png is 7x8 \(HxW\); save both at one size"):
        check_sizes(np.zeros((7, 8, 3)), np.zeros((6, 8)), Path("p.png"), Path("m.png"))


@pytest.mark.parametrize(("lone", "missing"), [("picture", "mask"), ("mask", "picture")])
def test_file_without_partner_is_named(lone: str, missing: str) -> None:
    more, fewer = {"a": Path("a.png"), "b": Path("b.png"), "c": Path("c.png")}, {"a": Path("a.png")}
    listing = pair_up(Path("here"), *((more, fewer) if lone == "picture" else (fewer, more)))
    assert [pair.name for pair in listing.pairs] == ["a"]
    expected = rf"here: 2 {lone}\(s\) without {missing}, the first is b\.png; add the {missing} or remove the {lone}"
    with pytest.raises(DataError, match=expected):
        listing.check()


def test_empty_listing_is_refused() -> None:
    with pytest.raises(DataError, match="here holds no pictures"):
        pair_up(Path("here"), {}, {}).check()


def test_only_pictures_are_listed(tmp_path: Path) -> None:
    for name in ("a.PNG", "b.jpg", "._a.png", "Thumbs.db", "notes.txt", "in/c.webp"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert sorted(by_stem(tmp_path)) == ["a", "b"]
    assert sorted(by_relative_stem(tmp_path)) == ["a", "b", "in/c"]


@pytest.mark.parametrize("listing", [by_stem, by_relative_stem])
def test_stem_that_stands_twice_is_refused(tmp_path: Path, listing: object) -> None:
    (tmp_path / "a.png").touch()
    (tmp_path / "a.jpg").touch()
    with pytest.raises(DataError, match=r"a\.png and .*a\.jpg share a stem; keep one"):
        listing(tmp_path)  # type: ignore[operator]
