"""Results of a trial: its reports during training and its final values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.numbers import whole
from gossamer.search.metrics import Metric, Numbers, as_numbers
from gossamer.search.trials.trial import Report
from gossamer.search.validation import is_number


def read_report(
    trial: int, step: int, values: Mapping[str, Any], of: int | None, seconds: float
) -> Report:
    """Return the report of trial number `trial` after ``seconds``.

    Raises:
        UserError: an invalid report.
    """
    whole(step, 0, f"trial {trial}: a report's step")
    if of is not None:
        whole(of, max(step, 1), f"trial {trial}: a report's 'of'")
    if not isinstance(values, Mapping):
        raise UserError(f"report takes a mapping of names to numbers, not {values!r}")
    numbers = as_numbers(values)
    if text := _not_a_number(numbers):
        raise UserError(f"trial {trial}: it reported {text}")
    return Report(step, of, _finite(_values(numbers)), seconds)


@dataclass(frozen=True)
class Returned:
    """Values that a trial returned.

    Attributes:
        values: every finite number, by name.
        noise: standard deviation of those values that came with one.
        mistake: message on a missing metric or a value that is not a number; None if there is none.
        wrong: message on a metric that is not finite; None if all are.
    """

    values: dict[str, float]
    noise: dict[str, float] = field(default_factory=dict)
    mistake: str | None = None
    wrong: str | None = None


def read_returned(values: Mapping[str, Any], metrics: Sequence[Metric]) -> Returned:
    """Read the values that a trial ends with.

    Raises:
        UserError: they are not a mapping.
    """
    if not isinstance(values, Mapping):
        raise UserError(f"values must be a mapping of metrics to numbers, not {values!r}")
    numbers = as_numbers(values)
    finite = _finite(_values(numbers))
    noise = {k: n[1] for k, n in numbers.items() if isinstance(n, tuple) and k in finite}
    missing = next((m.name for m in metrics if m.name not in numbers), None)
    if missing is not None:
        known = nearest(missing, numbers).replace("Known:", "it returned:")
        returned = known if numbers else "it returned nothing"
        return Returned(finite, mistake=f"train returned no metric '{missing}'; {returned}")
    wrong = next((m.name for m in metrics if m.name not in finite), None)
    if wrong is not None:
        return Returned(finite, wrong=f"metric '{wrong}' is {values[wrong]!r}")
    negative = next((m.name for m in metrics if m.log and finite[m.name] < 0), None)
    if negative is not None:
        wrong = f"metric '{negative}' is {finite[negative]:g}, which has no logarithm"
        return Returned(finite, wrong=wrong)
    if text := _not_a_number(numbers):
        return Returned(finite, mistake=f"train returned {text}")
    for name, deviation in noise.items():
        if not is_number(deviation) or deviation < 0:
            return Returned(
                finite,
                mistake=f"train returned {deviation!r} as the standard deviation of '{name}', "
                "which must be a finite number of at least 0",
            )
    return Returned(finite, noise)


def _values(numbers: Numbers) -> Mapping[str, float | str | None]:
    """Without standard deviations."""
    return {name: n[0] if isinstance(n, tuple) else n for name, n in numbers.items()}


def _not_a_number(numbers: Numbers) -> str | None:
    """Message on the first text among `numbers`; None if there is none."""
    for name, value in numbers.items():
        if isinstance(value, str):
            return f"{value!r} as '{name}', which is no number; leave it out or make it one"
    return None


def _finite(numbers: Mapping[str, float | str | None]) -> dict[str, float]:
    return {name: n for name, n in numbers.items() if isinstance(n, float) and is_number(n)}
