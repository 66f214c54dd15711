"""The addresses of the service: what they answer, and the one line that each bad request gets."""

import io
import json
import re
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from serving import Bright, encoded, noise, running, service

from kerbseg.core.errors import DataError, InputError, KerbsegError
from kerbseg.data.pictures import read_rgb
from kerbseg.predict import Prediction
from kerbseg.serve import Client, ServiceError
from kerbseg.serve.app import ManyFacts
from kerbseg.serve.gate import read_keys
from kerbseg.serve.server import Server, ServerOptions
from kerbseg.serve.service import named

KEY = "0123456789abcdef"


def ask(address, method, path, body=None, **headers):
    """Status, headers and content of an answer."""
    connection = HTTPConnection(urlsplit(address).netloc, timeout=60)
    try:
        connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


def form(*files, field="picture"):
    """A form with files, by name and content."""
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{field}"; filename="{name}"\r\n\r\n'.encode() + content + b"\r\n"
        for name, content in files
    ]
    return {"body": b"".join([*parts, b"--x--\r\n"]), "Content_Type": "multipart/form-data; boundary=x"}


def error(answer):
    """Status and line of a refusal."""
    status, headers, content = answer
    assert headers["content-type"] == "application/json"
    (line,) = json.loads(content).values()
    assert "\n" not in line
    return status, line


# ---- pictures


def test_the_client_gives_what_the_predictor_gives(client, predictor, tmp_path):
    pixels = noise(1)
    Image.fromarray(pixels).save(tmp_path / "street.png")
    expected = predictor(pixels, confidence=True)
    for picture in (pixels, Image.fromarray(pixels), encoded(pixels), tmp_path / "street.png"):
        found = client.segment(picture, confidence=True)
        assert (found.ids == expected.ids).all()
        assert np.abs(found.confidence - expected.confidence).max() <= 0.5 / 255 + 1e-6
        assert (found.picture == pixels).all()
        assert found.labels.classes == expected.labels.classes
        assert found.shares() == expected.shares()
    assert client.segment(pixels).confidence is None


def _turned():
    """A picture whose camera was held upright, as PIL opens it."""
    how = Image.Exif()
    how[0x0112] = 6
    return Image.open(io.BytesIO(encoded(noise(3), "JPEG", exif=how)))


@pytest.mark.parametrize(
    "picture",
    [
        _turned(),
        *(Image.fromarray(noise(1)).convert(mode) for mode in ("CMYK", "YCbCr", "HSV", "RGBX", "LA", "P", "1")),
        Image.fromarray(noise(1)).convert("P").convert("PA"),
        noise(1)[..., 0], noise(1)[:, ::-1], np.dstack([noise(1), noise(2)[..., :1]]),
    ],
    ids=lambda picture: getattr(picture, "mode", None),
)  # fmt: skip
def test_pictures_of_every_kind_are_seen_as_the_predictor_sees_them(client, predictor, picture):
    assert np.array_equal(client.segment(picture).ids, predictor(picture).ids)


@pytest.mark.parametrize(
    "picture",
    [noise(1) / 255, noise(1).astype(np.int64), noise(1).transpose(2, 0, 1), noise(1)[:0], None, 7,
     Image.fromarray(noise(1)).convert("LAB"), Image.fromarray(noise(1)).convert("F")],
)  # fmt: skip
def test_what_is_no_picture_gets_the_line_of_the_predictor(client, predictor, picture):
    with pytest.raises(InputError) as expected:
        predictor(picture)
    with pytest.raises(InputError) as found:
        client.segment(picture)
    assert str(found.value) == str(expected.value)


@pytest.mark.parametrize("path", ["none.png", ".", "a\0b"])
def test_files_that_cannot_be_sent(client, path):
    with pytest.raises(DataError, match=r"cannot be read: .*check the path"):
        client.segment(path)


def test_no_pictures_are_no_request(client):
    assert client.segment_batch([]) == []


def test_a_form_and_a_raw_body_are_answered_alike(served):
    content = encoded(noise(2))
    raw = ask(served.address, "POST", "/v1/segment", content, Content_Type="image/png")
    assert raw[0] == 200
    assert raw[1]["content-type"] == "application/json"
    assert ask(served.address, "POST", "/v1/segment", **form(("street.png", content)))[2] == raw[2]


