"""The page in a real browser: what is given comes back as pixels, text and files; nothing is asked of the internet."""

import numpy as np
import pytest
from browsing import CHROMIUM, chromium, downloaded, give, page_at, shown
from PIL import Image

from kerbseg.core.display import display_palette
from kerbseg.core.errors import DataError
from kerbseg.core.labels import label_set
from kerbseg.data import open_dataset
from kerbseg.data.pictures import read_rgb
from kerbseg.page.corrections import Corrections
from kerbseg.page.looking import Models
from kerbseg.predict import Predictor
from made_models import Made

pytest.importorskip("playwright.sync_api", reason="playwright is not installed (extra test)")
pytest.importorskip("gradio", reason="gradio is not installed (extra app)")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here"),
]

from kerbseg.page.serving import served  # noqa: E402

LABELS = label_set("camvid")


@pytest.fixture(scope="module")
def browser():
    with chromium() as opened:
        yield opened


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a picture that is bright on the left, its mask, a broken file and a video; corrections go there."""
    folder = tmp_path_factory.mktemp("page")
    pixels = np.full((80, 120, 3), 40, np.uint8)
    pixels[:, :60] = 220
    Image.fromarray(pixels).save(folder / "street.png")
    ids = np.zeros((80, 120), np.uint8)
    ids[:, :50] = 1
    Image.fromarray(ids).save(folder / "labels.png")
    (folder / "broken.png").write_bytes(b"no picture")
    return folder


@pytest.fixture(scope="module")
def address(place):
    """The page of two models: one sees building where it is bright, the other everywhere."""
    bright = Made(lambda picture: (picture[..., 1] > 127).astype(np.uint8))
    everywhere = Made(lambda picture: np.ones(picture.shape[:2], np.uint8))
    models = Models(["bright", "everywhere"], [Predictor(bright), Predictor(everywhere)])
    with served(models, Corrections(place / "fixes", LABELS)) as at:
        yield at


@pytest.fixture
def page(browser, address):
    with page_at(browser, address) as opened:
        yield opened


def test_a_picture_comes_back_painted_with_its_shares_and_ids(page, place, tmp_path):
    give(page, place / "street.png")
    _, pixels = shown(page)
    colors = display_palette(LABELS).astype(int)
    assert np.abs(pixels[70, 10] - (220 + colors[1]) / 2).max() <= 2
    assert np.abs(pixels[70, 110] - (40 + colors[0]) / 2).max() <= 2
    assert "50.0 %" in page.inner_text("#shares")
    assert "the models agree on 50.0 % of the pixels" in page.inner_text("#said")
    ids = downloaded(page, "#ids-0", tmp_path)
    assert ids.name == "street_ids.png"
    assert (np.asarray(Image.open(ids)) == (np.arange(120) < 60)).all()
    view = downloaded(page, "#file-0", tmp_path)
    assert view.name == "street_overlay.png"
    assert (np.asarray(Image.open(view)) == pixels).all()


def test_switches_and_the_slider_change_the_pixels(page, place):
    give(page, place / "street.png")
    before, _ = shown(page)
    page.click("#switches .wrap label:has-text('building')")
    source, pixels = shown(page, unlike=before)
    assert (pixels[70, 10] == 220).all(), "as in the picture"
    assert (pixels[70, 110] != 40).any()
    page.fill("#opacity input[type=number]", "0")
    page.press("#opacity input[type=number]", "Enter")
    page.dispatch_event("#opacity input[type=number]", "pointerup")
    _, pixels = shown(page, unlike=source)
    assert np.abs(pixels[70, 110].astype(int) - 40).max() <= 1


def test_two_models_stand_side_by_side(page, place):
    give(page, place / "street.png")
    before, one = shown(page, 0)
    _, other = shown(page, 1)
    assert (one[:, :50] == other[:, :50]).all()
    assert (one[:, 70:] != other[:, 70:]).any(2).mean() > 0.9
    page.click("#view label:has-text('Differences')")
    _, pixels = shown(page, 0, unlike=before)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 80)
    assert red[:, 60:].all()
    assert not red[:, :60].any()


def test_with_a_mask_errors_are_shown(page, place):
    give(page, place / "street.png", place / "labels.png")
    before, _ = shown(page)
    page.click("#view label:has-text('Errors')")
    _, pixels = shown(page, unlike=before)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 80)
    assert red.sum() == 80 * 10
    assert "bright: 91.7 % of the pixels right" in page.inner_text("#said")


def test_a_bad_picture_is_the_line_of_the_command_and_nothing_is_left_of_the_one_before(page, place):
    give(page, place / "street.png")
    page.set_input_files("#pictures input[type=file]", place / "broken.png")
    alert = page.wait_for_selector("#said [role=alert]")
    with pytest.raises(DataError) as expected:
        read_rgb(place / "broken.png")
    assert alert.inner_text() == str(expected.value).replace(str(place / "broken.png"), "broken.png")
    page.wait_for_selector("#shown-0 img", state="detached")


def test_a_folder_is_gone_through_picture_by_picture(page, place, tmp_path):
    for name, value in (("a", 220), ("b", 40)):
        Image.fromarray(np.full((80, 120, 3), value, np.uint8)).save(tmp_path / f"{name}.png")
    (tmp_path / "notes.txt").write_text("no picture")
    with page.expect_file_chooser() as asked:
        page.click("#folder")
    asked.value.set_files(tmp_path)
    page.wait_for_selector("#notes >> text=left out 1 of 3 files that are no pictures")
    page.wait_for_selector("#said >> text=a.png: 80x120 (HxW)")
    page.click("#next")
    page.wait_for_selector("#said >> text=b.png: 80x120 (HxW)")
    page.click("#next")
    page.wait_for_selector("#said >> text=a.png: 80x120 (HxW)")


def test_labels_are_corrected_by_brush_and_saved_as_training_data(page, place):
    give(page, place / "street.png")
    page.click("#correct button:has-text('Correct the labels')")
    page.click("#class input")
    page.click("ul[role=listbox] >> text=car")
    picture = page.wait_for_selector("#brush img")
    picture.scroll_into_view_if_needed()
    box = picture.bounding_box()
    page.mouse.move(box["x"] + box["width"] * 0.25, box["y"] + box["height"] * 0.5)
    page.mouse.down()
    page.mouse.move(box["x"] + box["width"] * 0.75, box["y"] + box["height"] * 0.5, steps=4)
    page.mouse.up()
    page.wait_for_selector("#saved >> text=are not as predicted")
    page.click("#save")
    page.wait_for_selector("#saved >> text=kerbseg train own --data")
    dataset = open_dataset("folder", "train", place / "fixes")
    sample, car = dataset[0], LABELS.classes.index("car")
    assert (sample.image == np.asarray(Image.open(place / "street.png"))).all()
    assert (sample.mask[40, 32:88] == car).all()
    assert (sample.mask[10] == (np.arange(120) < 60)).all(), "elsewhere as predicted"
    assert (sample.mask == car).sum() == pytest.approx(60 * 24 + np.pi * 12**2, rel=0.1)

    page.click("#save")
    page.wait_for_selector("text=is there already; tick Replace to write it anew")
    page.click("#undo")
    page.wait_for_selector("#saved >> text=0 pixels are not as predicted")
    page.check("#replace input")
    page.click("#save")
    page.wait_for_selector("#saved >> text=kerbseg train own --data")
    assert (open_dataset("folder", "train", place / "fixes")[0].mask == (np.arange(120) < 60)).all()


def test_a_video_comes_back_with_its_classes_painted(page, place, tmp_path):
    av = pytest.importorskip("av", reason="PyAV is not installed")
    with av.open(str(place / "drive.mp4"), "w") as file:
        stream = file.add_stream("libx264", rate=5)
        stream.height, stream.width, stream.pix_fmt = 80, 120, "yuv420p"
        for _ in range(5):
            pixels = np.asarray(Image.open(place / "street.png"))
            file.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        file.mux(stream.encode(None))
    page.click("button[role=tab]:has-text('Video')")
    page.set_input_files("#video input[type=file]", place / "drive.mp4")
    page.wait_for_selector("#video >> text=drive.mp4")
    page.click("#start")
    page.wait_for_selector("#film-said >> text=5 frames")
    source = page.get_attribute("#film video", "src")
    body = page.request.get(source).body()
    (tmp_path / "overlay.mp4").write_bytes(body)
    with av.open(str(tmp_path / "overlay.mp4")) as film:
        frames = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(frames) == 5
    expected = (220 + display_palette(LABELS)[1].astype(int)) / 2
    assert np.abs(frames[2][70, 10] - expected).max() < 25


def test_a_camera_is_painted_as_it_comes(page):
    page.click("button[role=tab]:has-text('Camera')")
    page.click("#camera button:has-text('Click to Access Webcam')")
    page.click("#camera .button-wrap button >> nth=0")
    page.wait_for_selector("#live img")


@pytest.mark.parametrize("width", [390, 1280])
def test_nothing_is_wider_than_the_screen(browser, address, place, width):
    with page_at(browser, address, width) as page:
        give(page, place / "street.png", place / "labels.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
