"""Names and addresses of others do no harm where they are shown."""

import pytest

from kerbseg.core.errors import DataError, KerbsegError
from kerbseg.core.text import counted, printable, redact


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("road", "road"),
        ("道路 – Straße ½", "道路 – Straße ½"),
        ("\x1b]0;title\x07\x1b[31mred", r"\x1b]0;title\x07\x1b[31mred"),
        ("\x9b31m", r"\x9b31m"),
        ("a\nb\tc\rd\x7f", r"a\nb\tc\rd\x7f"),
        ("gpj.\u202etxt", r"gpj.\u202etxt"),
        ("caf\udce9.png", r"caf\udce9.png"),
    ],
)
def test_nothing_that_a_terminal_obeys_is_left(text, shown):
    assert printable(text) == shown
    assert printable(shown) == shown
    shown.encode("utf-8")


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("street.jpg", "street.jpg"),
        ("rtsp://10.0.0.1:554/ch1", "rtsp://10.0.0.1:554/ch1"),
        ("rtsp://admin:hunter2@10.0.0.1:554/ch1", "rtsp://***@10.0.0.1:554/ch1"),
        ("rtsp://admin:p@ss:w0rd@cam/ch1", "rtsp://***@cam/ch1"),
        ("rtsp://admin:pa/ss@cam/ch1", "rtsp://***@cam/ch1"),
        ("https://t0ken@cam/ch1", "https://***@cam/ch1"),
        ("http://cam:8080/a@2x.mjpg", "http://cam:8080/a@2x.mjpg"),
        ("http://cam/live.m3u8?token=abc&x=1#key", "http://cam/live.m3u8?***"),
        ("rtsp://cam:554/user=admin&password=abc&channel=1", "rtsp://cam:554/user=admin&password=***&channel=1"),
        ("http://[::1", "http://[::1"),
        ("HTTP://a:b@[::1]/x", "HTTP://***@[::1]/x"),
        ("cannot open 'rtsp://a:b@cam/x'; see http://u:v@w", "cannot open 'rtsp://***@cam/x'; see http://***@w"),
    ],
)
def test_what_lets_others_in_is_left_out(address, shown):
    assert redact(address) == shown


@pytest.mark.parametrize("error", [KerbsegError, DataError])
def test_an_error_shows_neither(error):
    message = str(error("'\x1b[2J\n.png'  of rtsp://a:b@cam/x?k=v is no picture"))
    assert message == r"'\x1b[2J .png' of rtsp://***@cam/x?*** is no picture"


def test_one_is_one():
    assert [counted(number, "thread") for number in (0, 1, 2)] == ["0 threads", "1 thread", "2 threads"]