@pytest.mark.parametrize("answer", ["ids", "palette", "color", "overlay", "side", "confidence"])
def test_pictures_are_those_of_the_prediction(client, predictor, answer):
    pixels = noise(3, (64, 96))
    prediction = predictor(pixels, confidence=True)
    expected = {
        "ids": lambda: Image.fromarray(prediction.ids),
        "palette": prediction.palette,
        "color": prediction.color,
        "overlay": prediction.overlay,
        "side": prediction.side,
        "confidence": prediction.confidence_gray,
    }
    assert client.draw(pixels, answer).tobytes() == expected[answer]().tobytes()


def test_a_batch_has_the_error_of_a_bad_picture_in_its_place(client, served, predictor, tmp_path):
    pictures = [noise(4), noise(5, (40, 60)), b"no picture", noise(6)]
    found = client.segment_batch(pictures)
    assert [type(each) for each in found] == [Prediction, Prediction, ServiceError, Prediction]
    for picture, each in zip(pictures, found, strict=True):
        if isinstance(each, Prediction):
            assert (each.ids == predictor(picture).ids).all()
    answer = ask(served.address, "POST", "/v1/segment_batch", **form(("a.png", encoded(noise(4))), ("b.png", b"")))
    facts = ManyFacts.model_validate_json(answer[2])
    assert facts.failed == 1
    assert facts.pictures[1].error.startswith("b.png cannot be read as a picture (it is empty)")


def test_each_model_is_asked_by_its_name(client, served):
    assert [each["name"] for each in client.models()] == ["first", "second"]
    assert client.card("second").labels.name == "camvid"
    assert client.segment(noise(7), model="second").labels == client.card().labels
    for path in ("/v1/segment?model=secnod", "/v1/segment_batch?model=secnod"):
        status, line = error(ask(served.address, "POST", path, encoded(noise(7))))
        assert (status, line) == (404, "no model 'secnod' is served; did you mean 'second'?")
    assert error(ask(served.address, "GET", "/v1/card?model=x"))[0] == 404


# ---- spoiled pictures


def _png(width, height, data=b""):
    """A small PNG that says it has so many pixels."""

    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(data)) + chunk(b"IEND", b"")


def _animation():
    frames = [Image.fromarray(noise(seed)) for seed in (1, 2)]
    content = io.BytesIO()
    frames[0].save(content, "GIF", save_all=True, append_images=frames[1:])
    return content.getvalue()


