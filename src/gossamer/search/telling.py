"""What a trial tells, read: its reports while it trains, and the values at its end."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.search.metrics import Metric, as_numbers
from gossamer.search.trials import Report
from gossamer.search.values import check_whole, is_number


def read_report(
    trial: int, step: int, values: Mapping[str, Any], of: int | None, seconds: float
) -> Report:
    """The report that trial number `trial` made after so many seconds.

    Raises:
        UserError: a report that makes no sense.
    """
    check_whole(f"trial {trial}: a report's step", step, 0)
    if of is not None:
        check_whole(f"trial {trial}: a report's 'of'", of, max(step, 1))
    if not isinstance(values, Mapping):
        raise UserError(f"report takes a mapping of names to numbers, not {values!r}")
    return Report(step, of, _finite(as_numbers(values)), seconds)


@dataclass(frozen=True)
class Returned:
    """What a trial returned.

    Attributes:
        values: every finite number, by name.
        missing: what to say of a metric that is not there at all; None if all are.
        wrong: what to say of a metric that is no finite number; None if all are.
    """

    values: dict[str, float]
    missing: str | None = None
    wrong: str | None = None


def read_returned(values: Mapping[str, Any], metrics: Sequence[Metric]) -> Returned:
    """Reads the values that a trial ends with.

    Raises:
        UserError: they are no mapping.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"values must be a mapping of metrics to numbers, not {values!r}")
    numbers = as_numbers(values)
    finite = _finite(numbers)
    missing = next((m.name for m in metrics if m.name not in numbers), None)
    if missing is not None:
        known = nearest(missing, numbers).replace("Known:", "it returned:")
        found = known if numbers else "it returned nothing"
        return Returned(finite, missing=f"train returned no metric '{missing}'; {found}")
    wrong = next((m.name for m in metrics if m.name not in finite), None)
    if wrong is not None:
        return Returned(finite, wrong=f"metric '{wrong}' is {values[wrong]!r}")
    return Returned(finite)


def _finite(numbers: Mapping[str, float | None]) -> dict[str, float]:
    return {name: n for name, n in numbers.items() if n is not None and is_number(n)}
