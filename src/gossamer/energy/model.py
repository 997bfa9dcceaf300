"""How many times less energy: counted work times published costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gossamer.energy.costs import COSTS, Costs
from gossamer.energy.work import Work

#: Where the weights live, from near to far. Activations live in L1 in all three scenarios.
MEMORIES: tuple[str, ...] = ("L1", "L2", "DRAM")

# Register reuse of the two networks compared: both ideal, both none, and the case that is worst
# for the second network: ideal for the first, none for itself.
_REUSE = ((True, True), (False, False), (True, False))


@dataclass(frozen=True)
class Range:
    """The lowest and the highest ratio over all tables of costs and assumptions."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3g}-{self.high:.3g}"


@dataclass(frozen=True)
class EnergyModel:
    """Energy from counts, in multiply-adds of the same process: a number without a unit.

    energy = multiply-adds x (multiply + add) + operations x add + stored bytes x an access where
    the weights live + bytes of values x an access to L1; without register reuse also the
    repeated bytes x an access to L1. Static power, instruction fetch and control are left out:
    they grow with time, which is measured elsewhere.

    Attributes:
        costs: the tables of published costs that ranges are taken over.
    """

    costs: Sequence[Costs] = COSTS

    def energy(
        self, works: Iterable[Work], memory: str, *, costs: Costs, reuse: bool, far: int = 0
    ) -> float:
        """The energy of ``works``, in that of one multiply-add.

        Args:
            works: counted work.
            memory: where the weights live, one of `MEMORIES`.
            costs: the table.
            reuse: whether every byte is touched once only (ideal registers), or again for
                every multiply-add (none).
            far: which of the published costs of ``memory``: 0 the lowest, 1 the highest.
        """
        near, home = costs.access["L1"][0], costs.access[memory][far]
        total = 0.0
        for work in works:
            total += work.macs * costs.multiply_add + work.operations * costs.add
            total += work.stored * home
            total += (work.values + (0.0 if reuse else work.repeats)) * near
        return total / costs.multiply_add

    def ratio(self, first: Sequence[Work], second: Sequence[Work], memory: str) -> Range:
        """How many times less energy ``second`` needs than ``first``, as a range.

        Both are priced alike, over all tables, both published ends of the memory's cost, and
        register reuse: ideal for both, none for both, and, the worst for ``second``, ideal for
        ``first`` alone.
        """
        ratios = []
        for costs in self.costs:
            for far in (0, 1):
                for ideal, own in _REUSE:
                    before = self.energy(first, memory, costs=costs, reuse=ideal, far=far)
                    after = self.energy(second, memory, costs=costs, reuse=own, far=far)
                    if after <= 0:
                        raise ZeroDivisionError("the second network does no work")
                    ratios.append(before / after)
        return Range(min(ratios), max(ratios))
