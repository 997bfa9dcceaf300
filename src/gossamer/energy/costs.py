"""Published energies of operations and memory accesses."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.numbers import finite

_WORD = 8  # bytes of an access in both tables


@dataclass(frozen=True)
class Costs:
    """Energies in one semiconductor process, in picojoules.

    Attributes:
        name, source: name and source of the table.
        add, multiply: energy of an operation on 32-bit floats; a comparison costs an addition.
        add_whole, multiply_whole: energy of an addition of 32-bit integers and a multiplication
            of 8-bit integers, the two operations of a multiply-add in an 8-bit layer.
        access: picojoules per byte read or written, lowest and highest published, by memory:
            ``L1`` (32 kB), ``L2`` (1 MB), ``DRAM``.
    """

    name: str
    source: str
    add: float
    multiply: float
    add_whole: float
    multiply_whole: float
    access: Mapping[str, tuple[float, float]]

    def __post_init__(self) -> None:
        for name in ("add", "multiply", "add_whole", "multiply_whole"):
            object.__setattr__(self, name, finite(getattr(self, name), f"costs: {name}", 0))
        access = {}
        for memory, (low, high) in self.access.items():
            least = finite(low, f"costs: access, {memory}", 0)
            access[memory] = (least, finite(high, f"costs: access, {memory}, highest", least))
        object.__setattr__(self, "access", access)

    def multiply_add(self, bits: int = 32) -> float:
        """Return the energy of a multiply-add of ``bits`` bits: 32 (floats) or 8 (integers).

        Raises:
            KeyError: another number of bits.
        """
        return {32: self.multiply + self.add, 8: self.multiply_whole + self.add_whole}[bits]


def _accesses(l1: float, l2: float, dram: tuple[float, float]) -> dict[str, tuple[float, float]]:
    """Convert picojoules per 64-bit access to picojoules per byte."""
    access = {"L1": (l1, l1), "L2": (l2, l2), "DRAM": dram}
    return {memory: (low / _WORD, high / _WORD) for memory, (low, high) in access.items()}


COSTS: tuple[Costs, ...] = (
    Costs(
        "45 nm",
        "M. Horowitz, Computing's energy problem (and what we can do about it), ISSCC 2014",
        add=0.9,
        multiply=3.7,
        add_whole=0.1,
        multiply_whole=0.2,
        access=_accesses(20.0, 100.0, (1300.0, 2600.0)),
    ),
    Costs(
        "7 nm",
        "N. Jouppi et al., Ten lessons from three generations shaped Google's TPUv4i, "
        "ISCA 2021, table 2",
        add=0.38,
        multiply=1.31,
        add_whole=0.03,
        multiply_whole=0.07,
        access=_accesses(8.5, 14.0, (1300.0, 1300.0)),
    ),
)