WHOLE = encoded(noise(0))
SPOILED = {
    "empty.png": b"",
    "truncated.png": WHOLE[: len(WHOLE) // 2],
    "cut_head.png": WHOLE[:20],
    "truncated.jpg": encoded(noise(0), "JPEG")[:400],
    "page.png": b"<html>not found</html>",
    "postscript.png": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n{} loop\n",
    "many_pixels.png": _png(10_000, 9_000),
    "no_pixels.png": _png(0, 0),
    "sixteen_bits.png": encoded(np.full((4, 4), 1000, np.uint16)),
    "animation.gif": _animation(),
    "flipped.png": WHOLE[:60] + bytes([WHOLE[60] ^ 1]) + WHOLE[61:],
}


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("name", SPOILED)
def test_a_spoiled_picture_gets_the_line_of_the_command(served, name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(SPOILED[name])
    with pytest.raises(DataError) as refused:
        read_rgb(Path(name))
    answer = ask(served.address, "POST", "/v1/segment", **form((name, SPOILED[name])))
    assert error(answer) == (422, str(refused.value))


WHOLE_FORM = form(("a.png", WHOLE), ("b.png", WHOLE))
CUT = WHOLE_FORM | {"body": WHOLE_FORM["body"][:-40]}  # within the second picture


@pytest.mark.parametrize(
    ("path", "request_", "status", "words"),
    [
        ("/v1/segment", {"body": b""}, 400, "the body is empty; send a picture"),
        ("/v1/segment", form(), 400, "the form holds no file"),
        ("/v1/segment", form(("a", WHOLE), ("b", WHOLE)), 400, "the form holds 2 files; send one"),
        ("/v1/segment", form(("a", WHOLE)) | {"Content_Type": "multipart/form-data"}, 400, "the form cannot be read"),
        ("/v1/segment", {"body": WHOLE, "Content_Type": "multipart/form-data; boundary=x"}, 400, "form cannot be read"),
        ("/v1/segment_batch", CUT, 400, "the form was cut off: its closing boundary is missing"),
        ("/v1/segment", CUT, 400, "the form was cut off"),
        ("/v1/segment?answer=jpeg", {"body": WHOLE}, 400, "answer: Input should be"),
        ("/v1/segment?alpha=2", {"body": WHOLE}, 400, "alpha: Input should be less than or equal to 1; found '2'"),
        ("/v1/segment?anwser=json", {"body": WHOLE}, 400, "there is no 'anwser'; /docs lists what there is"),
        ("/v1/segment_batch?answer=overlay", {"body": WHOLE}, 400, "there is no 'answer'"),
        ("/v1/nowhere", {"body": WHOLE}, 404, "POST /v1/nowhere: Not Found; /docs lists what there is"),
        ("/health", {"body": WHOLE}, 405, "POST /health: Method Not Allowed"),
        ("/v1/segment", {"body": b"", "Content_Length": "99999999"}, 413, "the body is larger than 32 MB; send less"),
    ],
)  # fmt: skip
def test_what_is_not_understood_gets_one_line(served, path, request_, status, words):
    found, line = error(ask(served.address, "POST", path, **request_))
    assert found == status
    assert words in line


def test_a_card_of_nobody_is_not_that_of_the_first(served):
    found = error(ask(served.address, "GET", "/v1/card?modle=second"))
    assert found == (400, "there is no 'modle'; /docs lists what there is")


def test_names_of_files_are_shown_without_what_a_terminal_obeys(served):
    answer = ask(served.address, "POST", "/v1/segment", **form(("..\\x/\x1b[31mred.png", b"no")))
    assert error(answer)[1].startswith("\\x1b[31mred.png cannot be read")


def test_bounds_of_body_and_pixels(tmp_path):
    with running(service(Bright(), megabytes=0.01, pixels=1_000_000)) as server:
        large = encoded(np.zeros((1000, 1001, 3), np.uint8))
        assert len(large) < 10_000
        status, line = error(ask(server.address, "POST", "/v1/segment", large))
        assert (status, "1001x1000, 1 million pixels; at most 1 million" in line) == (422, True)
        status, line = error(ask(server.address, "POST", "/v1/segment", bytes(20_000)))
        assert (status, line) == (413, "the body is larger than 0.01 MB; send less, or a compressed picture")

        def chunks():
            for _ in range(3):
                yield bytes(6_000)

        assert error(ask(server.address, "POST", "/v1/segment", chunks()))[0] == 413  # which announces no length
        with Client(server.address) as client, pytest.raises(ServiceError, match=r"larger than 0\.01 MB") as refused:
            client.segment(bytes(4_000_000))  # which is not read before it is refused
        assert refused.value.status == 413


# ---- facts


def test_health_and_metrics(served, client):
    assert client.is_ready()
    client.segment(noise(8))
    status, headers, content = ask(served.address, "GET", "/metrics")
    text = content.decode()
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert re.search(r'^kerbseg_requests_total\{route="/v1/segment",status="200"\} [1-9]', text, re.MULTILINE)
    assert re.search(r'^kerbseg_pictures_total\{model="first"\} [1-9]', text, re.MULTILINE)
    assert "\nkerbseg_queue_pictures 0\nkerbseg_" not in text  # help and type stand between
    assert "\nkerbseg_queue_pictures 0\n" in text
    assert "\nkerbseg_queue_limit 64\n" in text
    counts = [
        int(each)
        for each in re.findall(r'^kerbseg_request_seconds_bucket\{route="/v1/segment",le="[^"]+"\} (\d+)$', text, re.M)
    ]
    assert counts == sorted(counts)
    (number,) = re.findall(r'^kerbseg_request_seconds_count\{route="/v1/segment"\} (\d+)$', text, re.M)
    assert counts[-1] == int(number) > 0
    for line in text.splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) \w+ .+|\w+(\{\w+="[^"]*"(,\w+="[^"]*")*\})? [\d.e+-]+', line), line


def test_addresses_that_are_not_there_are_one_line_of_metrics(served):
    for path in ("/a", "/b", "/c%22"):
        ask(served.address, "GET", path)
    text = ask(served.address, "GET", "/metrics")[2].decode()
    assert len(re.findall(r'^kerbseg_requests_total\{route="other",status="404"\}', text, re.MULTILINE)) == 1


