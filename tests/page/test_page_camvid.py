"""The page gives the ids of `kerbseg predict` on 50 of CamVid's pictures."""

import numpy as np
import pytest
from browsing import CHROMIUM, chromium, downloaded, give, page_at
from PIL import Image

from kerbseg.cli import main
from kerbseg.page.corrections import Corrections
from kerbseg.page.looking import Given, open_models
from kerbseg.page.serving import served

MODEL = "kerbnet_s-camvid"  # comes with the package; the quickest of them


@pytest.mark.slow
@pytest.mark.camvid
def test_ids_are_those_of_predict(camvid_data, tmp_path):
    pictures = sorted((camvid_data / "val").iterdir())[:50]
    assert len(pictures) == 50
    main(["-q", "predict", MODEL, *map(str, pictures), "-o", str(tmp_path), "--save", "ids"])
    models = open_models([MODEL])
    for path in pictures:
        ids = models.look(Given(path)).predictions[0].ids
        assert (ids == np.asarray(Image.open(tmp_path / f"{path.stem}_ids.png"))).all(), path.name


@pytest.mark.slow
@pytest.mark.camvid
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here")
def test_so_are_those_that_the_browser_gets(camvid_data, tmp_path):
    for package in ("gradio", "playwright"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    path = min((camvid_data / "val").iterdir())
    main(["-q", "predict", MODEL, str(path), "-o", str(tmp_path), "--save", "ids"])
    models = open_models([MODEL])
    (tmp_path / "browser").mkdir()
    with (
        served(models, Corrections(tmp_path / "fixes", models.labels)) as address,
        chromium() as browser,
        page_at(browser, address) as page,
    ):
        give(page, path)
        got = downloaded(page, "#ids-0", tmp_path / "browser")
    assert got.name == f"{path.stem}_ids.png"
    assert (np.asarray(Image.open(got)) == np.asarray(Image.open(tmp_path / got.name))).all()
