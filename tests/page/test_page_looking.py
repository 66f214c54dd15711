"""What the page of `kerbseg app` shows, without browser and gradio: the ids of `predict`, drawn and counted."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from kerbseg.core.display import display_palette
from kerbseg.core.errors import KerbsegError
from kerbseg.core.labels import LabelSet, label_set
from kerbseg.core.types import VOID
from kerbseg.page.classes import PageClasses
from kerbseg.page.figures import shares_table, summary, switch_colors
from kerbseg.page.looking import Given, Models, pair, read_mask
from kerbseg.page.views import VIEWS, Painting, views_of
from kerbseg.predict import Predictor
from kerbseg.predict.draw import blend_overlay

CAMVID = label_set("camvid")
PARK = LabelSet("park", ("grass", "road", "rest"), ((0, 255, 0), (9, 9, 9), (0, 0, 0)), background=frozenset({"rest"}))


@pytest.fixture
def street(tmp_path):
    """A picture's file: bright on the left, dark on the right."""
    pixels = np.full((80, 120, 3), 40, np.uint8)
    pixels[:, :60] = 220
    Image.fromarray(pixels).save(tmp_path / "street.png")
    return tmp_path / "street.png"


@pytest.fixture
def mask(tmp_path):
    """Its mask: building on the left, then sky, and no class (11 in CamVid's files) at the lower edge."""
    ids = np.zeros((80, 120), np.uint8)
    ids[:, :50] = 1
    ids[70:] = 11
    Image.fromarray(ids).save(tmp_path / "labels.png")
    return tmp_path / "labels.png"


@pytest.fixture
def models(bright):
    """One model, that sees building where it is bright, else sky."""
    return Models(["bright"], [Predictor(bright)])


@pytest.fixture
def two(made, bright):
    """The same, beside one that sees building everywhere."""
    everything = made(lambda picture: np.ones(picture.shape[:2], np.uint8))
    return Models(["bright", "all"], [Predictor(bright), Predictor(everything)])


def pixels(image):
    return np.asarray(image.convert("RGB"))


# ---- classes


def test_a_name_has_one_id_whichever_model_says_it():
    classes = PageClasses.of([CAMVID, PARK])
    assert classes.labels.classes == (*CAMVID.classes, "grass", "rest")
    assert classes.lookups[0][: len(CAMVID)].tolist() == list(range(len(CAMVID)))
    assert classes.lookups[1][:3].tolist() == [11, CAMVID.classes.index("road"), 12]
    assert {table[VOID] for table in classes.lookups} == {VOID}
    assert classes.painted() == [*CAMVID.classes, "grass"]


def test_too_many_classes_are_one_line():
    many = [LabelSet(str(n), tuple(f"{n}-{i}" for i in range(200)), ((1, 2, 3),) * 200) for n in range(2)]
    with pytest.raises(KerbsegError, match="400 classes"):
        PageClasses.of(many)


# ---- looks


def test_ids_are_those_of_the_predictor(models, street, bright):
    look = models.look(Given(street))
    assert (look.predictions[0].ids == Predictor(bright)(street).ids).all()
    assert (look.ids[0] == look.predictions[0].ids).all()
    assert (look.picture == np.asarray(Image.open(street))).all()


def test_a_mask_is_in_the_ids_that_files_have(models, street, mask):
    truth = models.look(Given(street, mask)).truth
    assert np.unique(truth).tolist() == [0, 1, VOID]
    assert (truth[70:] == VOID).all()


def test_a_mask_of_a_label_set_that_says_nothing_of_files_holds_train_ids(tmp_path):
    Image.fromarray(np.array([[0, 1], [2, 255]], np.uint8)).save(tmp_path / "a.png")
    assert read_mask(tmp_path / "a.png", PARK).tolist() == [[0, 1], [2, 255]]
    Image.fromarray(np.array([[0, 7]], np.uint8)).save(tmp_path / "b.png")
    with pytest.raises(KerbsegError, match="7 x1"):
        read_mask(tmp_path / "b.png", PARK)


