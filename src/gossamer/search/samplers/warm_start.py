"""Warm start: known good points, and the trials of an earlier experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.errors import UserError
from gossamer.numbers import whole
from gossamer.search.frontier import frontier
from gossamer.search.metrics import Metric
from gossamer.search.space.parameters import Choice, Grid
from gossamer.search.space.space import Point, Space, takes
from gossamer.search.trials.trial import TrialRecord
from gossamer.search.validation import Value, check_list, is_number, make_plain

# Number of trials of an earlier experiment that are stored.
_REMEMBERED = 200


@dataclass(frozen=True)
class WarmStart:
    """An earlier experiment to learn from, with the same metrics and perhaps a smaller network.

    Its best points are tried first. Its trials predict this experiment's metrics up to an offset
    and a factor, which are learned. Parameters are matched by name: new ones start in the middle
    of their range, and values out of bounds at the bound.

    Args:
        storage: URL of the database.
        experiment: name of the experiment; not needed if the storage has only one.
        best: number of its best points that are tried first.
    """

    storage: str
    experiment: str | None = None
    best: int = 3

    def __post_init__(self) -> None:
        make_plain(self)
        whole(self.best, 0, "warm_start: best")


@dataclass(frozen=True)
class Earlier:
    """Trials of an earlier experiment, mapped to this one's space.

    Attributes:
        points: feasible points of this space.
        values: float64 [points, metrics]; NaN for a metric that the earlier one lacks.
        best: the points to try first.
    """

    points: Sequence[Point]
    values: np.ndarray
    best: Sequence[Point]

    @classmethod
    def of(
        cls,
        space: Space,
        metrics: Sequence[Metric],
        records: Sequence[TrialRecord],
        best: int,
    ) -> Earlier:
        """Map the earlier experiment's trials to ``space``.

        Raises:
            UserError: it has no complete trial, or no metric or parameter in common with this one.
        """
        shared = [m for m in metrics if any(m.name in r.values for r in records)]
        whole = [
            r for r in records if r.state == "complete" and all(m.name in r.values for m in shared)
        ]
        if not shared or not whole:
            raise UserError(
                "warm_start: the earlier experiment has no complete trial with one of the metrics "
                + ", ".join(m.name for m in metrics)
            )
        if not any(name in record.parameters for record in whole for name in space.parameters):
            raise UserError(
                "warm_start: the earlier experiment has none of the parameters "
                + ", ".join(space.parameters)
            )
        leading = frontier(shared, whole).trials[:best]
        others = [record for record in whole if record not in leading]
        remembered = [*leading, *others[-(_REMEMBERED - len(leading)) :]]
        return cls(
            points=[_brought(space, record.parameters) for record in remembered],
            values=np.array([[r.values.get(m.name, np.nan) for m in metrics] for r in remembered]),
            best=[_brought(space, record.parameters) for record in leading],
        )

    @classmethod
    def from_mapping(cls, data: Mapping[str, Any]) -> Earlier:
        """Make the trials from the return value of `to_mapping`."""
        values = [[np.nan if v is None else v for v in row] for row in data["values"]]
        return cls(data["points"], np.array(values, dtype=float), data["best"])

    def to_mapping(self) -> dict[str, Any]:
        """Return the trials as JSON types."""
        values = [[None if np.isnan(v) else v for v in row] for row in self.values.tolist()]
        return {"points": list(self.points), "values": values, "best": list(self.best)}


def _brought(space: Space, parameters: Mapping[str, Value]) -> Point:
    """Return the point of `space` nearest to `parameters` of another space."""
    point = space.whole({})
    for name, parameter in space.parameters.items():
        value = parameters.get(name)
        if name not in parameters:
            continue
        if takes(parameter, value):
            point[name] = value
        elif not isinstance(parameter, Choice) and is_number(value):
            assert isinstance(value, (int, float))
            inside = min(max(value, parameter.low), parameter.high)
            if isinstance(parameter, Grid):
                inside = min(parameter.values, key=lambda v: abs(v - inside))
            point[name] = parameter.decode(min(max(parameter.encode(inside), 0.0), 1.0))
    return space.repair(point)


def start_points(space: Space, start: Sequence[Mapping[str, Value]]) -> list[Point]:
    """Complete known good points: missing parameters get the middle or the mode of their prior.

    Raises:
        UserError: names or values that the space does not have, or broken constraints.
    """
    points = []
    for position, entry in enumerate(check_list("start", start, Mapping, '{"width": 8}'), 1):
        where = f"start {position}"
        values = space.read(entry, where)
        whole = {**space.middle(), **values}
        missing = [name for name in space.pruned(whole) if name not in values]
        if not space.holds(space.pruned(whole)) and not missing:
            raise UserError(f"{where} breaks {space.broken(space.pruned(whole))}")
        points.append(space.repair(whole))
        for name, value in values.items():
            if points[-1].get(name, value) != value:
                raise UserError(
                    f"{where}: '{name}' = {value!r} breaks {space.broken(whole)}, each parameter "
                    "left out being in its middle; give the constraint's other parameters too"
                )
    return points
