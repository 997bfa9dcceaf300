"""Compression of a trained network to a fast sparse one, within limits for accuracy.

`compress` examines the network, writes an experiment file, runs the experiment, and returns the
best network.
"""

from gossamer.compression.compressing import MINUTES, Compressed, compress
from gossamer.compression.goals import LOSS, Goals

__all__ = ["LOSS", "MINUTES", "Compressed", "Goals", "compress"]
__dir__ = __all__.copy
