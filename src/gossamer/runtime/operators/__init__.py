"""The ONNX operators that the engine supports, one module for each family (see ``operator``)."""

from gossamer.runtime.operators.binary import BINARY
from gossamer.runtime.operators.concat import CONCAT
from gossamer.runtime.operators.constants import CONSTANTS
from gossamer.runtime.operators.conv import CONVOLUTIONS
from gossamer.runtime.operators.dynamic_int8 import DYNAMIC_INT8
from gossamer.runtime.operators.elementwise import ELEMENTWISE
from gossamer.runtime.operators.gather import GATHER
from gossamer.runtime.operators.int8 import INT8
from gossamer.runtime.operators.kwinners import KWINNERS
from gossamer.runtime.operators.linear import LINEAR
from gossamer.runtime.operators.logic import LOGIC
from gossamer.runtime.operators.norms import NORMS
from gossamer.runtime.operators.operator import Operators
from gossamer.runtime.operators.pools import POOLS
from gossamer.runtime.operators.resizing import RESIZING
from gossamer.runtime.operators.shapes import SHAPES
from gossamer.runtime.operators.slicing import SLICING
from gossamer.runtime.operators.strided import STRIDED
from gossamer.runtime.operators.transpose import TRANSPOSE

OPERATORS: Operators = {
    **BINARY,
    **CONCAT,
    **CONSTANTS,
    **CONVOLUTIONS,
    **DYNAMIC_INT8,
    **ELEMENTWISE,
    **GATHER,
    **INT8,
    **KWINNERS,
    **LINEAR,
    **LOGIC,
    **NORMS,
    **POOLS,
    **RESIZING,
    **SHAPES,
    **SLICING,
    **STRIDED,
    **TRANSPOSE,
}
