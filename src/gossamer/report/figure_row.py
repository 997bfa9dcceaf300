"""One figure of a run: reading, writing, and comparison with another run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from gossamer.deploy.metrics import Run
from gossamer.report import energy, units
from gossamer.report.provenance import Provenance


@dataclass(frozen=True)
class Cell:
    """A figure's text, a smaller note such as "of 1,716,000", and its value.

    The value is None if there is no figure, and a pair (lowest, highest) for a range.
    """

    text: str
    note: str = ""
    value: float | tuple[float, float] | None = field(default=None, compare=False)


@dataclass(frozen=True)
class Gain:
    """Gain of a run over the first one; ``good`` is None if nothing changed."""

    text: str
    good: bool | None


@dataclass(frozen=True)
class Row:
    """One figure, with functions to read it from a run, write it and compare it.

    ``words`` describe the ratio of a falling and of a rising figure ("fewer", "more").
    Without them the figure is a share, and its gain is a difference in points.
    ``same`` lists the keys that must agree for two runs to be comparable; ``meaning`` explains
    the label.
    """

    label: str
    provenance: Provenance
    better: Literal["higher", "lower"]
    read: Callable[[Run], float | None]
    write: Callable[[float], str]
    words: tuple[str, str] | None = None
    note: Callable[[Run], str] = lambda run: ""
    meaning: str = ""
    same: tuple[str, ...] = ()

    def cell(self, run: Run) -> Cell | None:
        """Return the run's figure; None if the run lacks it."""
        figure = self.read(run)
        return None if figure is None else Cell(self.write(figure), self.note(run), figure)

    def gain(self, first: Run, run: Run) -> Gain | None:
        """Return the gain of ``run`` over ``first``; None if they cannot be compared."""
        before, after = self.read(first), self.read(run)
        if before is None or after is None:
            return None
        if any(first.get(key) != run.get(key) for key in self.same):
            return None
        good = None if after == before else (after > before) == (self.better == "higher")
        if self.words is None:
            points = 100 * (after - before)
            text = "same" if abs(points) < 0.005 else f"{points:+.2f} points".replace("-", "−")
            return Gain(text, None if text == "same" else good)
        if good is None:
            return Gain("same", None)
        if min(before, after) <= 0:
            return None  # no ratio to or from nothing
        ratio = max(before, after) / min(before, after)
        if ratio < 1.005:
            return Gain("same", None)
        return Gain(f"{units.times(ratio)} {self.words[after > before]}", good)


@dataclass(frozen=True)
class EnergyRow:
    """Energy as ratios, to the run's layers as dense ones and to the first run."""

    memory: str
    label: str
    provenance: Provenance = "modeled"
    meaning: str = "times less than its layers done densely; see docs/explanation/energy.md"

    def cell(self, run: Run) -> Cell | None:
        """Return the range of the ratio to dense layers; None if the run has no counts."""
        ratios = energy.against_dense(run, self.memory)
        return None if ratios is None else Cell(units.spread(*ratios), value=ratios)

    def gain(self, first: Run, run: Run) -> Gain | None:
        """Return the range of the ratio to the first run; None if the runs' tasks differ."""
        ratios = energy.between(first, run, self.memory)
        if ratios is None or first.get("task") != run.get("task"):
            return None
        low, high = ratios
        if low >= 1 / 1.005 and high <= 1.005:
            return Gain("same", None)
        if high <= 1:
            return Gain(f"{units.spread(1 / high, 1 / low)} more", False)
        return Gain(f"{units.spread(low, high)} less", True if low > 1 else None)
