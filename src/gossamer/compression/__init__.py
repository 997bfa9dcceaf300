"""A trained network and an accuracy to keep in, a sparse network that runs fast out.

Above the search: `compress` looks at the network, writes the experiment that it then runs, and
hands over the best network.
"""

from gossamer.compression.compressing import MINUTES, Compressed, compress
from gossamer.compression.goals import LOSS, Goals, thresholds

__all__ = ["LOSS", "MINUTES", "Compressed", "Goals", "compress", "thresholds"]
__dir__ = __all__.copy
