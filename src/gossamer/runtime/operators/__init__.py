"""The ONNX operators that the engine supports, one module for each family (see ``operator``)."""

from gossamer.runtime.operators.binary import BINARY
from gossamer.runtime.operators.constants import CONSTANTS
from gossamer.runtime.operators.conv import CONVOLUTIONS
from gossamer.runtime.operators.dynamic_int8 import DYNAMIC_INT8
from gossamer.runtime.operators.elementwise import ELEMENTWISE
from gossamer.runtime.operators.int8 import INT8
from gossamer.runtime.operators.kwinners import KWINNERS
from gossamer.runtime.operators.layout_ops import LAYOUT_OPS
from gossamer.runtime.operators.linear import LINEAR
from gossamer.runtime.operators.logic import LOGIC
from gossamer.runtime.operators.norms import NORMS
from gossamer.runtime.operators.operator import Operators
from gossamer.runtime.operators.pools import POOLS
from gossamer.runtime.operators.resizing import RESIZING
from gossamer.runtime.operators.shapes import SHAPES

OPERATORS: Operators = {
    **BINARY,
    **CONSTANTS,
    **CONVOLUTIONS,
    **DYNAMIC_INT8,
    **ELEMENTWISE,
    **INT8,
    **KWINNERS,
    **LAYOUT_OPS,
    **LINEAR,
    **LOGIC,
    **NORMS,
    **POOLS,
    **RESIZING,
    **SHAPES,
}
