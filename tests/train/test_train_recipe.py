"""Recipes: slips are named with the nearest valid key, and without torch."""

import subprocess
import sys

import pytest
import yaml

from kerbseg.bundle import read_card
from kerbseg.core.errors import KerbsegError, RecipeError
from kerbseg.train.recipe_file import find, first_difference, read, read_any, resume_recipe, shipped
from kerbseg.train.recipe_loss import Lovasz, MedianFrequencyLoss

NAME = "camvid/mininet_v2_cpu"


@pytest.mark.parametrize("name", shipped())
def test_a_shipped_recipe_is_a_document_and_survives_its_own_yaml(name, tmp_path):
    recipe = read_any(name)
    written = tmp_path / "recipe.yaml"
    written.write_text(yaml.safe_dump(recipe.to_dict()))
    assert read_any(written) == recipe


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("optm.lr=1", ["'optm'", "'optim'"]),
        ("optim.lrr=1", ["'optim.lrr'", "'lr'"]),
        ("optim.lr=fast", ["'optim.lr'", "'fast'", "number"]),
        ("optim.name=adm", ["'optim.name'", "'adm'", "'adam'"]),
        ("epochs=2.5", ["'epochs'", "2.5", "integer"]),
        ("epochs=0", ["'epochs'", "0", "greater than or equal to 1"]),
        ("augment.flip=2", ["'augment.flip'", "2"]),
        ("augment.progressive=[{until: 1, zom: 1, crop: [8, 8]}]", ["'augment.progressive.0.zom'", "'zoom'"]),
        ("augment.crop=[1, 2, 3]", ["'augment.crop'", "[1, 2, 3]"]),
        ("loss.ohem={thresh: 0.7}", ["'loss.ohem.thresh'", "'threshold'"]),
        ("auxiliary=[{att: features}]", ["'auxiliary.0.att'", "'at'"]),
        ("distill={temperature: 1}", ["'distill.teacher'", "missing"]),
        ("epochs", ["'epochs'", "key=value"]),
        ("epochs.more=1", ["'epochs.more=1'", "not a section"]),
        ("model=[", ["'model=['", "YAML"]),
    ],
)
def test_a_slip_names_the_key_and_the_way_out(override, names):
    with pytest.raises(RecipeError) as caught:
        read(NAME, [override])
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("schedule={name: one_cycle, pct_start: 0}", ["'schedule.pct_start'", "greater than 0"]),
        ("schedule={name: one_cycle, pct_start: 1}", ["'schedule.pct_start'", "less than 1"]),
        ("augment.scale=[2.0, 0.5]", ["'augment.scale'", "[0.5, 2.0]"]),
        ("augment.jpeg_quality=[90, 30]", ["'augment.jpeg_quality'", "[30, 90]"]),
        ("augment.jpeg_quality=[30, 101]", ["'augment.jpeg_quality.1'", "101"]),
        (
            "augment.progressive=[{until: 0.5, zoom: 1, crop: [8, 8]}, {until: 0.5, zoom: 1, crop: [8, 8]}]",
            ["'augment.progressive'", "sort them"],
        ),
        ("schedule={name: step, milestones: [4, 2]}", ["'schedule.milestones'", "sort them"]),
        ("schedule={name: step}", ["'schedule.milestones'", "missing"]),
        ("schedule={name: plateau, factor: 0}", ["'schedule.factor'", "greater than 0"]),
        ("seed=-1", ["'seed'", "-1"]),
        ("optim.lr=.inf", ["'optim.lr'", "finite"]),
        ("augment.rotate=.inf", ["'augment.rotate'", "finite"]),
        ("loss={weights: list, values: [0, 0]}", ["'loss.values'", "all 0"]),
        ("data.val=test", ["'data.val'", "test split", "val"]),
        ("data.train=[]", ["'data.train'"]),
        ("loss={weights: list}", ["'loss.values'", "missing"]),
        ("loss={weights: enet, constant: 0.9}", ["'loss.constant'", "greater than 1"]),
        ("optim={name: sgd, momentum: 0, nesterov: true}", ["nesterov", "momentum"]),
        ("optim={weight_decay_until: 3}", ["weight_decay_until", "leave it away"]),
        # keys of another choice say whose they are
        ("optim.momentum=0.9", ["'optim.momentum' is of sgd", "optim.name is adamw"]),
        ("optim={name: sgd, betas: [0.9, 0.99]}", ["'optim.betas' is of adam, adamw", "optim.name is sgd"]),
        ("schedule={name: cosine, power: 0.9}", ["'schedule.power' is of poly", "schedule.name is cosine"]),
        ("schedule={name: constant, hold: 5}", ["'schedule.hold' is of", "schedule.name is constant"]),
        ("loss.constant=1.1", ["'loss.constant' is of enet", "loss.weights is median_frequency"]),
        ("loss={power: 0.5}", ["'loss.power' is of median_frequency", "loss.weights is none"]),
        ("loss.weights=median", ["'loss.weights'", "did you mean 'median_frequency'"]),
        ("schedule=poly", ["'schedule'", "section"]),
        ("loss.lovasz={start: 1.0}", ["'loss.lovasz.start'", "less than 1"]),
        ("augment={resample: lanczos, rotate: 5}", ["'augment'", "lanczos", "cannot rotate", "write turn for rotate"]),
        ("augment={resample: box, cycle: [{crop: [8, 8], rotate: 5}]}", ["'augment'", "cannot rotate"]),
        ("augment.resample=bicubic", ["'augment.resample'", "'bicubic'"]),
        ("data.resample=warp", ["'data.resample'", "'warp'"]),
        ("model.outputs=257", ["'model.outputs'", "256"]),
        ("loss.ohem={rule: hrnett}", ["'loss.ohem.rule'", "'hrnett'", "'hrnet'"]),
        ("loss.ohem={rule: hrnet, min_kept: 0.5}", ["'loss.ohem.min_kept'", "0.5", "integer"]),
        ("loss.ohem={min_kept: 130000}", ["'loss.ohem.min_kept'", "130000", "less than or equal to 1"]),
        ("loss={average: all, ohem: {rule: paddleseg}}", ["'loss'", "paddleseg", "leave average away"]),
        ("heads={a.b: {weight: -1}}", ["'heads.a.b.weight'", "-1", "greater than 0"]),
        ("heads={a: {weight: 2000}}", ["'heads.a.weight'", "1000"]),
        ("heads={a: {los: pixel}}", ["'heads.a.los'", "'loss'"]),
        ("heads=null", ["'heads' is None; it is a section of keys, such as heads={...}"]),
        ("optim.groups=[3]", ["'optim.groups.0' is 3; it is a section of keys"]),
        ("heads.a.1.los=pixel", ["'heads.a.1.los'", "'loss'"]),
        ("model.options.classes=3", ["'model.options'", "classes follows from the classes of the data; leave it out"]),
        ("model.options.name=erfnet", ["'model.options'", "name follows from model.name; leave it out"]),
        ("heads={a: {loss: boundery}}", ["'heads.a.loss'", "'boundary'"]),
        ("heads={a: {aware: 1}}", ["'heads.a.aware' is of boundary", "heads.a.loss is pixel"]),
        ("heads={a: {average: all}}", ["'heads.a'", "add ohem: false"]),
        ("heads={a: {loss: boundary}}", ["add data.edges={}"]),
        ("data.edges={}", ["data.edges", "leave it away"]),
        ("optim={no_decay: [bias]}", ["no_decay", "set weight_decay"]),
    ],
)
def test_what_makes_no_sense_is_refused_with_the_reason(override, names):
    with pytest.raises(RecipeError) as caught:
        read(NAME, [override])
    message = str(caught.value)
    assert "\n" not in message
    for name in names:
        assert name in message


