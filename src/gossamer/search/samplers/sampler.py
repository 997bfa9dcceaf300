"""The base class of samplers, which choose the next point from the trials so far."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from gossamer.search.metrics import Metric
from gossamer.search.samplers.history import History
from gossamer.search.space.space import Space
from gossamer.search.validation import Value


class Sampler(ABC):
    """A strategy to choose the next point; pass an instance as `Experiment(sampler=...)`.

    A subclass implements `suggest`. The search does the rest for all samplers: it tries known good
    points first, moves a point that breaks a linear constraint to a feasible one near it, drops
    conditional parameters that do not apply, and replaces a point that was tried before by a
    random one. `gossamer.search.testing` checks a sampler.

    Attributes:
        startup: complete trials that `suggest` needs; a space-filling design provides them.
    """

    startup: ClassVar[int] = 0

    def check(self, space: Space) -> None:  # noqa: B027  (most samplers search any space)
        """Raise `UserError` if it cannot search the space; called by every new experiment."""

    @abstractmethod
    def suggest(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> Mapping[str, Value]:
        """Return the next point, a value for each of its parameters.

        The result must depend on the arguments only, so that a search can be stopped and resumed
        without a difference: keep no state, and draw random numbers only from `rng`.

        Args:
            space: the space of parameters; it draws, decodes and encodes points.
            metrics: the metrics with their current thresholds, in the order of `history.values`,
                which are the plain ones, also of a metric with ``log``.
            history: the trials so far, including failed and running ones.
            rng: seeded by the experiment's seed and the number of trials.
        """


@dataclass(frozen=True)
class RandomSampler(Sampler):
    """Random points, drawn from the priors of parameters that have one."""

    def suggest(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> Mapping[str, Value]:
        return space.draw(rng)