def test_errors_are_the_line_of_the_command_and_name_no_folder_of_uploads(models, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no picture")
    with pytest.raises(KerbsegError) as raised:
        models.look(Given(tmp_path / "broken.png"))
    with pytest.raises(KerbsegError) as expected:
        models.predictors[0](tmp_path / "broken.png")
    assert str(raised.value) == str(expected.value).replace(str(tmp_path / "broken.png"), "broken.png")


def test_a_mask_of_another_size_is_one_line(models, street, tmp_path):
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(tmp_path / "small.png")
    with pytest.raises(KerbsegError, match=r"mask small.png is 8x12 but picture street.png is 80x120"):
        models.look(Given(street, tmp_path / "small.png"))


def test_an_animation_is_no_picture(models, tmp_path):
    frames = [Image.fromarray(np.full((8, 8, 3), n, np.uint8)) for n in (0, 200)]
    frames[0].save(tmp_path / "moving.gif", save_all=True, append_images=frames[1:])
    with pytest.raises(KerbsegError, match=r"^moving.gif holds frames"):
        models.look(Given(tmp_path / "moving.gif"))


def test_pictures_find_the_masks_of_their_names(tmp_path):
    one, two, text, mask, other = (tmp_path / name for name in ("b.jpg", "a.png", "n.txt", "m/b.png", "m/c.png"))
    given, notes = pair([one, two, text], [mask, other])
    assert given == [Given(two), Given(one, mask)]
    assert notes == [
        "left out 1 of 3 files that are no pictures",
        "1 of 2 masks have no picture of their name, such as c",
    ]
    assert pair([one], [other]) == ([Given(one, other)], [])
    with pytest.raises(KerbsegError, match="no picture is among"):
        pair([text, text], [])


# ---- views


def test_classes_are_painted_as_predict_does(models, street):
    look = models.look(Given(street))
    painting = Painting(models.classes.labels, frozenset(models.classes.painted()))
    expected = look.predictions[0].overlay(0.5, legend=False)
    assert (pixels(VIEWS["Classes"].draw(look, 0, painting)) == pixels(expected)).all()


def test_a_class_that_is_switched_off_is_as_in_the_picture(models, street):
    look = models.look(Given(street))
    labels = models.classes.labels
    drawn = pixels(Painting(labels, frozenset({"building"})).paint(look.picture, look.ids[0]))
    assert (drawn[:, 70:] == look.picture[:, 70:]).all()
    assert (drawn[10, 10] != look.picture[10, 10]).any()
    assert (pixels(Painting(labels, frozenset()).paint(look.picture, look.ids[0])) == look.picture).all()


def test_between_two_classes_that_are_off_there_is_no_border(models, street):
    picture = models.look(Given(street)).picture
    ids = np.zeros((80, 120), np.uint8)
    ids[:, 40:80], ids[:, 80:] = 1, 2
    drawn = pixels(Painting(CAMVID, frozenset({"sky"})).paint(picture, ids))
    assert (drawn[:, 50:] == picture[:, 50:]).all()


@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
def test_the_weight_of_the_colors_is_that_of_the_slider(models, street, alpha):
    look = models.look(Given(street))
    painting = Painting(CAMVID, frozenset(CAMVID.classes), alpha)
    drawn = pixels(painting.paint(look.picture, look.ids[0]))
    expected = blend_overlay(look.picture, look.ids[0], CAMVID, alpha)
    assert (drawn[5, 5] == expected[5, 5]).all()
    if alpha == 1:
        assert drawn[5, 5].tolist() == display_palette(CAMVID)[1].tolist()


def test_there_are_the_views_that_can_be_drawn(models, two, street, mask):
    assert views_of(models.look(Given(street))) == ["Classes"]  # what these are made of says no confidence
    assert views_of(models.look(Given(street, mask))) == ["Classes", "Mask", "Errors"]
    look = two.look(Given(street))
    assert views_of(look) == ["Classes", "Differences"]
    sure = replace(
        look, predictions=tuple(replace(each, confidence=np.ones((80, 120), np.float32)) for each in look.predictions)
    )
    assert "Confidence" in views_of(sure)
    painting = Painting(two.classes.labels, frozenset())
    assert (pixels(VIEWS["Confidence"].draw(sure, 1, painting)) == 255).all()


def test_errors_are_red_where_the_mask_says_another_class(models, street, mask):
    look = models.look(Given(street, mask))
    drawn = pixels(VIEWS["Errors"].draw(look, 0, Painting(CAMVID, frozenset())))
    red = (drawn[..., 0] > 200) & (drawn[..., 1] < 80)
    assert red[:70, 50:60].all()
    assert red.sum() == 70 * 10
    assert drawn[75].max() < 40, "what has no class is dark"


def test_differences_are_the_same_from_both_sides(two, street):
    look, painting = two.look(Given(street)), Painting(two.classes.labels, frozenset())
    one, other = (pixels(VIEWS["Differences"].draw(look, n, painting)) for n in (0, 1))
    assert (one == other).all()
    assert ((one[..., 0] > 200) & (one[..., 1] < 80)).sum() == 80 * 60


# ---- figures


def test_the_summary_says_what_is_right(models, two, street, mask):
    assert summary(models.look(Given(street)), ["bright"]) == ["street.png: 80x120 (HxW)"]
    lines = summary(two.look(Given(street, mask)), two.names)
    assert lines[1] == "the models agree on 50.0 % of the pixels"
    assert lines[2] == "bright: 91.7 % of the pixels right, mIoU of this picture 0.845"
    assert lines[3].startswith("all: 41.7 % of the pixels right")


def test_a_mask_without_a_class_leaves_nothing_to_compare(models, street, tmp_path):
    Image.fromarray(np.full((80, 120), 11, np.uint8)).save(tmp_path / "void.png")
    lines = summary(models.look(Given(street, tmp_path / "void.png")), models.names)
    assert lines[1] == "bright: nothing to compare, mIoU of this picture –"


def test_shares_of_both_models_stand_side_by_side_and_names_are_text(two, street):
    table = shares_table(two.look(Given(street)), ["a<b>", "all"], two.classes.labels)
    assert "a&lt;b&gt;" in table
    assert table.count("<tr>") == 3, "the head and two classes"
    assert table.index("sky") < table.index("building"), "as many pixels of both: in the order of the classes"
    assert "50.0 %" in table
    assert "100.0 %" in table


def test_each_switch_has_its_color():
    lines = switch_colors(CAMVID, "#classes").splitlines()
    red, green, blue = display_palette(CAMVID)[3].tolist()
    assert len(lines) == len(CAMVID)
    assert lines[3] == f"#classes label:nth-of-type(4)::before {{ background: rgb({red} {green} {blue}); }}"
