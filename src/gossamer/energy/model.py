"""Ratios of energy: counted work times published costs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from gossamer.energy.costs import COSTS, Costs
from gossamer.energy.work import Work

#: Where the weights live, from near to far. Activations live in L1 in all three scenarios.
MEMORIES: tuple[str, ...] = ("L1", "L2", "DRAM")

# Register reuse of two networks compared, and of the dense layers of the second: all ideal, all
# none, and the case that is worst for the second: none where it skips zeros, ideal elsewhere.
_REUSE = ((True, True, True), (False, False, False), (True, False, True))


@dataclass(frozen=True)
class Range:
    """The lowest and the highest ratio over all tables of costs and assumptions."""

    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.low:.3g}-{self.high:.3g}"


@dataclass(frozen=True)
class EnergyModel:
    """Energy from counts, in float multiply-adds of the same process: a number without a unit.

    energy = multiply-adds x (multiply + add) of their bits + operations x add + stored bytes x an
    access where the weights live + bytes of values x an access to L1; without register reuse also
    the repeated bytes x an access to L1. Static power, instruction fetch and control are left out:
    they grow with time, which is measured elsewhere.

    Attributes:
        costs: the tables of published costs that ranges are taken over.
    """

    costs: Sequence[Costs] = COSTS

    def energy(
        self, works: Iterable[Work], memory: str, *, costs: Costs, reuse: bool, far: int = 0
    ) -> float:
        """Return the energy of ``works``, in units of one multiply-add of 32-bit floats.

        Args:
            works: counted work.
            memory: memory that contains the weights, one of `MEMORIES`.
            costs: the table of costs.
            reuse: whether every byte is accessed only once (ideal registers), or again for
                every multiply-add (no registers).
            far: 0 for the lowest published cost of ``memory``, 1 for the highest.
        """
        near, home = costs.access["L1"][0], costs.access[memory][far]
        total = 0.0
        for work in works:
            total += work.macs * costs.multiply_add(work.bits) + work.operations * costs.add
            total += work.stored * home
            total += (work.values + (0.0 if reuse else work.repeats)) * near
        return total / costs.multiply_add()

    def ratio(self, first: Sequence[Work], second: Sequence[Work], memory: str) -> Range:
        """Return the energy of ``first`` divided by that of ``second``, as a range.

        The range is over all tables, both ends of the memory's published cost, and three
        assumptions on register reuse: ideal for both, none for both, and, as the worst case of
        ``second``, none for its layers that skip zeros and ideal for all others.
        """
        ratios = []
        full = [work for work in second if work.kind in ("dense", "other")]
        skipping = [work for work in second if work.kind not in ("dense", "other")]
        for costs in self.costs:
            for far in (0, 1):
                for ideal, own, dense in _REUSE:
                    before = self.energy(first, memory, costs=costs, reuse=ideal, far=far)
                    after = self.energy(skipping, memory, costs=costs, reuse=own, far=far)
                    after += self.energy(full, memory, costs=costs, reuse=dense, far=far)
                    if after <= 0:
                        raise ZeroDivisionError("the second network does no work")
                    ratios.append(before / after)
        return Range(min(ratios), max(ratios))