@pytest.mark.parametrize(
    ("override", "names"),
    [
        ("data.scale=[0.5, 0.1]", ["'data.scale'", "[0.1, 0.5]"]),
        ("data.scale=[0.5, 1.5]", ["'data.scale.1'", "1.5"]),
        ("data.ratio=[2.0, 1.0]", ["'data.ratio'", "[1.0, 2.0]"]),
        ("data.val=test", ["'data.val'", "test split"]),
        ("seed=-1", ["'seed'"]),
        ("model.options.classes=3", ["'model.options'", "classes follows from the classes of the data"]),
    ],
)
def test_a_classifiers_recipe_must_make_sense_too(override, names):
    with pytest.raises(RecipeError) as caught:
        read_any("imagenet/erfnet_encoder", [override])
    for name in names:
        assert name in str(caught.value)


def test_a_head_with_a_number_in_its_name_can_be_changed():
    before = read("modern/pp_liteseg_t").heads
    heads = read("modern/pp_liteseg_t", ["heads.seg_heads.1.weight=0.125", "heads.seg_heads.2={weight: 0.25}"]).heads
    assert list(heads) == list(before) == ["seg_heads.1", "seg_heads.2"]
    assert [head.weight for head in heads.values()] == [0.125, 0.25]


def test_a_resolved_recipe_holds_the_keys_in_use_and_no_others():
    resolved = read(NAME, ["schedule={name: cosine}", "optim={name: sgd}", "loss={weights: enet}"]).to_dict()
    assert resolved["schedule"].keys() == {"name", "warmup", "warmup_from", "hold", "late", "min_lr_ratio"}
    assert {"momentum", "nesterov"} <= resolved["optim"].keys()
    assert "betas" not in resolved["optim"]
    assert resolved["loss"]["constant"] == 1.02
    assert not {"power", "values"} & resolved["loss"].keys()


def test_a_weight_alone_is_short_for_the_lovasz_section():
    assert read(NAME, ["loss.lovasz=0.5"]).loss.lovasz == Lovasz(0.5)
    assert read(NAME, ["loss.lovasz=0"]).loss.lovasz is None
    assert MedianFrequencyLoss(lovasz=0.5).lovasz == Lovasz(0.5)
    assert read(NAME, ["loss.lovasz={start: 0.8, at: logits}"]).loss.lovasz == Lovasz(1.0, 0.8, "logits")


