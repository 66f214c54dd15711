"""What claims to be a picture is decoded within bounds or refused in one line; no foreign program, no waiting."""

import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import EpsImagePlugin, Image

from kerbseg.core.errors import DataError, InputError
from kerbseg.data.pictures import read_rgb
from kerbseg.predict.sources.arrays import as_rgb

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 4, 3), np.uint8)
EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"


def chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def gray_png(width: int, height: int) -> bytes:
    """A black picture of one bit a pixel: a few kilobytes, however many pixels."""
    rows = zlib.compress(bytes(1 + -(-width // 8)) * height, 9)
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("suffix", ["png", "jpg", "gif", "tiff"])
def test_postscript_starts_no_program(tmp_path: Path, suffix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    path = tmp_path / f"a.{suffix}"
    path.write_bytes(EPS)
    with pytest.raises(DataError, match=rf"a\.{suffix} cannot be read as a picture \(it is none of PNG, JPEG"):
        read_rgb(path)


def test_postscript_that_a_caller_opened_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", lambda *_, **__: pytest.fail("Ghostscript was started"))
    (tmp_path / "a.eps").write_bytes(EPS)
    with Image.open(tmp_path / "a.eps") as picture, pytest.raises(InputError, match=r"PostScript.*save it as PNG"):
        as_rgb(picture)


@pytest.mark.parametrize(("width", "height"), [(9400, 9400), (2**26 + 1, 1), (20_000, 20_000)])
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_small_file_of_many_pixels_is_refused_before_it_is_decoded(tmp_path: Path, width: int, height: int) -> None:
    whole = gray_png(width, height)
    (tmp_path / "a.png").write_bytes(whole)
    with pytest.raises(DataError, match=r"a\.png (is \d+x\d+, .* at most 67 million|cannot be read .*bomb)") as caught:
        read_rgb(tmp_path / "a.png")
    assert len(str(caught.value)) < 400


def test_large_picture_is_read_in_bands_as_it_would_be_at_once(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (700, 2100), np.uint8)  # 1.5 million pixels
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.png", exif=exif)
    assert np.array_equal(read_rgb(tmp_path / "a.png"), np.rot90(pixels, -1)[..., None].repeat(3, -1))


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("suffix", ["png", "tiff"])
def test_every_orientation_is_turned_as_pillow_turns_it(tmp_path: Path, orientation: int, suffix: str) -> None:
    from PIL import ImageOps

    image = Image.fromarray(PIXELS)
    exif = image.getexif()
    exif[0x0112] = orientation
    image.save(tmp_path / f"a.{suffix}", exif=exif)
    with Image.open(tmp_path / f"a.{suffix}") as expected:
        upright = np.array(ImageOps.exif_transpose(expected))
    assert np.array_equal(read_rgb(tmp_path / f"a.{suffix}"), upright)
    with Image.open(tmp_path / f"a.{suffix}") as picture:
        assert np.array_equal(as_rgb(picture), upright)


def odd_exif(kind: str) -> bytes:
    """EXIF of the orientation 6 with a tag beside it that breaks the standard."""
    tag, content = {
        "text for a number": ((0x0100, 2, 4, b"abc\0"), b""),
        "a zero below a fraction": ((0x011A, 5, 1, struct.pack("<I", 38)), struct.pack("<II", 72, 0)),
        "a long number too short": ((0x0101, 4, 1, b"\1\0\0\0"), b""),
        "content beyond the end": ((0x010E, 2, 9999, struct.pack("<I", 5000)), b""),
        "an unknown type": ((0x9999, 77, 1, b"\0\0\0\0"), b""),
    }[kind]
    entries = sorted([tag, (0x0112, 3, 1, struct.pack("<HH", 6, 0))])
    body = b"".join(struct.pack("<HHI", *entry[:3]) + entry[3] for entry in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + body + struct.pack("<I", 0) + content


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize(
    "kind",
    [
        "text for a number",
        "a zero below a fraction",
        "a long number too short",
        "content beyond the end",
        "an unknown type",
    ],
)
def test_odd_exif_makes_no_picture_bad(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, exif=odd_exif(kind))
    with Image.open(path) as image:
        stored = np.array(image)
    assert np.array_equal(read_rgb(path), np.rot90(stored, -1))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
def test_exif_that_is_rubbish_leaves_the_picture_as_it_is_stored(tmp_path: Path) -> None:
    path = tmp_path / "a.jpg"
    Image.fromarray(PIXELS).save(path, exif=b"Exif\0\0no exif at all")
    assert read_rgb(path).shape == PIXELS.shape


@pytest.mark.parametrize("mode", ["I;16", "I", "F", "LAB", "I;16B"])
@pytest.mark.parametrize("held", ["in a file", "by the caller"])
def test_one_check_of_modes_for_files_and_pictures(tmp_path: Path, mode: str, held: str) -> None:
    """What a file is refused for was clipped to white where a caller held it."""
    image = Image.new(mode, (4, 6))
    if held == "by the caller":
        with pytest.raises(InputError, match=f"has mode {mode}"):
            as_rgb(image)
    else:
        image.save(tmp_path / "a.tiff")
        with pytest.raises(DataError, match=r"a\.tiff has mode"):
            read_rgb(tmp_path / "a.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "PA", "RGB", "RGBA", "CMYK", "YCbCr", "HSV"])
def test_picture_of_the_caller_gives_the_pixels_of_its_file(tmp_path: Path, mode: str) -> None:
    image = Image.fromarray(PIXELS).convert("P" if mode == "PA" else mode).convert(mode)
    assert np.array_equal(as_rgb(image), np.asarray(image.convert("RGB")))
    if mode in ("1", "L", "P", "LA", "RGB", "RGBA"):
        image.save(tmp_path / "a.png")
        assert np.array_equal(read_rgb(tmp_path / "a.png"), as_rgb(image))


@pytest.mark.filterwarnings("error")
def test_transparency_is_left_out_without_a_warning(tmp_path: Path) -> None:
    image = Image.fromarray(PIXELS).convert("P")
    image.save(tmp_path / "a.png", transparency=bytes(range(256)))
    assert np.array_equal(read_rgb(tmp_path / "a.png"), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("suffix", ["jfif", "jpe", "pgm", "pnm", "pbm", "gif", "webp", "bmp", "tiff"])
def test_formats_are_known_by_their_suffix(tmp_path: Path, suffix: str) -> None:
    from kerbseg.data.pictures import SUFFIXES

    kind = {"jfif": "JPEG", "jpe": "JPEG", "pgm": "PPM", "pnm": "PPM", "pbm": "PPM"}.get(suffix)
    image = Image.new("1" if suffix == "pbm" else "L", (4, 6), 1)
    image.save(tmp_path / f"a.{suffix}", kind)
    assert f".{suffix}" in SUFFIXES
    assert read_rgb(tmp_path / f"a.{suffix}").shape == (6, 4, 3)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tiff"])
def test_more_than_one_picture_in_a_file_is_refused(tmp_path: Path, suffix: str) -> None:
    frames = [Image.fromarray(np.roll(PIXELS, i)) for i in range(3)]
    frames[0].save(tmp_path / f"a.{suffix}", save_all=True, append_images=frames[1:])
    with pytest.raises(DataError, match=r"holds more than one picture.*save each as a file of its own"):
        read_rgb(tmp_path / f"a.{suffix}")


def test_what_is_no_file_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "loop.png").symlink_to("loop.png")
    (tmp_path / "lost.png").symlink_to("nowhere.png")
    with socket.socket(socket.AF_UNIX) as plug:
        monkeypatch.chdir(tmp_path)  # a socket's address is short
        plug.bind("plug.png")
        for name, told in {
            "pipe.png": "is a named pipe, no picture file",
            "plug.png": "is a socket, no picture file",
            "folder.png": "is a folder, no picture file",
            "loop.png": "cannot be opened: .*links",
            "lost.png": "does not exist",
        }.items():
            with pytest.raises(DataError, match=rf"{name} {told}"):
                read_rgb(tmp_path / name)
    with pytest.raises(DataError, match="/dev/zero is a device, no picture file"):
        read_rgb(Path("/dev/zero"))


def test_picture_without_pixels_is_refused() -> None:
    with pytest.raises(InputError, match="is 0x5: it has no pixels"):
        as_rgb(Image.new("RGB", (0, 5)))


def test_no_other_place_opens_pictures() -> None:
    """`Image.open` without a list of formats hands PostScript to Ghostscript, whatever a file is called."""
    import kerbseg

    package = Path(kerbseg.__file__).parent
    opening = {
        path.relative_to(package).as_posix() for path in package.rglob("*.py") if "Image.open(" in path.read_text()
    }
    opening.remove("data/corruption_kinds.py")  # bytes that it has just written, as the one format that they are
    assert opening == {"data/pictures.py"}