def test_the_page_and_the_description_name_every_address(served):
    description = json.loads(ask(served.address, "GET", "/openapi.json")[2])
    paths = set(description["paths"])
    assert {"/v1/segment", "/v1/segment_batch", "/v1/models", "/v1/card", "/health", "/metrics", "/v2"} <= paths
    body = description["paths"]["/v1/segment"]["post"]["requestBody"]["content"]
    assert set(body) == {"multipart/form-data", "image/*"}
    answers = {path: set(each["responses"]) for path, by in description["paths"].items() for each in by.values()}
    assert answers["/v1/card"] == {"200", "400", "401", "404"}
    assert {"400", "422"} <= answers["/v1/segment"]
    status, headers, content = ask(served.address, "GET", "/docs")
    page = content.decode()
    assert "Validation Error" not in page, "what is not understood is answered by 400"
    assert (status, headers["content-type"]) == (200, "text/html; charset=utf-8")
    for path in paths:
        assert f"<code>{path}</code>" in page
    assert not re.search(r"""(?:src|href|action)=["']?(?:https?:)?//""", page), "it asks no other server for anything"


# ---- keys and origins


def test_keys(tmp_path):
    path = tmp_path / "keys"
    path.write_text(f"# of the robots\n\n{KEY}\nfedcba9876543210\n")
    with running(service(Bright()), keys=read_keys(path)) as server:
        for given in ({}, {"X_API_Key": "0123456789abcdeX"}, {"Authorization": f"Basic {KEY}"}):
            answer = ask(server.address, "GET", "/v1/models", **given)
            assert error(answer) == (401, "this service asks for a key; send it as the header X-API-Key")
        for given in ({"X_API_Key": KEY}, {"Authorization": "Bearer fedcba9876543210"}):
            assert ask(server.address, "GET", "/v1/models", **given)[0] == 200
        for path in ("/health", "/docs", "/openapi.json", "/v2/health/live", "/v2/health/ready"):
            assert ask(server.address, "GET", path)[0] == 200
        assert (Client(server.address, key=KEY).segment(noise(1)).ids <= 1).all()
        with pytest.raises(ServiceError, match="asks for a key") as refused:
            Client(server.address).segment(noise(1))
        assert refused.value.status == 401


@pytest.mark.parametrize(
    ("text", "words"),
    [("# none\n", "holds none"), ("short\n", "key 1 is not 16 or more"), ("0123456789 abcdefg\n", "key 1"),
     ("schlüsselschlüssel\n", "key 1"), (None, "cannot be read"), (b"\xff\xfe", "it is no text")],
)  # fmt: skip
def test_keys_that_cannot_be(tmp_path, text, words):
    path = tmp_path / "keys"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(KerbsegError, match=words):
        read_keys(path)


def test_a_mark_before_a_text_is_of_no_key(tmp_path):
    (tmp_path / "keys").write_bytes(b"\xef\xbb\xbf" + KEY.encode())
    assert read_keys(tmp_path / "keys") == (KEY,)


def test_pages_of_other_origins_are_let_in_where_they_are_named(served):
    origin = {"Origin": "https://example.org"}
    assert "access-control-allow-origin" not in ask(served.address, "GET", "/v1/models", **origin)[1]
    with running(service(Bright()), keys=[KEY], origins=["https://example.org"]) as server:
        preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "x-api-key"}
        status, headers, _ = ask(server.address, "OPTIONS", "/v1/segment", **origin, **preflight)
        assert (status, headers["access-control-allow-origin"]) == (200, "https://example.org")
        _, headers, _ = ask(server.address, "GET", "/v1/models", **origin, X_API_Key=KEY)
        assert headers["access-control-allow-origin"] == "https://example.org"
        _, headers, _ = ask(server.address, "GET", "/v1/models", Origin="https://example.com", X_API_Key=KEY)
        assert "access-control-allow-origin" not in headers


# ---- what a client cannot use


@pytest.mark.parametrize(
    "address",
    ["127.0.0.1:8000", "ftp://127.0.0.1", "http://", "http://127.0.0.1:99999", "http://127.0.0.1:x", "http://[::1",
     "http://127.0.0 .1"],
)  # fmt: skip
def test_addresses_of_no_service(address):
    with pytest.raises(KerbsegError, match=re.escape(f"address {address!r} is none of a service; write http://")):
        Client(address)
    with pytest.raises(KerbsegError, match="is none of a service"):
        Client("http://127.0.0.1/?a=b")


