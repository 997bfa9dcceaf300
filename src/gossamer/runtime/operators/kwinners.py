"""K-winners, stored as functions of gossamer's own domain.

Ties go to the lowest index, and NaN counts as infinity: in the functions' bodies and the C text
here as in ``kernels/kwinners.h`` and in ``sparsity.topk``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.kernels._kernels import LIST_HEADER
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Array, Single
from gossamer.runtime.lowering.layouts import Lowering
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, floats
from gossamer.runtime.operators.operator import Convert, Operator, Operators
from gossamer.runtime.operators.unsupported import Unsupported
from gossamer.runtime.packing import BLOCK

# The functions, in ONNX's text form. TopK puts the lower index first among equal values; where it
# puts NaN is not specified. The end is a choice, not a product: a loser may be infinite.
_BODY = """
    k_scalar = Constant <value_int: int = @k> ()
    one = Constant <value = int64[1] {1}> ()
    k = Reshape (k_scalar, one)
    infinity = Constant <value_float = inf> ()
    is_nan = IsNaN (BOOSTED)
    keys = Where (is_nan, infinity, BOOSTED)
    best, index = TopK <axis = 1, largest = 1, sorted = 1> (keys, k)
    shape_of_x = Shape (VALUES)
    losers = ConstantOfShape <value = float[1] {0.0}> (shape_of_x)
    shape_of_index = Shape (index)
    winners = ConstantOfShape <value = float[1] {1.0}> (shape_of_index)
    marked = ScatterElements <axis = 1> (losers, index, winners)
    mask = Cast <to = 9> (marked)
    RESULT = Where (mask, VALUES, losers)
"""
LOCAL = f"""
KWinnersLocal <k> (X, boost) => (Y) {{
    boosted = Mul (X, boost)
    {_BODY.replace("VALUES", "X").replace("BOOSTED", "boosted").replace("RESULT", "Y")}
}}
"""
WHOLE = f"""
KWinners <k> (X, boost) => (Y) {{
    boosted = Mul (X, boost)
    flat = Flatten <axis = 1> (X)
    flat_boosted = Flatten <axis = 1> (boosted)
    {_BODY.replace("VALUES", "flat").replace("BOOSTED", "flat_boosted").replace("RESULT", "flat_y")}
    shape = Shape (X)
    Y = Reshape (flat_y, shape)
}}
"""

# What generated C calls; ``NAME`` stands for the network's.
SELECT = """
/* Floats as unsigned numbers of the same order; negative zero ties with zero, NaN with infinity. */
static uint32_t NAME_key(float x)
{
    union { float value; uint32_t bits; } u;
    if (x != x) return 0xff800000u;
    u.value = x + 0.0f;
    return u.bits & 0x80000000u ? ~u.bits : u.bits | 0x80000000u;
}

/* Keeps the k largest of x[first], x[first + step], ... below `end`, ties to the lowest index:
   the k-th largest is found digit by digit, then one pass writes. y may be x. */