def test_one_teacher_or_several():
    assert read(NAME, ["distill={teacher: a}"]).distill.teacher == ("a",)
    assert read(NAME, ["distill={teacher: [a, b]}"]).distill.teacher == ("a", "b")


def test_recipes_are_compared_by_value_and_the_key_that_differs_is_named():
    recipe = read(NAME)
    assert first_difference(recipe, read(NAME, ["optim.lr=0.004"])) is None
    assert first_difference(recipe, read(NAME, ["optim.lr=1e-3"])) == "optim.lr is 0.004 there and 0.001 here"
    other = first_difference(recipe, read(NAME, ["schedule={name: poly}"]))
    assert other == 'schedule.name is "one_cycle" there and "poly" here'


def test_a_run_that_was_begun_before_a_key_existed_is_the_same_recipe(tmp_path):
    written = read(NAME).to_dict()
    del written["loss"]["boundary"], written["augment"]["stretch"], written["distill"]
    (tmp_path / "recipe.yaml").write_text(yaml.safe_dump(written))
    assert first_difference(resume_recipe(tmp_path), read(NAME)) is None
    with pytest.raises(KerbsegError, match="nothing to resume"):
        resume_recipe(tmp_path / "none")


def test_the_shipped_weights_recipe_is_still_a_plain_mapping():
    assert read_card("mininet_v2_cpu-camvid").recipe["model"]["name"] == "mininet_v2_cpu"


def test_an_unknown_recipe_names_the_nearest():
    with pytest.raises(RecipeError, match="did you mean 'camvid/mininet_v2_cpu'"):
        read("camvid/mininet_v2_cp")


def test_numbers_are_read_as_people_write_them():
    assert read(NAME, ["optim.lr=1e-3"]).optim.lr == 1e-3
    assert read(NAME, ["optim.lr=5"]).optim.lr == 5.0


def test_a_key_that_stands_twice_is_refused(tmp_path):
    path = tmp_path / "twice.yaml"
    path.write_text("epochs: 1\nepochs: 2\n")
    with pytest.raises(RecipeError, match="'epochs' stands twice"):
        read(path)


@pytest.mark.parametrize(
    ("slip", "says"), [("epocs=2", "did you mean 'epochs'"), ("augment.scale=[2, 1]", "write [1.0, 2.0]")]
)
def test_a_slip_is_told_before_torch_is_imported(slip, says):
    code = (
        "import sys; from kerbseg.cli import main\n"
        f"try: main(['train', 'camvid/mininet_v2_cpu', {slip!r}])\n"
        "except SystemExit as left: print(left.code, 'torch' in sys.modules)\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert result.stdout.split() == ["2", "False"]
    assert says in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("overrides", "blamed"),
    [
        (["epochs=3", "optim.lr=abc"], "override 2 'optim.lr=abc': 'optim.lr' is 'abc'"),
        (["optim.lr=abc", "optim.lr=xyz"], "override 2 'optim.lr=xyz': 'optim.lr' is 'xyz'"),
        (["epochs=3", "optim={lr: abc}"], "override 2 'optim={lr: abc}': 'optim.lr' is 'abc'"),
        (["epochs=3", "loss.power.rate=1"], "override 2 'loss.power.rate=1': "),
        (["epochs=3", "optim.lr=[1"], "override 2 'optim.lr=[1' is no valid YAML"),
        (["epochs=3", "optim.lr"], "override 2 'optim.lr' is not key=value"),
    ],
)
def test_what_an_override_breaks_is_not_the_files_fault(overrides, blamed):
    with pytest.raises(RecipeError) as caught:
        read(NAME, overrides)
    assert str(caught.value).startswith(blamed)


def test_what_a_file_breaks_is_not_an_overrides_fault(tmp_path):
    mine = tmp_path / "mine.yaml"
    mine.write_text(find(NAME).read_text() + "\nepocs: 3\n")
    with pytest.raises(RecipeError, match=r"^.*mine.yaml: unknown key 'epocs'"):
        read(mine, ["optim.lr=1e-3"])
    mine.write_text(find(NAME).read_text().replace("epochs: 110", "epochs: many"))
    assert read(mine, ["epochs=3"]).epochs == 3, "an override may mend a file"


@pytest.mark.parametrize(
    "value",
    [
        "augment.rotate=1e308",
        "augment.turn=181",
        "augment.stretch=1e308",
        "augment.scale=[1,1e308]",
        "augment.scale=[1e-300,1]",
        "augment.mid_contrast=[1,1e39]",
        "augment.shift=[8000,0]",
        "augment.shift=[0,128]",
    ],
)
def test_no_picture_leaves_its_canvas_or_the_numbers(value):
    with pytest.raises(RecipeError, match="augment"):
        read("smoke/scenes", [value])
