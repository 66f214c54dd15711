"""YAML that others wrote is read as they mean it, and what would harm is refused in one line."""

from pathlib import Path

import pytest

from kerbseg.core.errors import KerbsegError
from kerbseg.core.strict_yaml import load_yaml

PLAIN = {
    "010": 10,  # YAML 1.1 says eight
    "08": 8,
    "-007": -7,
    "0x1F": 31,
    "1_000": 1000,
    "1e-3": 0.001,
    "+.5": 0.5,
    "1:30": "1:30",  # YAML 1.1 says ninety
    "2020-13-45": "2020-13-45",  # no date at all
    "2020-01-01": "2020-01-01",
    "{<<: {a: 1}, a: 2}": {"a": 2},
    "b: &b [1, 2]\nc: *b": {"b": [1, 2], "c": [1, 2]},
}

REFUSED = {
    "a: &a [*a]": r"\*a stands within itself",
    "a: &a {b: *a}": r"\*a stands within itself",
    "[" * 5000: "more than 50 deep",
    "- " * 5000: "more than 50 deep",
    "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 9)): "more than 20000 values",
    "".join(f"k{i}: 1\n" for i in range(11_000)): "more than 20000 values",
    "#" * 300_000: "more than 256 KiB",
    "!!int '0x'": "'0x' is no int",
    "!!bool maybe": "'maybe' is no bool",
    "!!float x": "'x' is no float",
    "!!map x": "'map' is no kind of value",
    "!!binary aa": "'binary' is no kind of value",
    "!!timestamp 2020-01-01": "'timestamp' is no kind of value",
    "!!python/object/apply:os.system [ls]": "is no kind of value",
    "9" * 5000: "is no int",
    "{a: 1, a: 2}": "key 'a' stands twice",
    "classes:\n  - name: a\n    name: b": "key 'name' stands twice",
    "{[1]: 2}": "a key is a list or mapping",
    "*x": "undefined alias 'x'",
}


@pytest.mark.parametrize("text", PLAIN)
def test_values_are_those_that_people_mean(text: str) -> None:
    value = load_yaml(text, "it")
    assert value == PLAIN[text]
    assert type(value) is type(PLAIN[text])


@pytest.mark.parametrize("text", REFUSED, ids=lambda text: text[:20])
def test_what_would_harm_is_refused(text: str) -> None:
    with pytest.raises(KerbsegError, match=rf"^it .*{REFUSED[text]}") as caught:
        load_yaml(text, "it")
    assert len(str(caught.value)) < 400


def test_file_is_read_as_the_text_in_it(tmp_path: Path) -> None:
    from kerbseg.core.strict_yaml import read_yaml

    path = tmp_path / "a.yaml"
    path.write_bytes("a: é".encode())
    assert read_yaml(path) == {"a": "é"}
    path.write_bytes("a: é".encode("latin-1"))
    with pytest.raises(KerbsegError, match=r"a\.yaml is no UTF-8 text"):
        read_yaml(path)
    path.write_bytes(b"#" * 300_000)
    with pytest.raises(KerbsegError, match=r"a\.yaml has more than 256 KiB"):
        read_yaml(path)
    for folder in (tmp_path, tmp_path / "no"):
        with pytest.raises(KerbsegError, match="is no file"):
            read_yaml(folder)


@pytest.mark.parametrize("text", ["08", "0o17", "1e-3", "1:30", "2020-01-01", "yes", "", "=", "a: b", "010"])
def test_text_stays_text_when_it_is_written(text: str) -> None:
    from kerbseg.core.strict_yaml import dump_yaml

    assert load_yaml(dump_yaml({"a": [text]}), "it") == {"a": [text]}
