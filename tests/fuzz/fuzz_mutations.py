"""Ways to spoil a file: its bytes, its text, the values of its JSON or YAML, its protocol buffers, its XML."""

from __future__ import annotations

import copy
import math
import re
import struct
from collections.abc import Callable
from random import Random
from typing import Any
from xml.etree import ElementTree

NUMBERS = (0, 1, -1, 2, 3, 127, 255, 256, 65535, 2**31 - 1, 2**31, -(2**31), 2**32, 2**63 - 1, 2**63, 10**30)
FLOATS = (math.nan, math.inf, -math.inf, 1e308, -1e-308, 0.5, -0.0)
TEXTS = (
    "", " ", "0", "-1", "null", "../../etc/passwd", "/dev/null", "x" * 100_000, "\x1b]0;title\x07\x1b[31m",
    "[red]a[/b]", "\u202e\ufeff", "日本語", "\ud800", "a\nb", "%s%n{0}{{", "true", "1e400", "nan",
)  # fmt: skip


def nested(depth: int) -> list[Any]:
    """A list in a list in a list."""
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


def odd_value(draw: Random, like: Any = None) -> Any:
    """A value that nobody expects; now and then a near one of the same kind."""
    if isinstance(like, bool):
        return draw.choice([not like, None, 1, "yes"])
    if isinstance(like, int | float) and draw.random() < 0.5:
        return draw.choice([like + 1, like - 1, -like, like * 2, like / 3, like * 1e6, str(like), [like]])
    if isinstance(like, str) and like and draw.random() < 0.4:
        at = draw.randrange(len(like))
        return draw.choice(
            [like[:at], like[:at] + chr(ord(like[at]) ^ 1) + like[at + 1 :], like.upper(), [like], like * 2]
        )
    return draw.choice(
        [
            None,
            True,
            False,
            [],
            {},
            draw.choice(NUMBERS),
            draw.choice(FLOATS),
            draw.choice(TEXTS),
            nested(30),
            [1] * 5000,
        ]
    )


def change_value(draw: Random, value: Any) -> tuple[Any, str]:
    """A copy of JSON or YAML values in which one place is spoiled, and what was done, in words."""
    value = copy.deepcopy(value)
    places = list(_places(value))
    if not places:
        return odd_value(draw, value), "all replaced"
    inside, key = draw.choice(places)
    how = draw.choices(["replace", "remove", "rename", "repeat"], [7, 1.5, 1, 0.5])[0]
    if how == "replace":
        new = odd_value(draw, inside[key])
        inside[key] = new
        return value, f"{key} = {new!r:.60}"
    if how == "repeat" and isinstance(inside, list):
        inside.extend(copy.deepcopy(inside[key]) for _ in range(draw.choice([1, 300])))
    elif how == "rename" and isinstance(inside, dict):
        inside[draw.choice([f"{key}x", "", str(key)[:-1], "__class__"])] = inside.pop(key)
    else:
        del inside[key]
    return value, f"{how} {key}"


def _places(value: Any) -> Any:
    keys = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in list(keys):
        yield value, key
        yield from _places(inner)


def change_bytes(draw: Random, data: bytes, start: int = 0) -> tuple[bytes, str]:
    """The bytes with one accident behind `start`, and which."""
    how = draw.choice(list(ACCIDENTS))
    head, tail = data[:start], data[start:]
    return head + ACCIDENTS[how](draw, tail), how


def cut(draw: Random, data: bytes) -> bytes:
    """The beginning of the bytes; often only a little is gone."""
    return (
        data[: max(0, len(data) - draw.randint(1, 200))]
        if draw.random() < 0.3
        else data[: draw.randrange(len(data) + 1)]
    )


def flip(draw: Random, data: bytes) -> bytes:
    """One bit is another."""
    return _at(draw, data, 1, lambda old: bytes([old[0] ^ 1 << draw.randrange(8)]))


def number(draw: Random, data: bytes) -> bytes:
    """Four or eight bytes become a number that is easily forgotten."""
    width = draw.choice([2, 4, 8])
    value = draw.choice(NUMBERS) % (1 << 8 * width)
    return _at(draw, data, width, lambda old: value.to_bytes(width, draw.choice(["big", "little"])))


def _span(draw: Random, data: bytes) -> tuple[int, int]:
    start = draw.randrange(len(data) + 1)
    return start, min(len(data), start + draw.choice([1, 4, 16, 64, 512, 4096]))


def _at(draw: Random, data: bytes, width: int, new: Callable[[bytes], bytes]) -> bytes:
    if len(data) < width:
        return data
    at = draw.randrange(len(data) - width + 1)
    return data[:at] + new(data[at : at + width]) + data[at + width :]


def _insert(draw: Random, data: bytes) -> bytes:
    at = draw.randrange(len(data) + 1)
    return data[:at] + draw.randbytes(draw.choice([1, 2, 7, 64, 5000])) + data[at:]


