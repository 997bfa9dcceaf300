"""Linear constraints between parameters.

A constraint is linear in the *values* of parameters, also if they are searched on a log scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from gossamer.errors import UserError
from gossamer.search.validation import Value, check_name, is_number, make_plain

# Sums of decimal fractions miss by a few units in the last place: 0.1 + 0.2 > 0.3.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class LinearConstraint:
    """The sum of coefficient * parameter must be at most `at_most`, in trials that have them all.

    >>> LinearConstraint({"end": -1.0, "start": 1.0}, at_most=0.0)   # start <= end

    Args:
        coefficients: parameter name -> coefficient, at least one of them not 0.
        at_most: the bound.

    Raises:
        UserError: for coefficients or a bound that are no finite numbers.
    """

    coefficients: Mapping[str, float]
    at_most: float

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.coefficients, Mapping) or not self.coefficients:
            raise UserError(
                "a constraint needs coefficients: parameter name -> number, "
                f"not {self.coefficients!r}"
            )
        for name, coefficient in self.coefficients.items():
            check_name(name, "parameter")
            if not is_number(coefficient):
                raise UserError(
                    f"constraint: the coefficient of '{name}' must be a finite number, "
                    f"not {coefficient!r}"
                )
        if not any(self.coefficients.values()):
            raise UserError(f"constraint {self}: every coefficient is 0; leave the constraint out")
        if not is_number(self.at_most):
            raise UserError(f"constraint {self}: at_most must be a finite number")
        coefficients = {name: float(value) for name, value in self.coefficients.items()}
        object.__setattr__(self, "coefficients", coefficients)
        object.__setattr__(self, "at_most", float(self.at_most))

    def __str__(self) -> str:
        terms = " + ".join(f"{value:g} * {name}" for name, value in self.coefficients.items())
        return f"'{terms.replace('+ -', '- ')} <= {self.at_most}'"

    def holds(self, point: Mapping[str, Value]) -> bool:
        """Whether `point` satisfies the constraint, up to rounding (1e-12 of the terms).

        True also if the point lacks one of its parameters, a conditional one.
        """
        if not self.coefficients.keys() <= point.keys():
            return True
        terms = [c * float(point[name]) for name, c in self.coefficients.items()]  # type: ignore[arg-type]
        slack = _ROUNDING * (abs(self.at_most) + math.fsum(map(abs, terms)))
        return math.fsum(terms) <= self.at_most + slack
