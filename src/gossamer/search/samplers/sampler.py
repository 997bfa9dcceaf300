"""Samplers: what chooses the next point from the trials so far."""

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
    """Chooses the next point; pass an instance as `Experiment(sampler=...)`.

    A subclass implements `suggest`. The search adds what all samplers share: known good points
    are tried first, a point that breaks a linear constraint is moved to a feasible one near it,
    conditional parameters that do not apply are dropped, and in place of a point that was tried
    before a random one is drawn. `gossamer.search.testing` checks a sampler.

    Attributes:
        startup: complete trials that `suggest` needs; before them a space-filling design is tried.
    """

    startup: ClassVar[int] = 0

    def check(self, space: Space) -> None:  # noqa: B027  (most samplers search any space)
        """Raise `UserError` for a space that it cannot search; called by every new experiment."""

    @abstractmethod
    def suggest(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> Mapping[str, Value]:
        """The next point: a value for each parameter that the point has.

        A function of its arguments alone, so that a search that was stopped and resumed goes on
        as if it had not been: keep no state, and draw random numbers from `rng` only.

        Args:
            space: the parameters; draws, decodes and encodes points.
            metrics: in the order of `history.values`, with the thresholds of now.
            history: the trials so far, with those that failed and those that run.
            rng: seeded by the experiment's seed and the number of trials.
        """


@dataclass(frozen=True)
class RandomSampler(Sampler):
    """Random points, drawn from the priors where parameters have one."""

    def suggest(
        self,
        space: Space,
        metrics: Sequence[Metric],
        history: History,
        rng: np.random.Generator,
    ) -> Mapping[str, Value]:
        return space.draw(rng)
