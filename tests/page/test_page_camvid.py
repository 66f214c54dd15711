"""The page gives the ids of `kerbseg predict` on 50 of CamVid's pictures."""

import numpy as np
import pytest
from PIL import Image

from kerbseg.cli import main
from kerbseg.page.looking import Given, open_models

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
