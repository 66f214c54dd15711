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
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
slow = pytest.mark.slow
"""Of all but those that walk the whole way: upload, result, toggle, compare, save."""

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


@slow
def test_with_a_mask_errors_are_shown(page, place):
    give(page, place / "street.png", place / "labels.png")
    before, _ = shown(page)
    page.click("#view label:has-text('Errors')")
    _, pixels = shown(page, unlike=before)
    red = (pixels[..., 0] > 200) & (pixels[..., 1] < 80)
    assert red.sum() == 80 * 10
    assert "bright: 91.7 % of the pixels right" in page.inner_text("#said")


@slow
def test_a_bad_picture_is_the_line_of_the_command_and_nothing_is_left_of_the_one_before(page, place):
    give(page, place / "street.png")
    page.set_input_files("#pictures input[type=file]", place / "broken.png")
    alert = page.wait_for_selector("#said [role=alert]")
    with pytest.raises(DataError) as expected:
        read_rgb(place / "broken.png")
    assert alert.inner_text() == str(expected.value).replace(str(place / "broken.png"), "broken.png")
    page.wait_for_selector("#shown-0 img", state="detached")


@slow
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


def open_brush(page):
    page.click("#correct button:has-text('Correct the labels')")
    picture = page.wait_for_selector("#brush img")
    picture.scroll_into_view_if_needed()
    return picture.bounding_box()


def touch(page, box, x, y):
    """Sets the brush down, and lifts it at once."""
    page.mouse.move(box["x"] + box["width"] * x, box["y"] + box["height"] * y)
    page.mouse.down()
    page.mouse.up()


@slow
def test_strokes_count_however_quickly_they_follow_and_are_in_what_is_saved(page, place, tmp_path):
    Image.open(place / "street.png").save(tmp_path / "zebra.png")  # the last of those that are saved
    give(page, tmp_path / "zebra.png")
    box = open_brush(page)
    page.click("#class input")
    page.click("ul[role=listbox] >> text=car")
    page.fill("#radius input[type=number]", "4")
    page.press("#radius input[type=number]", "Enter")
    box = page.query_selector("#brush img").bounding_box()
    middles = [(x, y) for y in (0.2, 0.5, 0.8) for x in (0.15, 0.35, 0.55, 0.75)]
    for x, y in middles:
        touch(page, box, x, y)
    page.click("#save")  # while strokes are still on their way
    page.wait_for_selector("#saved >> text=kerbseg train own --data")
    dataset, car = open_dataset("folder", "train", place / "fixes"), LABELS.classes.index("car")
    mask = dataset[len(dataset) - 1].mask
    assert [mask[int(80 * y), int(120 * x)] == car for x, y in middles] == [True] * 12
    page.wait_for_selector("#brush canvas", state="detached")


@slow
def test_a_stroke_that_changes_nothing_leaves_nothing_on_the_sheet(page, place):
    give(page, place / "street.png")
    box = open_brush(page)
    page.click("#class input")
    page.click("ul[role=listbox] >> text=as predicted")
    box = page.query_selector("#brush img").bounding_box()
    touch(page, box, 0.5, 0.5)
    page.wait_for_selector("#saved >> text=0 pixels are not as predicted")
    page.wait_for_selector("#brush canvas", state="detached")


@slow
def test_a_stroke_on_a_picture_that_was_left_paints_no_other(page, place, tmp_path):
    for name in "ab":
        Image.open(place / "street.png").save(tmp_path / f"{name}.png", compress_level=ord(name) % 9)
    page.set_input_files("#pictures input[type=file]", [tmp_path / "a.png", tmp_path / "b.png"])
    page.wait_for_selector("#said >> text=a.png: 80x120 (HxW)")
    box = open_brush(page)
    page.mouse.move(box["x"] + box["width"] * 0.5, box["y"] + box["height"] * 0.5)
    before = page.get_attribute("#brush .sheet", "data-of")
    page.mouse.down()
    page.dispatch_event("#next", "click")
    page.wait_for_selector("#said >> text=b.png: 80x120 (HxW)")
    page.wait_for_selector(f"#brush .sheet:not([data-of='{before}'])")
    page.mouse.up()
    page.wait_for_selector("text=another picture came while this was painted")
    assert "pixels are not as predicted" not in page.inner_text("#saved")


