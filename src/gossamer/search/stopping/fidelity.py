"""Fidelities: cheaper tasks are tried first, and only promising points at full cost."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gossamer.errors import UserError
from gossamer.numbers import whole
from gossamer.search.metrics import Metric
from gossamer.search.ranking import order
from gossamer.search.stopping.learning_curves import Curve, Forecast
from gossamer.search.trials.trial import TrialRecord
from gossamer.search.validation import check_name, is_number, make_plain


@dataclass(frozen=True)
class Fidelity:
    """A cheaper form of the experiment's task: a smaller network, less data, fewer epochs.

    Args:
        name: of the fidelity; trials carry it.
        settings: override the experiment's settings and a trial's parameters.
        cost: of a trial, as a share of a full trial's, also in the budget.
        reduction: the best of this number of trials is repeated at the next fidelity.

    Raises:
        UserError: the cost is not between 0 and 1, or the reduction is below 2.
    """

    name: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    cost: float = 0.1
    reduction: int = 4

    def __post_init__(self) -> None:
        make_plain(self)
        check_name(self.name, "fidelity")
        if not is_number(self.cost) or not 0 < self.cost < 1:
            raise UserError(
                f"fidelity '{self.name}': cost must be between 0 and 1, the share of a full "
                f"trial's, not {self.cost!r}"
            )
        if not isinstance(self.settings, Mapping):
            raise UserError(
                f"fidelity '{self.name}': settings must be a table, not {self.settings!r}"
            )
        whole(self.reduction, 2, f"fidelity '{self.name}': reduction")


class Ladder:
    """The fidelities from the cheapest to the full task, which has no name.

    The best ``1/reduction`` of the trials at a fidelity are repeated at the next (asynchronous
    successive halving, Li et al. 2020, arXiv 1810.05934), and never more than ``1/reduction`` of
    them: where the sampler improves, each new best would be repeated, and the budget would be spent
    on far fewer points (delayed promotion, Li et al. 2022, arXiv 2201.06834). Trials are ranked by
    forecasts of their values at full cost: a line through the points that were run at both, if
    there are three.
    """

    def __init__(self, metrics: Sequence[Metric], fidelities: Sequence[Fidelity]) -> None:
        self._metrics = metrics
        self.rungs = sorted(fidelities, key=lambda fidelity: fidelity.cost)
        self._by_name: dict[str | None, Fidelity] = {f.name: f for f in fidelities}
        if len(self._by_name) < len(fidelities):
            raise UserError("two fidelities have the same name; rename one")

    @property
    def lowest(self) -> str | None:
        """The fidelity at which new points start."""
        return self.rungs[0].name if self.rungs else None

    def cost(self, fidelity: str | None) -> float:
        return self._by_name[fidelity].cost if fidelity in self._by_name else 1.0

    def settings(self, fidelity: str | None) -> Mapping[str, Any]:
        return self._by_name[fidelity].settings if fidelity in self._by_name else {}

    def next_up(
        self, records: Sequence[TrialRecord], room: float
    ) -> tuple[TrialRecord, str | None] | None:
        """Return a trial to repeat and the next fidelity's name; None if no trial qualifies.

        Args:
            records: all trials.
            room: remaining cost of the budget.
        """
        climbed = {record.origin for record in records}
        targets = [*(fidelity.name for fidelity in self.rungs), None][1:]
        for fidelity, target in reversed(list(zip(self.rungs, targets, strict=True))):
            if self.cost(target) > room + 1e-9:
                continue
            here = [r for r in records if r.fidelity == fidelity.name and r.state == "complete"]
            count = len(here) // fidelity.reduction
            if sum(r.number in climbed for r in here) >= count:
                continue
            full = self.at_full_cost(records)
            values = np.array([full(r, r.values) for r in here])
            for index in order(self._metrics, values)[:count]:
                if here[index].number not in climbed:
                    return here[index], target
        return None

    def at_full_cost(
        self, records: Sequence[TrialRecord]
    ) -> Callable[[TrialRecord, Mapping[str, float]], list[float]]:
        """Return a function that forecasts a trial's metrics at full cost from the values of its
        fidelity."""
        forecasts = {f.name: self._forecasts(f.name, records) for f in self.rungs}

        def full(record: TrialRecord, values: Mapping[str, float]) -> list[float]:
            if record.fidelity not in forecasts:
                return [values[m.name] for m in self._metrics]
            known = forecasts[record.fidelity]
            return [known[m.name].expected(1.0, values[m.name]) for m in self._metrics]

        return full

    def _forecasts(self, fidelity: str, records: Sequence[TrialRecord]) -> dict[str, Forecast]:
        """Make forecasts in which a point run at both costs is a curve from the cheap value to
        the full one."""
        pairs = []
        by_number = {record.number: record for record in records}
        for record in records:
            if not record.comparable:
                continue
            start: TrialRecord | None = record
            while start is not None and start.fidelity != fidelity:
                start = None if start.origin is None else by_number.get(start.origin)
            if start is not None:
                cheap = {m.name: np.array([start.values[m.name]]) for m in self._metrics}
                pairs.append(Curve(record.number, np.ones(1, np.int64), 1, cheap, record.values))
        return {m.name: Forecast(m, pairs) for m in self._metrics}
