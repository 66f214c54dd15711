"""KServe's protocol (v2): tensors in JSON and behind it, and a line for each request that is not of it."""

import json

import numpy as np
import pytest
from serving import noise
from test_serve_http import ask, error

PICTURES = np.stack([noise(1), noise(2)])
PATH = "/v2/models/first/infer"


def request(pictures=PICTURES, binary=False, outputs=None, **changes):
    """The body of a request, and its headers."""
    tensor = {"name": "pictures", "datatype": "UINT8", "shape": list(pictures.shape)}
    tensor |= {"parameters": {"binary_data_size": pictures.size}} if binary else {"data": pictures.ravel().tolist()}
    asked = {"id": "7", "inputs": [tensor | changes]} | ({} if outputs is None else {"outputs": outputs})
    head = json.dumps(asked).encode()
    if not binary:
        return {"body": head}
    return {"body": head + pictures.tobytes(), "Inference_Header_Content_Length": str(len(head))}


def test_a_model_says_what_it_takes_and_gives(served):
    for path, expected in {
        "/v2/health/live": {"live": True},
        "/v2/health/ready": {"ready": True},
        "/v2/models/first/ready": {"name": "first", "ready": True},
    }.items():
        status, _, content = ask(served.address, "GET", path)
        assert (status, json.loads(content)) == (200, expected)
    facts = json.loads(ask(served.address, "GET", "/v2/models/first")[2])
    assert facts["inputs"] == [{"name": "pictures", "datatype": "UINT8", "shape": [-1, -1, -1, 3]}]
    assert [(each["name"], each["datatype"]) for each in facts["outputs"]] == [("ids", "UINT8"), ("confidence", "FP32")]
    assert json.loads(ask(served.address, "GET", "/v2")[2])["extensions"] == ["binary_tensor_data"]
    assert error(ask(served.address, "GET", "/v2/models/frist"))[0] == 404
    assert error(ask(served.address, "GET", "/v2/models/frist/ready"))[0] == 404


@pytest.mark.parametrize("binary", [False, True])
def test_tensors_in_json_give_ids_in_json(served, predictor, binary):
    status, _, content = ask(served.address, "POST", PATH, **request(binary=binary))
    assert status == 200
    answer = json.loads(content)
    (ids,) = answer.pop("outputs")
    assert answer == {"model_name": "first", "id": "7"}
    assert (ids["name"], ids["datatype"], ids["shape"]) == ("ids", "UINT8", [2, 32, 48])
    expected = np.stack([each.ids for each in predictor(PICTURES)])
    assert (np.array(ids["data"]).reshape(expected.shape) == expected).all()


def test_nested_data_are_taken_too(served):
    nested = ask(served.address, "POST", PATH, **request(data=PICTURES.tolist()))
    assert nested[2] == ask(served.address, "POST", PATH, **request())[2]


def test_tensors_behind_the_json_come_back_behind_it(served, predictor):
    outputs = [{"name": name, "parameters": {"binary_data": True}} for name in ("confidence", "ids")]
    status, headers, content = ask(served.address, "POST", PATH, **request(binary=True, outputs=outputs))
    assert status == 200
    assert headers["content-type"] == "application/octet-stream"
    length = int(headers["Inference-Header-Content-Length"])
    sure, ids = json.loads(content[:length])["outputs"]
    size = sure["parameters"]["binary_data_size"]
    expected = predictor(PICTURES, confidence=True)
    confidence = np.frombuffer(content[length : length + size], "<f4").reshape(sure["shape"])
    assert np.array_equal(confidence, np.stack([each.confidence for each in expected]))
    found = np.frombuffer(content[length + size :], np.uint8).reshape(ids["shape"])
    assert np.array_equal(found, np.stack([each.ids for each in expected]))


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"body": b"{"}, "no JSON of one input"),
        ({"body": b"[" * 100_000}, "no JSON of one input"),
        ({"body": b'{"inputs": []}'}, "no JSON of one input"),
        ({"body": b'{"inputs": [1]}'}, "no JSON of one input"),
        (request(name="image"), "the input is 'image'"),
        (request(datatype="FP32"), "of 'FP32'; it is 'pictures' of 'UINT8'"),
        (request(shape=[2, 32, 48]), "the shape is [2, 32, 48]; pictures are [number, height, width, 3]"),
        (request(shape=[2, 32, 48, -3]), "the shape is"),
        (request(shape=[2, 32, 48.0, 3]), "the shape is"),
        (request(shape=[1, 32, 48, 3]), "[1, 32, 48, 3] are 4608 whole numbers"),
        (request(parameters="x"), "parameters are an object of names and values, not str"),
        (request(parameters=[1]), "parameters are an object of names and values, not list"),
        (request(outputs=[{"name": "ids", "parameters": 7}]), "parameters are an object of names and values, not int"),
        (request(data=[0.5]), "the data are 1 of float64"),
        (request(data=[256] * PICTURES.size), "whole numbers, 0 to 255"),
        (request(data=[[1], [1, 2]]), "no numbers of that shape"),
        (request(outputs=[{"name": "logits"}]), "there is no output 'logits'; outputs are ids, confidence"),
        (request(binary=True, parameters={"binary_data_size": 3}), "binary_data_size is 3"),
        (request(binary=True) | {"Inference_Header_Content_Length": "99999999"}, "and the body has"),
        (request(binary=True) | {"Inference_Header_Content_Length": "x"}, "inference-header-content-length is 'x'"),
    ],
)
def test_what_is_not_of_the_protocol_gets_one_line(served, given, words):
    status, line = error(ask(served.address, "POST", PATH, **given))
    assert (status, words in line) == (400, True), line


def test_bounds(served):
    small = np.zeros((65, 1, 1, 3), np.uint8)
    assert error(ask(served.address, "POST", PATH, **request(small))) == (
        413, "65 pictures at once, and at most 64 may wait; send fewer",
    )  # fmt: skip
    status, line = error(ask(served.address, "POST", PATH, **request(shape=[1, 10_000, 9_000, 3])))
    assert (status, line) == (413, "pictures of 10000x9000 (HxW); at most 67,108,864 pixels are taken")


def test_a_client_of_others_gets_the_ids(served, predictor):
    http = pytest.importorskip("tritonclient.http", reason="tritonclient is not installed")
    asking = http.InferenceServerClient(served.address.removeprefix("http://"))
    assert asking.is_server_live()
    assert asking.is_model_ready("first")
    tensor = http.InferInput("pictures", list(PICTURES.shape), "UINT8")
    tensor.set_data_from_numpy(PICTURES)
    outputs = [http.InferRequestedOutput("ids"), http.InferRequestedOutput("confidence", binary_data=False)]
    found = asking.infer("first", [tensor], outputs=outputs)
    expected = predictor(PICTURES, confidence=True)
    assert np.array_equal(found.as_numpy("ids"), np.stack([each.ids for each in expected]))
    assert np.allclose(found.as_numpy("confidence"), np.stack([each.confidence for each in expected]))