@slow
def test_next_is_counted_however_quickly_it_is_clicked(page, tmp_path):
    for number in range(7):
        Image.fromarray(np.full((8, 12, 3), 30 * number, np.uint8)).save(tmp_path / f"{number}.png")
    page.set_input_files("#pictures input[type=file]", sorted(tmp_path.glob("*.png")))
    page.wait_for_selector("#said >> text=0.png: 8x12 (HxW)")
    page.evaluate("for (let n = 0; n < 5; n++) document.querySelector('#next').click()")
    page.wait_for_selector("#said >> text=5.png: 8x12 (HxW)")
    page.wait_for_function("document.querySelector('#choice input').value === '5.png'")


@slow
def test_masks_that_come_later_leave_the_picture_that_is_looked_at(page, place, tmp_path):
    for name in "ab":
        Image.open(place / "street.png").save(tmp_path / f"{name}.png")
    (tmp_path / "masks").mkdir()
    Image.open(place / "labels.png").save(tmp_path / "masks" / "b.png")
    page.set_input_files("#pictures input[type=file]", [tmp_path / "a.png", tmp_path / "b.png"])
    page.wait_for_selector("#said >> text=a.png: 80x120 (HxW)")
    page.click("#next")
    page.wait_for_selector("#said >> text=b.png: 80x120 (HxW)")
    page.set_input_files("#masks input[type=file]", tmp_path / "masks" / "b.png")
    page.wait_for_selector("#said >> text=bright: 91.7 % of the pixels right")
    assert "b.png: 80x120" in page.inner_text("#said")


@slow
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


@slow
def test_a_camera_is_painted_as_it_comes(page):
    page.click("button[role=tab]:has-text('Camera')")
    page.click("#camera button:has-text('Click to Access Webcam')")
    page.click("#camera .button-wrap button >> nth=0")
    page.wait_for_selector("#live img")


@slow
def test_a_camera_that_runs_holds_up_no_picture_of_another_browser(browser, address, page, place):
    page.click("button[role=tab]:has-text('Camera')")
    page.click("#camera button:has-text('Click to Access Webcam')")
    page.click("#camera .button-wrap button >> nth=0")
    page.wait_for_selector("#live img")
    with page_at(browser, address) as other:
        give(other, place / "street.png")
        assert "50.0 %" in other.inner_text("#shares")
    first = page.get_attribute("#live img", "src")
    page.wait_for_selector(f'#live img:not([src="{first}"])')


@slow
def test_files_that_are_in_use_stay_however_old_they_are(browser, place, tmp_path, monkeypatch):
    """Gradio removes files that it has shown by their age; one second here, in place of an hour."""
    from kerbseg.page import blocks

    monkeypatch.setattr(blocks, "CLEARED", (1, 1))
    for name in "ab":
        Image.open(place / "street.png").save(tmp_path / f"{name}.png")
    models = Models(["bright"], [Predictor(Made(lambda picture: (picture[..., 1] > 127).astype(np.uint8)))])
    with served(models, Corrections(tmp_path / "fixes", LABELS)) as at, page_at(browser, at) as page:
        page.set_input_files("#pictures input[type=file]", [tmp_path / "a.png", tmp_path / "b.png"])
        page.wait_for_selector("#said >> text=a.png: 80x120 (HxW)")
        page.wait_for_timeout(4000)
        ids = downloaded(page, "#ids-0", tmp_path)
        assert (np.asarray(Image.open(ids)) == (np.arange(120) < 60)).all()
        page.click("#next")
        page.wait_for_selector("#said >> text=b.png: 80x120 (HxW)")
        page.click("#correct button:has-text('Correct the labels')")
        page.click("#save")
        page.wait_for_selector("#saved >> text=kerbseg train own --data")


@pytest.mark.parametrize("width", [390, 1280])
@slow
def test_nothing_is_wider_than_the_screen(browser, address, place, width):
    with page_at(browser, address, width) as page:
        give(page, place / "street.png", place / "labels.png")
        assert page.evaluate("document.documentElement.scrollWidth") <= width
