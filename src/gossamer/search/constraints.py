"""Linear constraints between parameters, and the space of points that keep them.

A constraint is linear in the *values*, whatever the scale that the parameter is searched on.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution
from scipy.optimize import Bounds, milp
from scipy.optimize import LinearConstraint as Rows

from gossamer.errors import UserError, nearest
from gossamer.search.parameters import Choice, Float, Int, Parameter, Value, check_name, is_number

Point = dict[str, Value]

# Sums of decimal fractions miss by a few units in the last place: 0.1 + 0.2 > 0.3.
_ROUNDING = 1e-12
# How many feasible points are kept to move infeasible suggestions towards.
_POOL = 256
# Halvings on the way from a feasible point to the suggestion: to a millionth of the way.
_HALVINGS = 20


@dataclass(frozen=True)
class LinearConstraint:
    """The sum of coefficient * parameter must be at most `at_most`.

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
        """Whether `point` keeps the constraint, to within rounding (1e-12 of the terms)."""
        terms = [c * float(point[name]) for name, c in self.coefficients.items()]  # type: ignore[arg-type]
        slack = _ROUNDING * (abs(self.at_most) + math.fsum(map(abs, terms)))
        return math.fsum(terms) <= self.at_most + slack


class Space:
    """The parameters' box, less the points that break a constraint.

    Args:
        parameters: at least one, names unique.
        constraints: between numeric parameters of these.

    Raises:
        UserError: for names given twice, unknown or not numeric ones in a constraint, and for
            constraints that no point keeps.
    """

    def __init__(
        self, parameters: Sequence[Parameter], constraints: Sequence[LinearConstraint] = ()
    ) -> None:
        self.parameters = {p.name: p for p in parameters}
        self.constraints = tuple(constraints)
        if not parameters:
            raise UserError("an experiment needs at least one parameter")
        if len(self.parameters) < len(parameters):
            names = [p.name for p in parameters]
            twice = next(name for name in names if names.count(name) > 1)
            raise UserError(f"parameter '{twice}' is given twice; rename or remove one")
        self._check()
        named = {name for c in self.constraints for name in c.coefficients}
        # Only these coordinates are ever moved: the others do not matter to any constraint.
        self._constrained: list[Float | Int] = [
            p for p in parameters if not isinstance(p, Choice) and p.name in named
        ]
        if self.constraints:
            self._pool = self._feasible_pool()

    def _check(self) -> None:
        for constraint in self.constraints:
            for name in constraint.coefficients:
                if name not in self.parameters:
                    raise UserError(
                        f"constraint {constraint}: unknown parameter '{name}'; "
                        + nearest(name, self.parameters)
                    )
                if isinstance(self.parameters[name], Choice):
                    raise UserError(
                        f"constraint {constraint}: '{name}' is a choice; "
                        "only float and int parameters can be constrained"
                    )

    def __len__(self) -> int:
        return len(self.parameters)

    def decode(self, unit: np.ndarray) -> Point:
        """The point at `unit`, float [parameters], in the unit cube."""
        pairs = zip(self.parameters.values(), unit.tolist(), strict=True)
        return {parameter.name: parameter.decode(u) for parameter, u in pairs}

    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters as Optuna knows them."""
        return {name: parameter.distribution() for name, parameter in self.parameters.items()}

    def _decode_constrained(self, unit: np.ndarray) -> Point:
        pairs = zip(self._constrained, unit.tolist(), strict=True)
        return {parameter.name: parameter.decode(u) for parameter, u in pairs}

    def _encode_constrained(self, point: Mapping[str, Value]) -> np.ndarray:
        return np.array([p.encode(point[p.name]) for p in self._constrained])  # type: ignore[arg-type]

    def holds(self, point: Mapping[str, Value]) -> bool:
        """Whether `point` keeps every constraint."""
        return all(constraint.holds(point) for constraint in self.constraints)

    def draw(self, rng: np.random.Generator) -> Point:
        """A random feasible point: even over the box where the feasible share is not tiny."""
        for _ in range(200):
            point = self.decode(rng.random(len(self)))
            if self.holds(point):
                return point
        # Hardly any room: somewhere between two known feasible points.
        first, second = self._pool[rng.integers(len(self._pool), size=2)]
        between = {**point, **self._decode_constrained(first + rng.random() * (second - first))}
        return between if self.holds(between) else {**point, **self._decode_constrained(first)}

    def repair(self, point: Mapping[str, Value]) -> Point:
        """`point` itself if it keeps the constraints, else a feasible point near it.

        From the nearest known feasible point the way towards `point` is halved until the border;
        coordinates in no constraint keep their values. Integers and steps are rounded before
        each check, so that what is returned is what was checked.
        """
        if self.holds(point):
            return dict(point)
        wish = self._encode_constrained(point)
        start = self._pool[np.argmin(((self._pool - wish) ** 2).sum(axis=1))]
        nearest_inside = self._decode_constrained(start)
        inside, outside = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            candidate = self._decode_constrained(start + middle * (wish - start))
            if self.holds(candidate):
                inside, nearest_inside = middle, candidate
            else:
                outside = middle
        return {**point, **nearest_inside}

    def _feasible_pool(self) -> np.ndarray:
        """Feasible points, float64 [points, constrained parameters], in the unit cube."""
        rng = np.random.default_rng(0)
        found: list[np.ndarray] = []

        def keep(unit: np.ndarray) -> None:
            if self.holds(self._decode_constrained(unit)):
                found.append(unit)

        for _ in range(20_000):
            keep(rng.random(len(self._constrained)))
            if len(found) == _POOL:
                break
        if len(found) < 16:
            # A sliver that random points miss: its corners, and points between them.
            corners = self._corners(rng)
            for corner in corners:
                keep(self._encode_constrained(corner))
            for _ in range(_POOL if corners else 0):
                first, second = rng.choice(len(corners), size=2)
                share = rng.random()
                between = {
                    name: self._onto_grid(name, value + share * (corners[second][name] - value))
                    for name, value in corners[first].items()
                }
                keep(self._encode_constrained(between))
        if not found:
            self._raise_impossible()
        return np.array(found)

    def _onto_grid(self, name: str, value: float) -> float:
        parameter = self.parameters[name]
        assert isinstance(parameter, (Float, Int))
        value = min(max(value, parameter.low), parameter.high)
        if parameter.step is None:
            return value
        return parameter.low + round((value - parameter.low) / parameter.step) * parameter.step

    def _corners(self, rng: np.random.Generator) -> list[dict[str, float]]:
        """Extreme feasible points: mixed-integer programs with random objectives."""
        solutions = (self._solve(rng.standard_normal(len(self._constrained))) for _ in range(32))
        return [solution for solution in solutions if solution is not None]

    def _solve(
        self,
        objective: np.ndarray,
        constraints: Sequence[LinearConstraint] | None = None,
    ) -> dict[str, float] | None:
        numbers = self._constrained
        names = [p.name for p in numbers]
        low = np.array([p.low for p in numbers], dtype=float)
        high = np.array([p.high for p in numbers], dtype=float)
        # value = low + scale * variable: a stepped parameter counts whole steps.
        scale = np.array([p.step or 1.0 for p in numbers], dtype=float)
        rows, upper = [], []
        for constraint in self.constraints if constraints is None else constraints:
            row = np.array([constraint.coefficients.get(name, 0.0) for name in names])
            rows.append(row * scale)
            upper.append(constraint.at_most - row @ low)
        result = milp(
            objective,
            constraints=Rows(np.array(rows), ub=np.array(upper)),
            bounds=Bounds(np.zeros(len(names)), np.round((high - low) / scale, 9)),
            integrality=np.array([p.step is not None for p in numbers], dtype=int),
        )
        if result.x is None:
            return None
        return {
            name: self._onto_grid(name, float(value))
            for name, value in zip(names, low + scale * result.x, strict=True)
        }

    def _raise_impossible(self) -> None:
        nothing = np.zeros(len(self._constrained))
        for constraint in self.constraints:
            if self._solve(nothing, [constraint]) is None:
                raise UserError(
                    f"constraint {constraint} can not be met within the parameters' bounds; "
                    "raise at_most or widen the bounds"
                )
        if self._solve(nothing) is None:
            raise UserError(
                "the constraints exclude each other within the parameters' bounds: "
                + ", ".join(map(str, self.constraints))
            )
        raise UserError(
            "the constraints leave no room to move in: "
            + ", ".join(map(str, self.constraints))
            + "; loosen one, or leave a parameter out that the others determine"
        )
