"""Schedules of the density over a training."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from gossamer.errors import UserError
from gossamer.numbers import positive_share, share, whole


def _interval(schedule: Cubic | Phases) -> tuple[float, float]:
    """Return ``start`` and ``until`` of a schedule after checking them."""
    name = type(schedule).__name__
    start, until = share(schedule.start, f"{name}: start"), share(schedule.until, f"{name}: until")
    if start >= until:
        raise UserError(f"{name}: start {start:g} must be before until {until:g}")
    return start, until


class Schedule(ABC):
    """Density over training."""

    @abstractmethod
    def density(self, final: float, share: float) -> float:
        """Return the density after a ``share`` of training (0 to 1), for a ``final`` density.

        It is from ``final`` to 1, and ``final`` at share 1.
        """


@dataclass(frozen=True)
class Constant(Schedule):
    """The final density from the first step to the last."""

    def density(self, final: float, share: float) -> float:
        return final


@dataclass(frozen=True)
class Cubic(Schedule):
    """A fall to the final density, fast at first (Zhu & Gupta 2017, arXiv 1710.01878).

    Args:
        until: share of training at which the final density is reached.
        start: share of training at which the fall begins (the dense warm-up's end).
        initial: density before; a layer with a higher final density always has that.
    """

    until: float = 0.5
    start: float = 0.0
    initial: float = 1.0

    def __post_init__(self) -> None:
        start, until = _interval(self)
        initial = positive_share(self.initial, "Cubic: initial density")
        self.__dict__.update(start=start, until=until, initial=initial)

    def density(self, final: float, share: float) -> float:
        if share >= self.until:
            return final
        left = min((self.until - share) / (self.until - self.start), 1.0)
        return final + (max(self.initial, final) - final) * left**3


@dataclass(frozen=True)
class Phases(Schedule):
    """Alternating dense and sparse phases (AC/DC, Peste et al. 2021, arXiv 2106.12379).

    A dense warm-up, then ``pairs`` times a sparse and a dense phase of equal lengths, then
    sparse to the end.

    Args:
        pairs: number of pairs of phases.
        start: share of training at which the first sparse phase begins.
        until: share at which the last sparse phase begins.
    """

    pairs: int = 4
    start: float = 0.1
    until: float = 0.75

    def __post_init__(self) -> None:
        start, until = _interval(self)
        pairs = whole(self.pairs, 1, "Phases: pairs")
        self.__dict__.update(start=start, until=until, pairs=pairs)

    def density(self, final: float, share: float) -> float:
        if share < self.start:
            return 1.0
        if share >= self.until:
            return final
        phase = int((share - self.start) / (self.until - self.start) * 2 * self.pairs)
        return final if phase % 2 == 0 else 1.0


#: Name -> schedule.
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "cubic": Cubic,
    "phases": Phases,
}