static void NAME_winners(const float *x, const float *boost, int32_t each, float *y,
                         int32_t first, int32_t step, int32_t end, int32_t k)
{
    int32_t counts[256], i, digit, shift, left = k;
    uint32_t bar = 0, mask = 0;
    for (shift = 24; shift >= 0; shift -= 8) {
        for (digit = 0; digit < 256; ++digit) counts[digit] = 0;
        for (i = first; i < end; i += step) {
            const uint32_t key = NAME_key(boost ? x[i] * boost[i / each] : x[i]);
            if ((key & mask) == bar) ++counts[(key >> shift) & 255u];
        }
        for (digit = 255; counts[digit] < left; --digit) left -= counts[digit];
        bar |= (uint32_t)digit << shift;
        mask |= (uint32_t)255 << shift;
    }
    for (i = first; i < end; i += step) {
        const uint32_t key = NAME_key(boost ? x[i] * boost[i / each] : x[i]);
        const int wins = key > bar || (key == bar && left-- > 0);
        y[i] = wins ? x[i] : 0.0f;
    }
}
"""


@dataclass(frozen=True)
class Winners(Single):
    """The k largest numbers of an example, or (``local``) of its channels at each position."""

    op = "winners"

    k: int
    local: bool

    def lower(self, lowering: Lowering, node: AnyNode) -> None:
        value = lowering.values[node.inputs[0]]
        result = lowering.value(node.output)
        result.channels, result.pixels = value.channels, value.pixels
        k, local = self.k, self.local
        plain = "last" if local and value.pixels > 1 else lowering.layout(value)
        source = lowering.form(value, plain)
        size, groups = (value.channels, value.pixels) if local else (value.item, 1)
        last = plain == "last"
        inner, outer = (value.channels, value.pixels) if last and not local else (1, 1)
        capacity = k * groups
        buffer = lowering.new(result, "list last" if last else "list", LIST_HEADER + 2 * capacity)
        boost = node.constants.get("boost")
        data: Array = np.zeros(1, np.float32)
        if boost is not None:
            data = boost.reshape(value.channels, value.pixels)
            data = (data.T if last else data).reshape(-1).copy()
        lowering.add(
            node.name,
            lowering.kernel("winners"),
            (source,),
            buffer,
            {
                "size": size,
                "k": k,
                "groups": groups,
                "capacity": capacity,
                "inner": inner,
                "outer": outer,
                "boosted": boost is not None,
            },
            data=[data],
            items=value.items,
            scratch=3 * (size + 2 * BLOCK),
        )
        result.density = min(result.density, capacity / value.item)

    def write(self, writer: Writer, node: AnyNode) -> None:
        shape = writer.shape(node.output)
        channels, pixels = shape[1], math.prod(shape[2:])
        boost, each = _boost(writer, node, pixels)
        writer.helper(SELECT)
        item, k = channels * pixels, self.k
        select = f"{writer.name}_winners"
        if self.local:
            body = f"""
for (n = 0; n < {shape[0]}; ++n, x += {item}, y += {item}) {{
    for (p = 0; p < {pixels}; ++p) {select}(x, {boost}, {each}, y, p, {pixels}, {item}, {k});
}}"""
            writer.function(node, "n, p", body)
        else:
            body = f"""
for (n = 0; n < {shape[0]}; ++n, x += {item}, y += {item}) {{
    {select}(x, {boost}, {each}, y, 0, 1, {item}, {k});
}}"""
            writer.function(node, "n", body)


def _boost(writer: Writer, node: AnyNode, pixels: int) -> tuple[str, int]:
    """The table of boosts (NULL where all are one), and for how many pixels each stands."""
    boost: Array | None = node.constants.get("boost")
    if boost is None:
        return "0", 1
    planes = boost.reshape(-1, pixels)
    same = bool(np.all(planes == planes[:, :1]))
    table = f"{writer.called(node)}_boost"
    return writer.tables.floats(table, planes[:, 0] if same else boost), pixels if same else 1


def _winners(local: bool) -> Convert:
    def convert(context: Context, call: Call) -> None:
        shape = context.shape(call.value)
        k = int(call.get("k", 0))
        group = shape[1] if local else math.prod(shape[1:])
        if not 0 < k <= group:
            raise Unsupported(f"it keeps {k} winners of {group}; k must be 1 to {group}")
        constants = {}
        if named := call.optional(1):
            boost = floats(context.constant(named, "boost"))
            if not np.all(boost == 1.0):
                constants["boost"] = np.broadcast_to(boost, shape[1:]).astype(np.float32)
        context.emit(Winners(k, local), call.value, call.output, constants=constants)

    return convert


KWINNERS: Operators = {
    "gossamer.KWinners": Operator(_winners(False)),
    "gossamer.KWinnersLocal": Operator(_winners(True)),
}
