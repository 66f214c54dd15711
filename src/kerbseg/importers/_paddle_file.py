"""Reads the weights in a file of PaddlePaddle (`.pdparams`), a Python pickle; nothing in the file is executed.

The pickle's instructions are followed one by one, and those alone that a dictionary of arrays of numbers needs. None of
them calls or imports anything: where the pickle names a function of numpy, the array is made here.
"""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from torch import Tensor

from kerbseg.core.errors import BundleError
from kerbseg.importers._files import bare_names, require_file

NAMES = "StructuredToParameterName@@"  # Paddle's entry beside the weights: a second name of each
FLOATS = ("f2", "f4", "f8")
GZIP, ZIP = b"\x1f\x8b", b"PK"
MARK = object()
DAMAGED = (ValueError, IndexError, KeyError, OverflowError, UnicodeError, MemoryError)  # of pickletools, for odd bytes


class Foreign(Exception):
    """What a file holds that no weights need."""


@dataclass(frozen=True)
class Named:
    """A function or class that the pickle names."""

    name: str


@dataclass
class Kind:
    """The type of an array's numbers; the pickle tells the order of their bytes a moment later."""

    code: str
    order: str = "="

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "=", "|"):
            raise Foreign("numbers of an unknown kind")
        self.order = state[1]


@dataclass
class Array:
    """An array, whose content the pickle tells a moment later."""

    values: np.ndarray[Any, Any] | None = None

    def build(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) != 5:
            raise Foreign("an array of an unknown form")
        _, shape, kind, fortran, content = state
        self.values = numbers(content, kind, shape, "F" if fortran else "C")


def numbers(content: Any, kind: Any, shape: Any, order: str) -> np.ndarray[Any, Any]:
    """The array of these bytes. Raises Foreign where they are no floats, or not as many as the shape says."""
    if not isinstance(kind, Kind):
        raise Foreign("numbers of an unknown kind")
    if kind.code not in FLOATS:
        raise Foreign(f"an array of {'objects' if kind.code.startswith('O') else repr(kind.code[:20])}, not of floats")
    if not isinstance(shape, tuple) or len(shape) > 8 or not all(type(n) is int and 0 <= n < 2**40 for n in shape):
        raise Foreign("an array without a sensible shape")
    if isinstance(content, str):  # as Python 2 wrote bytes
        content = content.encode("latin1")
    if not isinstance(content, bytes):
        raise Foreign("an array without bytes")
    if len(content) != math.prod(shape) * int(kind.code[1:]):
        raise Foreign(f"an array that claims {list(shape)} numbers in {len(content):,} bytes")
    native = "=" if kind.order == "|" else kind.order
    return np.frombuffer(content, native + kind.code).reshape(shape, order="F" if order == "F" else "C")


def _frombuffer(content: Any, kind: Any, shape: Any, order: Any) -> Array:
    return Array(numbers(content, kind, shape, order))


def _encoded(text: Any, encoding: Any) -> bytes:
    if not isinstance(text, str) or encoding != "latin1":
        raise Foreign("bytes in an unknown encoding")
    return text.encode("latin1")


def _table() -> dict[str, Any]:
    return {}


def _kind(code: Any, *rest: Any) -> Kind:
    if not isinstance(code, str):
        raise Foreign("numbers of an unknown kind")
    return Kind(code.lstrip("<>=|"), code[0] if code[:1] in "<>" else "=")


MADE: dict[str, Callable[..., Any]] = {  # what pickles of arrays name, under the spellings of all versions of numpy
    "collections.OrderedDict": _table,
    "_codecs.encode": _encoded,
    "numpy.dtype": _kind,
    **{f"numpy.{core}.multiarray._reconstruct": lambda *_: Array() for core in ("core", "_core")},
    **{f"numpy.{core}.numeric._frombuffer": _frombuffer for core in ("core", "_core")},
}
MENTIONED = ("numpy.ndarray",)  # given to a function, never called