def test_neither_passwords_nor_keys_are_shown():
    with pytest.raises(KerbsegError, match="with a user's name") as refused:
        Client("http://me:secret@127.0.0.1:8000")
    assert "secret" not in str(refused.value)
    for key in ("secret\n0123456789", "secret 0123456789", "secret\u20ac0123456789", ""):
        with pytest.raises(KerbsegError, match="the key is not of letters, digits and signs") as refused:
            Client(key=key)
        assert "secret" not in str(refused.value)


def test_the_case_of_a_scheme_does_not_matter(served, predictor):
    with Client(served.address.replace("http", "HTTP") + "/") as client, client.frames() as stream:
        stream.send(noise(1))
        assert (stream.receive().prediction.ids == predictor(noise(1)).ids).all()


@pytest.mark.parametrize("content", [b"<html>", b"{}", b'{"detail": []}', b"[1]", b"null", b"\xff", b""])
def test_a_server_of_something_else(content):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            self.rfile.read(int(self.headers["Content-Length"] or 0))
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET

        def log_message(self, *words):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server, ThreadPoolExecutor(1) as runner:
        runner.submit(server.serve_forever, 0.01)
        try:
            with Client(f"http://127.0.0.1:{server.server_port}") as client:
                assert not client.is_ready()
                asks = [client.card, client.models, lambda: client.segment(WHOLE), lambda: client.draw(WHOLE)]
                for ask_it in [*asks, lambda: client.segment_batch([WHOLE])]:
                    with pytest.raises(ServiceError, match="does not answer as a service of kerbseg does"):
                        ask_it()
        finally:
            server.shutdown()


# ---- what cannot be served


@pytest.mark.parametrize("port", [-1, 65_536, 70_000])
def test_a_port_that_is_none(port):
    with pytest.raises(KerbsegError, match=f"port is {port}; give 0 to 65,535"):
        ServerOptions(port=port)


@pytest.mark.parametrize(
    "origin", ["example.org", "https://example.org/", "https://Example.org", "https://example.org:443", "null", ""]
)
def test_an_origin_that_no_browser_sends(origin):
    with pytest.raises(KerbsegError, match=f"origin '{origin}' is none that a browser sends"):
        ServerOptions(origins=[origin])


def test_origins_that_browsers_send():
    for origin in ("*", "https://a.example.org", "http://localhost:8080", "http://[::1]:8080", "moz-extension://a-b"):
        ServerOptions(origins=[origin])


def test_a_port_that_is_taken(served):
    port = urlsplit(served.address).port
    with pytest.raises(KerbsegError, match=rf"cannot listen at 127.0.0.1:{port}: .*choose another --host or --port"):
        Server(service(Bright()), ServerOptions(port=port))


def test_a_host_that_is_none():
    with pytest.raises(KerbsegError, match=r"cannot listen at 256.0.0.1:0"):
        Server(service(Bright()), ServerOptions("256.0.0.1", 0))


def test_models_are_named_by_their_files_or_as_one_says(tmp_path, camvid_bundle):
    for place in ("runs/day/best.safetensors", "night.safetensors", "a=b.safetensors", "in the dark.safetensors"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).write_bytes(camvid_bundle.read_bytes())
    run, night, sign, blank = (
        str(tmp_path / each) for each in ("runs/day", "night.safetensors", "a=b.safetensors", "in the dark.safetensors")
    )
    assert named([run, night, "mininet_v2_cpu-camvid", f"dark={blank}"]) == {
        "day": run, "night": night, "mininet_v2_cpu-camvid": "mininet_v2_cpu-camvid", "dark": blank,
    }  # fmt: skip
    assert named(["hf://me/streets", "old=hf://me/streets@v1"]) == {
        "streets": "hf://me/streets", "old": "hf://me/streets@v1",
    }  # fmt: skip
    with pytest.raises(KerbsegError, match="both called night; name one of them: NAME="):
        named([night, f"night={run}"])
    for each in (blank, sign):
        with pytest.raises(KerbsegError, match="cannot stand in an address"):
            named([each])
    with pytest.raises(KerbsegError, match="does not exist"):
        named([str(tmp_path / "none.onnx")])
