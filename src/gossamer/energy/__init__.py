"""Energy: measured by counters, else modeled from counted work, as a ratio.

Joules come only from a counter (`EnergyMeter`). Without one, `EnergyModel` computes how many
times less energy a network needs than its dense counterpart, as a range over published costs
and stated assumptions.
"""

from gossamer.energy.costs import COSTS, Costs
from gossamer.energy.meter import EnergyMeter, Reading, counters
from gossamer.energy.model import MEMORIES, EnergyModel, Range
from gossamer.energy.work import Work, count_work

__all__ = [
    "COSTS",
    "MEMORIES",
    "Costs",
    "EnergyMeter",
    "EnergyModel",
    "Range",
    "Reading",
    "Work",
    "count_work",
    "counters",
]
__dir__ = __all__.copy