class Machine:
    """Follows the instructions of a pickle: a stack of values, and those that it refers to again."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.memo: dict[int, Any] = {}

    def above_mark(self) -> list[Any]:
        """What was put on the stack since the last mark, which is taken off, too."""
        at = max(place for place, value in enumerate(self.stack) if value is MARK)
        values = self.stack[at + 1 :]
        del self.stack[at:]
        return values

    def taken(self, count: int) -> list[Any]:
        if len(self.stack) < count:
            raise ValueError("it takes more than there is")
        values = self.stack[len(self.stack) - count :]
        del self.stack[len(self.stack) - count :]
        return values

    def name(self, module: Any, name: Any) -> None:
        full = f"{module}.{name}" if isinstance(module, str) and isinstance(name, str) else ""
        if full not in MADE and full not in MENTIONED:
            raise Foreign(f"{full[:80]!r}")
        self.stack.append(Named(full))

    def call(self) -> None:
        function, arguments = self.taken(2)
        if not isinstance(function, Named) or function.name not in MADE or not isinstance(arguments, tuple):
            raise Foreign("a call of what is no function of numpy's arrays")
        try:
            self.stack.append(MADE[function.name](*arguments))
        except TypeError as error:
            raise Foreign(f"{function.name} of {len(arguments)} values") from error

    def build(self) -> None:
        state = self.taken(1)[0]
        if not isinstance(self.stack[-1], Array | Kind):
            raise Foreign("an object with a state of its own")
        self.stack[-1].build(state)

    def fill(self, values: list[Any]) -> None:
        table = self.stack[-1]
        if not isinstance(table, dict) or not all(isinstance(key, str) for key in values[::2]) or len(values) % 2:
            raise Foreign("a table whose keys are no names")
        table.update(zip(values[::2], values[1::2], strict=True))

    def follow(self, operation: str, argument: Any) -> None:
        """One instruction. Raises Foreign for those that no weights need."""
        if operation in ("PROTO", "FRAME", "STOP"):
            return
        if operation in VALUES:
            self.stack.append(bytes(argument) if isinstance(argument, bytearray) else argument)
        elif operation in CONSTANTS:
            self.stack.append(CONSTANTS[operation]())
        elif operation == "TUPLE":
            self.stack.append(tuple(self.above_mark()))
        elif operation in ("TUPLE1", "TUPLE2", "TUPLE3"):
            self.stack.append(tuple(self.taken(int(operation[-1]))))
        elif operation in ("BINPUT", "LONG_BINPUT", "PUT"):
            self.memo[argument] = self.stack[-1]
        elif operation == "MEMOIZE":
            self.memo[len(self.memo)] = self.stack[-1]
        elif operation in ("BINGET", "LONG_BINGET", "GET"):
            self.stack.append(self.memo[argument])
        elif operation == "GLOBAL":
            self.name(*argument.split(" ", 1))
        elif operation == "STACK_GLOBAL":
            self.name(*self.taken(2))
        elif operation == "REDUCE":
            self.call()
        elif operation == "BUILD":
            self.build()
        elif operation == "SETITEM":
            self.fill(self.taken(2))
        elif operation == "SETITEMS":
            self.fill(self.above_mark())
        else:
            raise Foreign(f"the instruction {operation}")


VALUES = {
    "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "BINSTRING", "SHORT_BINSTRING", "BINBYTES", "SHORT_BINBYTES",
    "BINBYTES8", "BYTEARRAY8", "BININT", "BININT1", "BININT2", "LONG1",
}  # fmt: skip
CONSTANTS: dict[str, Callable[[], Any]] = {
    "MARK": lambda: MARK,
    "EMPTY_DICT": dict,
    "EMPTY_TUPLE": tuple,
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
}


def read_paddle(path: Path) -> dict[str, Tensor]:
    """The weights of a file by Paddle's names, without wrappers' before them, as float32, on the CPU.

    Raises BundleError for a file that is missing, damaged, foreign, or holds more than arrays of floats and names.
    """
    require_file(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise BundleError(f"{path} cannot be read ({error.strerror or error}); copy it again") from error
    if content[:2] in (GZIP, ZIP):
        raise BundleError(f"{path} is an archive, or a PyTorch file; unpack it, and give the .pdparams in it")
    if content[:1] != b"\x80":
        _refuse(path, "it is no pickle of protocol 2 or later; inference models (.pdiparams) hold no names")
    machine = Machine()
    try:
        for operation, argument, _ in pickletools.genops(BytesIO(content)):
            machine.follow(operation.name, argument)
        [state] = machine.stack
    except Foreign as error:
        raise BundleError(
            f"{path} holds {error} beside its weights, and nothing in a file is run here; save the weights alone:"
            " paddle.save(net.state_dict(), path)"
        ) from error
    except DAMAGED as error:
        _refuse(path, str(error).partition("\n")[0][:100], error)
    if not isinstance(state, dict) or not state:
        raise BundleError(f"{path} holds {type(state).__name__}, not the weights of a network by name")
    names = bare_names((key for key in state if key != NAMES), path)
    return {name: _weight(key, state[key], path) for key, name in names.items()}


def _weight(key: str, value: Any, where: Path) -> Tensor:
    if not isinstance(value, Array) or value.values is None:
        kind = "an empty array" if isinstance(value, Array) else type(value).__name__
        raise BundleError(f"{where}: {key!r} is {kind}, not weights; save the network's state_dict alone")
    with np.errstate(over="ignore"):  # what float32 cannot hold is infinite, and refused
        tensor = torch.from_numpy(np.array(value.values, np.float32, order="C"))
    if not torch.isfinite(tensor).all():
        raise BundleError(f"{where}: {key!r} holds NaN or infinite values; copy the file again")
    return tensor


def _refuse(path: Path, problem: str, error: Exception | None = None) -> NoReturn:
    raise BundleError(
        f"{path} cannot be read as a PaddlePaddle file ({problem}); it is damaged or foreign: copy it again"
    ) from error
