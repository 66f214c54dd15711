"""What docs/scale.md shows: its Spark recipe runs, and its figures are those that were measured."""

import importlib
import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from kerbseg import Predictor
from kerbseg.cluster import decode_runs

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "scale.md").read_text()
FIGURES = ROOT / "benchmarks" / "results" / "ray_scaling.json"


@pytest.fixture
def recipe():
    """The functions of the page."""
    pytest.importorskip("pandas", reason="pandas is not installed (extra ray)")
    [code] = re.findall(r"^```python\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)
    names = {"__name__": "recipe"}
    exec(compile(code, "docs/scale.md", "exec"), names)
    return names


def check(rows, streets):
    predictor = Predictor("mininet_v2_cpu-camvid", threads=1)
    assert len(rows) == 7
    for row in rows:
        lengths = np.array(row["ids_lengths"], np.uint32)
        ids = decode_runs(np.frombuffer(row["ids_values"], np.uint8), lengths, (row["height"], row["width"]))
        assert np.array_equal(ids, predictor(streets / Path(row["path"]).name).ids)


def test_the_recipe_of_spark_gives_the_ids_of_predict(recipe, streets):
    import pandas as pd

    files = sorted(streets.glob("*.png"))
    batch = pd.DataFrame({"path": list(map(str, files)), "content": [path.read_bytes() for path in files]})
    [made] = recipe["segment"](iter([batch]))
    check(made.to_dict("records"), streets)


@pytest.mark.slow
def test_spark_runs_it(recipe, streets):
    sql = pytest.importorskip("pyspark.sql", reason="pyspark is not installed")
    if shutil.which("java") is None:
        pytest.skip("Spark needs Java, which is not installed")
    session = sql.SparkSession.builder.master("local[1]").config("spark.ui.enabled", "false").getOrCreate()
    try:
        rows = [row.asDict() for row in recipe["table"](session, str(streets)).collect()]
    finally:
        session.stop()
    check(rows, streets)


def test_the_figures_of_the_page_are_those_of_the_file(monkeypatch, tmp_path):
    pytest.importorskip("fsspec")
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    script = importlib.import_module("ray_scaling")
    page = tmp_path / "scale.md"
    page.write_text(PAGE)
    import json

    script.write_parts(page, json.loads(FIGURES.read_text()))
    assert page.read_text() == PAGE
