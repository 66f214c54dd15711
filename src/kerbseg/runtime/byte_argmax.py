"""The class of the largest of a pixel's uint8 logits, in one step of wide registers.

A loop over 11 or 19 classes is too short for a compiler to spread over a register, since it does not know their number.
Here a register of 16 or 32 values is loaded whole; each becomes `256 * level + 255 - class`, what belongs to the next
pixel becomes 0, and the maximum of those says the class: the first one of equal levels. Ten times as fast.
"""

from __future__ import annotations

from typing import Any

from kerbseg.core.errors import MissingExtra
from kerbseg.runtime.upsample_kernels import compiled

try:
    from llvmlite import ir
    from numba import types
    from numba.core import cgutils
    from numba.extending import intrinsic
except ImportError as error:
    raise MissingExtra("numba", "export") from error


def _top_of(lanes: int) -> Any:
    """Reads the class of a pixel, whose levels begin at a place of a flat array, by a register of `lanes` levels."""

    @intrinsic
    def top(_context, levels, at, classes):  # type: ignore[no-untyped-def] # numba's own types
        def generate(context, builder, signature, values):  # type: ignore[no-untyped-def]
            byte, short, wide = ir.IntType(8), ir.IntType(16), ir.VectorType(ir.IntType(16), lanes)
            array = context.make_array(signature.args[0])(context, builder, values[0])
            start = builder.bitcast(builder.gep(array.data, [values[1]]), ir.VectorType(byte, lanes).as_pointer())
            level = builder.zext(builder.load(start, align=1), wide)
            level = builder.shl(level, ir.Constant(wide, [8] * lanes))
            keyed = builder.or_(level, ir.Constant(wide, [255 - lane for lane in range(lanes)]))
            own = builder.icmp_unsigned("<", ir.Constant(wide, list(range(lanes))), _spread(builder, values[2], wide))
            keyed = builder.select(own, keyed, ir.Constant(wide, [0] * lanes))
            name, kind = f"llvm.vector.reduce.umax.v{lanes}i16", ir.FunctionType(short, [wide])
            largest = builder.call(cgutils.get_or_insert_function(builder.module, kind, name), [keyed])
            return builder.xor(builder.trunc(largest, byte), ir.Constant(byte, 255))

        return types.uint8(levels, at, classes), generate

    return top


def _spread(builder: Any, value: Any, wide: Any) -> Any:
    """A register that holds one number in each lane."""
    nothing, index = ir.Constant(wide, ir.Undefined), ir.IntType(32)
    one = builder.insert_element(nothing, builder.trunc(value, wide.element), ir.Constant(index, 0))
    return builder.shuffle_vector(one, nothing, ir.Constant(ir.VectorType(index, wide.count), [0] * wide.count))


_top_of_16, _top_of_32 = _top_of(16), _top_of(32)


@compiled
def byte_argmax(levels, shape, ids, first, last):  # type: ignore[no-untyped-def]
    """Ids [b H W] of some rows from levels [b h w k] in a flat array, whose `shape` is h w k; of at most 32 classes."""
    height, width, classes = shape[0], shape[1], shape[2]
    lanes = 16 if classes <= 16 else 32
    for b in range(ids.shape[0]):
        for y in range(first, last):
            line, at = ids[b, y], (b * height + y) * width * classes
            for x in range(ids.shape[2]):
                if at + lanes > levels.size:  # a register would reach beyond the end
                    top = 0
                    for k in range(1, classes):
                        top = k if levels[at + k] > levels[at + top] else top
                    line[x] = top
                elif lanes == 16:
                    line[x] = _top_of_16(levels, at, classes)
                else:
                    line[x] = _top_of_32(levels, at, classes)
                at += classes
