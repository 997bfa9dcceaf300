"""Continuation: trials that miss a threshold by little are trained for longer."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.errors import UserError, nearest
from gossamer.numbers import whole
from gossamer.search.frontier import inside, violations
from gossamer.search.metrics import Metric, losses
from gossamer.search.trials.trial import TrialRecord
from gossamer.search.validation import check_list, check_name, is_number, make_plain


@dataclass(frozen=True)
class Continuation:
    """Longer training of the trials that may become the best.

    A trial is worth longer training in two cases: that can bring it inside the thresholds, and no
    trial inside them is at least as good in the optimized metrics; or it is one of the best
    itself, and an optimized metric improves with training. A round takes as long as all rounds
    before it together, so that a network is trained for 2, 4, 8 times as long: successive halving
    (Li et al. 2020, arXiv 1810.05934) by the rounds of warm restarts (Loshchilov and Hutter 2017,
    arXiv 1608.03983).

    Among trials with the same number of rounds the half that is nearer to the goal continues, the
    nearest first. A trial does not continue if it gained too little in its last round to get there
    in those that are left. ``share`` does not limit a round for which there would be no time after
    one more new trial: the end of a search is for the nearest trials.

    Args:
        improves: metrics that longer training improves.
        parameter: the length of a trial's training; a trial without any is not continued.
        rounds: largest number of rounds of a trial.
        share: the largest share of the time of all trials for these rounds, until the end of the
            search.

    Raises:
        UserError: no metrics, no rounds, or a share outside 0 to 1.
    """

    improves: Sequence[str]
    parameter: str = "epochs"
    rounds: int = 3
    share: float = 0.5

    def __post_init__(self) -> None:
        make_plain(self)
        names = check_list("continuation: improves", self.improves, str, "'accuracy'")
        if not names:
            raise UserError("continuation: improves must name a metric")
        object.__setattr__(self, "improves", tuple(names))
        check_name(self.parameter, "parameter")
        whole(self.rounds, 1, "continuation: rounds")
        if not is_number(self.share) or not 0 < self.share < 1:
            raise UserError(f"continuation: share must be between 0 and 1, not {self.share!r}")

    def check(self, parameters: Collection[str], metrics: Sequence[Metric]) -> None:
        """Raise `UserError` if an experiment lacks a metric or parameter that it names."""
        for what, named, known in (
            ("metric", self.improves, [metric.name for metric in metrics]),
            ("parameter", [self.parameter], parameters),
        ):
            for name in named:
                if name not in known:
                    raise UserError(f"continuation: no {what} '{name}'; {nearest(name, known)}")

    def candidates(
        self, metrics: Sequence[Metric], records: Sequence[TrialRecord]
    ) -> list[TrialRecord]:
        """Return the trials worth continuing that were not continued yet, nearest first."""
        begun = {record.origin for record in records if record.continued}
        return [
            record
            for record, _ in self._worthwhile(metrics, records)
            if record.number not in begun and record.continued < self.rounds
        ]

    def next_up(
        self, metrics: Sequence[Metric], records: Sequence[TrialRecord], seconds: float = math.inf
    ) -> TrialRecord | None:
        """Return the trial to continue now; None if there is none, or no time.

        Args:
            metrics: of the experiment.
            records: all trials.
            seconds: time that is left.
        """
        misses = {r.number: miss for r, miss in self._worthwhile(metrics, records)}
        by_number = {record.number: record for record in records}
        half: set[int] = set()
        for rounds in range(self.rounds):
            level = [number for number in misses if by_number[number].continued == rounds]
            half |= set(level[: math.ceil(len(level) / 2)])
        spent, total = self._spent(records, by_number)
        longest_new = max((r.seconds or 0.0 for r in records if not r.continued), default=0.0)
        feasible = bool(inside(metrics, _full(records)))
        for record in self.candidates(metrics, records):
            cost = _cost(record)
            if record.number not in half or cost > seconds:
                continue
            possible_later = cost <= seconds - longest_new
            if possible_later and spent + cost > self.share * (total + cost):
                continue
            before = misses.get(-1 if record.origin is None else record.origin)
            # While none is inside, the nearest is the answer, and at the end any gain counts.
            if record.continued and before is not None and (feasible or possible_later):
                miss = misses[record.number]
                if miss > (before - miss) * self._rounds_left(record, seconds):
                    continue
            return record
        return None

    def _rounds_left(self, record: TrialRecord, seconds: float) -> int:
        """Return how many rounds a trial may still have within the time that is left."""
        left = self.rounds - record.continued
        cost = _cost(record)
        # Each round takes as long as all before it, so the next n take 2 ** n - 1 times ``cost``.
        affordable = math.log2(seconds / cost + 1.0) if seconds < math.inf else left
        return min(left, int(affordable))

    def _worthwhile(
        self, metrics: Sequence[Metric], records: Sequence[TrialRecord]
    ) -> list[tuple[TrialRecord, float]]:
        """Return the trials worth continuing with the sum of their violations, nearest first."""
        full = _full(records)
        if not full:
            return []
        values = np.array([[record.values[m.name] for m in metrics] for record in full])
        beyond = np.maximum(violations(metrics, values), 0.0)
        limited = [m for m in metrics if m.threshold is not None]
        trained = np.array([m.name in self.improves for m in limited], dtype=bool)
        better = losses(metrics, values)
        meets = (beyond <= 0).all(axis=1)
        rivals = better[meets]
        improves = any(m.optimized and m.name in self.improves for m in metrics)
        rows = []
        for i, record in enumerate(full):
            if not record.parameters.get(self.parameter) or not record.seconds:
                continue
            at_most = (rivals <= better[i]).all(axis=1)
            if meets[i]:
                worth = improves and not (at_most & (rivals < better[i]).any(axis=1)).any()
            else:
                worth = beyond[i, ~trained].sum() <= 0 and not at_most.any()
            if worth:
                rows.append((float(beyond[i].sum()), tuple(better[i]), record))
        rows.sort(key=lambda row: (row[0], row[1], row[2].number))
        return [(record, miss) for miss, _, record in rows]

    @staticmethod
    def _spent(
        records: Sequence[TrialRecord], by_number: Mapping[int, TrialRecord]
    ) -> tuple[float, float]:
        """Return the seconds of continued trials and of all; of a running one the expected."""
        spent = total = 0.0
        for record in records:
            seconds = record.seconds or 0.0
            if record.seconds is None and record.continued and record.origin is not None:
                before = by_number.get(record.origin)
                seconds = 0.0 if before is None else _cost(before)
            total += seconds
            spent += seconds if record.continued else 0.0
        return spent, total


def _full(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    return [record for record in records if record.comparable]


def _cost(record: TrialRecord) -> float:
    """Return the seconds of a trial's next round: as long as all its training so far."""
    return (record.seconds or 0.0) * (2 if record.continued else 1)