def _remove(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + data[end:]


def _double(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:end] + data[start:end] + data[end:]


def _swap(draw: Random, data: bytes) -> bytes:
    (a, b), (c, d) = sorted([_span(draw, data), _span(draw, data)])
    return data if b > c else data[:a] + data[c:d] + data[b:c] + data[a:b] + data[d:]


def _noise(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + draw.randbytes(end - start) + data[end:]


def _zeros(draw: Random, data: bytes) -> bytes:
    start, end = _span(draw, data)
    return data[:start] + bytes(end - start) + data[end:]


ACCIDENTS: dict[str, Callable[[Random, bytes], bytes]] = {
    "cut": cut, "flip": flip, "number": number, "insert": _insert, "remove": _remove, "double": _double, "swap": _swap,
    "noise": _noise, "zeros": _zeros, "empty": lambda draw, data: b"",
    "append": lambda draw, data: data + draw.randbytes(draw.choice([1, 8, 300])),
    "many flips": lambda draw, data: flip(draw, flip(draw, flip(draw, flip(draw, data)))),
}  # fmt: skip


def change_text(draw: Random, text: str) -> tuple[bytes, str]:
    """Text in which a number, a line, a word or the encoding is another."""
    lines = text.splitlines(keepends=True) or [""]
    at = draw.randrange(len(lines))
    how = draw.choice(["number", "number", "word", "drop", "double", "swap", "indent", "encoding", "symbol"])
    if how in ("number", "word"):
        matches = list(re.finditer(r"-?\d+(\.\d+)?(e-?\d+)?" if how == "number" else r"[A-Za-z_]{2,}", text))
        if matches:
            match = draw.choice(matches)
            new = str(odd_value(draw, 7 if how == "number" else match[0]))
            text = text[: match.start()] + new + text[match.end() :]
        return text.encode(errors="surrogatepass"), f"{how} {draw.random():.0f}"
    if how == "encoding":
        codec = draw.choice(["utf-16", "latin-1", "utf-8-sig", "utf-32"])
        return ("# réseau\n" + text).encode(codec), f"encoding {codec}"
    if how == "drop":
        del lines[at]
    elif how == "double":
        lines[at:at] = lines[at : at + 1] * draw.choice([1, 1, 2000])
    elif how == "swap":
        other = draw.randrange(len(lines))
        lines[at], lines[other] = lines[other], lines[at]
    elif how == "indent":
        lines[at] = draw.choice(["  ", "\t", "- ", "{", "? "]) + lines[at]
    else:
        column = draw.randrange(len(lines[at]) + 1)
        symbol = draw.choice(
            ["\0", "\x07", ":", ": ", "{", "]", "'", '"', "&a ", "*a ", "!x ", "%", "|", "\u2028", "@"]
        )
        lines[at] = lines[at][:column] + symbol + lines[at][column:]
    return "".join(lines).encode(), how


YAML_TRAPS: dict[str, str] = {
    "anchor bomb": "a0: &a0 [x,x,x,x,x,x,x,x,x]\n"
    + "".join(f"a{n}: &a{n} [{','.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9)),
    "value bomb": "{key}: " + "&a0 [1,2]\n" + "b: [" + ",".join(["*a0"] * 20_000) + "]\n",
    "cycle": "{key}: &a [*a]\n",
    "cycle of mappings": "{key}: &a {x: *a}\n",
    "deep lists": "{key}: " + "[" * 5000 + "]" * 5000 + "\n",
    "deep mappings": "{key}: " + "{a: " * 3000 + "1" + "}" * 3000 + "\n",
    "tag": '{key}: !!int "0x"\n',
    "python tag": "{key}: !!python/object/apply:os.system [exit 7]\n",
    "own tag": "{key}: !new {a: 1}\n",
    "binary": "{key}: !!binary abc\n",
    "set": "{key}: !!set {a, b}\n",
    "date": "{key}: 2020-13-45\n",
    "good date": "{key}: 2020-10-10\n",
    "time": "{key}: 2001-12-14t21:59:43.10-05:00\n",
    "sexagesimal": "{key}: 190:20:30\n",
    "huge int": "{key}: " + "9" * 6000 + "\n",
    "hex": "{key}: 0x7fffffffffffffffffff\n",
    "nan": "{key}: .nan\n",
    "inf": "{key}: -.inf\n",
    "list key": "? [1, 2]\n: {key}\n",
    "mapping key": "? {a: 1}\n: {key}\n",
    "merge": "<<: {}\n{key}: 1\n",
    "merge of text": "<<: {key}\n",
    "two documents": "---\n{key}: 1\n---\n{key}: 2\n",
    "twice": "{key}: 1\n{key}: 2\n",
    "undefined alias": "{key}: *nowhere\n",
    "directive": "%YAML 9.9\n---\n{key}: 1\n",
    "many keys": "".join(f"k{n}: 1\n" for n in range(30_000)),
    "null": "",
    "word": "just words\n",
    "list": "- {key}\n",
    "tab": "\t{key}: 1\n",
    "nul": "{key}: \0\n",
    "control": "{key}: \x07\n",
    "bom inside": "{key}: \ufeff1\n",
    "surrogate escape": '{key}: "\\ud800"\n',
    "long key": "x" * 5000 + ": 1\n",
}
"""Documents by what is wrong with them; {key} stands for a key that the reader knows."""


def change_message(draw: Random, message: Any) -> str:
    """Spoils one field of a protocol buffer in place; says which."""
    fields = list(_fields(message, message.DESCRIPTOR.name))
    holder, field, path = draw.choice(fields)
    value = getattr(holder, field.name)
    repeated = getattr(field, "is_repeated", None)
    repeated = field.label == field.LABEL_REPEATED if repeated is None else repeated
    how = (
        draw.choice(["clear", "double", "swap", "change", "change"])
        if repeated
        else draw.choice(["clear", *["change"] * 4])
    )
    try:
        if how == "clear" and not repeated:
            holder.ClearField(field.name)
        elif how == "clear":
            del value[draw.randrange(len(value))]
        elif how == "double":
            value.append(copy.deepcopy(value[draw.randrange(len(value))]))
        elif how == "swap":
            one, other = draw.randrange(len(value)), draw.randrange(len(value))
            first, second = copy.deepcopy(value[one]), copy.deepcopy(value[other])
            _put(value, one, second), _put(value, other, first)
        elif repeated:
            at = draw.randrange(len(value))
            _put(value, at, _odd_scalar(draw, value[at]))
        else:
            setattr(holder, field.name, _odd_scalar(draw, value))
    except (ValueError, TypeError, AttributeError, OverflowError):  # a value that the field cannot hold
        holder.ClearField(field.name)
        how = "clear"
    return f"{how} {path}.{field.name}"


def _put(values: Any, at: int, value: Any) -> None:
    if hasattr(value, "CopyFrom"):
        values[at].CopyFrom(value)
    else:
        values[at] = value


def _odd_scalar(draw: Random, value: Any) -> Any:
    if isinstance(value, bytes):
        return change_bytes(draw, value)[0]
    if isinstance(value, str):
        return str(odd_value(draw, value)).encode(errors="replace").decode()
    if isinstance(value, float):
        return draw.choice([*FLOATS, value * 2, -value, value + 1])
    if isinstance(value, int):
        return draw.choice([*NUMBERS[:11], -1, value + 1, value - 1])
    raise TypeError


def _fields(message: Any, path: str) -> Any:
    for field, value in message.ListFields():
        yield message, field, path
        if field.message_type is not None:
            repeated = hasattr(value, "__len__") and not hasattr(value, "ListFields")
            for number, each in enumerate(value if repeated else [value]):
                if number < 200:
                    yield from _fields(each, f"{path}.{field.name}")


XML_TRAPS: dict[str, str] = {
    "entity bomb": '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a0 "aaaaaaaaaa">'
    + "".join(f'<!ENTITY a{n} "{f"&a{n - 1};" * 10}">' for n in range(1, 10))
    + ']><net name="&a9;" version="11"></net>',
    "external entity": '<?xml version="1.0"?><!DOCTYPE net [<!ENTITY a SYSTEM "file:///etc/passwd">]>'
    + '<net name="&a;" version="11"/>',
    "deep": '<?xml version="1.0"?>' + "<net>" * 20_000 + "</net>" * 20_000,
    "no layers": '<?xml version="1.0"?><net name="x" version="11"><layers></layers><edges></edges></net>',
    "other root": '<?xml version="1.0"?><html/>',
    "old version": '<?xml version="1.0"?><net name="x" version="2"/>',
}


def change_xml(draw: Random, text: str) -> tuple[bytes, str]:
    """XML with one element or attribute spoiled."""
    if draw.random() < 0.06:
        name = draw.choice(list(XML_TRAPS))
        return XML_TRAPS[name].encode(), name
    root = ElementTree.fromstring(text)
    elements = [(parent, child) for parent in root.iter() for child in parent]
    parent, child = draw.choice(elements)
    how = draw.choice(["attribute"] * 5 + ["remove", "double", "move", "text", "tag"])
    if how == "attribute" and child.attrib:
        key = draw.choice(list(child.attrib))
        old = child.attrib[key]
        new = odd_value(draw, int(old) if re.fullmatch(r"\d+", old) else old)
        child.attrib[key] = re.sub(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff]", "", str(new))
        how = f"{child.tag}.{key}: {old:.30} -> {child.attrib[key]:.30}"
    elif how == "double":
        parent.append(copy.deepcopy(child))
    elif how == "move":
        parent.remove(child)
        root.append(child)
    elif how == "text":
        child.text = str(draw.choice(NUMBERS))
    elif how == "tag":
        child.tag += "x"
    else:
        parent.remove(child)
        how = "remove"
    return ElementTree.tostring(root), f"{how} ({child.tag})" if "." not in how else how


def odd_floats(draw: Random, data: bytes, start: int, end: int) -> bytes:
    """One float32 in the bytes becomes NaN, infinite or huge."""
    at = start + 4 * draw.randrange(max(1, (end - start) // 4))
    return data[:at] + struct.pack("<f", draw.choice([math.nan, math.inf, -math.inf, 3e38])) + data[at + 4 :]
