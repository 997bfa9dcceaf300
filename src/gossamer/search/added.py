"""A trial that was run elsewhere, checked before it is stored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from gossamer.errors import UserError, one_line
from gossamer.search.metrics import Metric
from gossamer.search.space.space import Space
from gossamer.search.trials.ending import End
from gossamer.search.trials.results import read_returned


def read_added(
    space: Space,
    metrics: Sequence[Metric],
    parameters: Mapping[str, Any],
    values: Mapping[str, Any] | None,
    error: str | None,
    stopped: str | None,
) -> tuple[dict[str, Any], End]:
    """Return point and end of a trial to add, from the arguments of `Experiment.add`.

    Raises:
        UserError: a value is invalid for its parameter or metric.
    """
    point = space.read(parameters, "add")
    whole = space.pruned({**space.middle(), **point})
    for name in space.parameters:
        if (name in whole) != (name in point):
            wrong = "is missing" if name in whole else "is not used with these values"
            raise UserError(f"add: parameter '{name}' {wrong}")
    if not space.holds(point):
        raise UserError(f"add: the point breaks {space.broken(point)}")
    if [values, error, stopped].count(None) != 2:
        raise UserError("add needs exactly one of values, error and stopped")
    if error is not None:
        return point, End.failed(one_line(error), {})
    if stopped is not None:
        return point, End.stopped(one_line(stopped), {})
    assert values is not None
    returned = read_returned(values, metrics)
    for metric in metrics:
        if metric.name not in returned.values:
            got = values.get(metric.name)
            raise UserError(f"add: metric '{metric.name}' must be a finite number, not {got!r}")
    if returned.wrong is not None:
        raise UserError(f"add: {returned.wrong}")
    if returned.mistake is not None:
        raise UserError(f"add: {returned.mistake.removeprefix('train returned ')}")
    return point, End.complete(returned, metrics)
