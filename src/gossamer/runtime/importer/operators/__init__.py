"""What becomes of each ONNX operator: one table, filled from a module for each kind."""

from gossamer.runtime.importer.context import Convert
from gossamer.runtime.importer.operators.binary import BINARY
from gossamer.runtime.importer.operators.conv import CONVOLUTIONS
from gossamer.runtime.importer.operators.eight_bits import EIGHT_BITS
from gossamer.runtime.importer.operators.elementwise import ELEMENTWISE
from gossamer.runtime.importer.operators.layout_ops import LAYOUT_OPS
from gossamer.runtime.importer.operators.linear import LINEAR
from gossamer.runtime.importer.operators.logic import LOGIC
from gossamer.runtime.importer.operators.norms import NORMS
from gossamer.runtime.importer.operators.pools import POOLS
from gossamer.runtime.importer.operators.resizing import RESIZING
from gossamer.runtime.importer.operators.shapes import SHAPES
from gossamer.runtime.importer.operators.winners import WINNERS

CONVERT: dict[str, Convert] = {
    **BINARY,
    **CONVOLUTIONS,
    **EIGHT_BITS,
    **ELEMENTWISE,
    **LINEAR,
    **LOGIC,
    **LAYOUT_OPS,
    **NORMS,
    **POOLS,
    **RESIZING,
    **SHAPES,
    **WINNERS,
}
