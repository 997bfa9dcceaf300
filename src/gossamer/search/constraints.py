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
from gossamer.search.parameters import (
    Choice,
    Float,
    Grid,
    Int,
    Parameter,
    Value,
    check_name,
    is_number,
)
from gossamer.search.surrogate import Features

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


def takes(parameter: Parameter, value: Value) -> bool:
    """Whether `parameter` can be `value`."""
    if isinstance(parameter, Choice):
        return value in parameter.options
    if not is_number(value):
        return False
    assert isinstance(value, (int, float))
    if not parameter.low <= value <= parameter.high:
        return False
    if isinstance(parameter, Grid):
        return value in parameter.values
    there = parameter.decode(min(max(parameter.encode(value), 0.0), 1.0))
    return math.isclose(there, value, rel_tol=1e-9, abs_tol=1e-12)


class Space:
    """The parameters' box, less the points that break a constraint.

    Args:
        parameters: at least one, names unique; conditional ones after those they depend on.
        constraints: between numeric parameters of these.

    Raises:
        UserError: for names given twice, unknown or not numeric ones in a constraint, and for
            constraints that no point keeps; for conditions on parameters or values that there
            are not.
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
        self._constrained: list[Float | Int | Grid] = [
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
                        "only float, int and grid parameters can be constrained"
                    )
                if self.parameters[name].when:
                    raise UserError(
                        f"constraint {constraint}: '{name}' is conditional; "
                        "only parameters that every trial has can be constrained"
                    )
        earlier: dict[str, Parameter] = {}
        for parameter in self.parameters.values():
            for name, values in parameter.when.items():
                self._check_condition(parameter.name, name, values, earlier)
            earlier[parameter.name] = parameter

    def _check_condition(
        self, child: str, name: str, values: Sequence[Value], earlier: Mapping[str, Parameter]
    ) -> None:
        where = f"parameter '{child}': when '{name}'"
        if name not in self.parameters:
            raise UserError(f"{where}: unknown parameter; {nearest(name, self.parameters)}")
        if name not in earlier:
            raise UserError(f"{where}: give '{name}' before '{child}'")
        parent = earlier[name]
        if isinstance(parent, Float) and parent.step is None:
            raise UserError(
                f"{where}: '{name}' is a float without steps; conditions need a parameter of "
                "separate values"
            )
        for value in values:
            if not takes(parent, value):
                raise UserError(f"{where}: '{name}' is never {value!r}")

    def __len__(self) -> int:
        return len(self.parameters)

    def decode(self, unit: np.ndarray) -> Point:
        """The feasible point at or near `unit`, float [parameters], in the unit cube."""
        pairs = zip(self.parameters.values(), np.nan_to_num(unit, nan=0.5).tolist(), strict=True)
        return self.repair({parameter.name: parameter.decode(u) for parameter, u in pairs})

    def encode(self, points: Sequence[Mapping[str, Value]]) -> np.ndarray:
        """float64 [points, parameters] in the unit cube; NaN where a point has no value."""
        units = np.full((len(points), len(self)), np.nan)
        for row, point in zip(units, points, strict=True):
            for column, (name, parameter) in enumerate(self.parameters.items()):
                if name in point:
                    row[column] = parameter.encode(point[name])  # type: ignore[arg-type]
        return units

    def whole(self, point: Mapping[str, Value]) -> Point:
        """`point` with a value in the middle for every parameter that it does not have."""
        return {
            name: point[name] if name in point else parameter.decode(0.5)
            for name, parameter in self.parameters.items()
        }

    def middle(self) -> Point:
        """A value for every parameter: where it is believed to be best, else the middle."""
        return {
            name: parameter.decode(parameter.believed(0.5))
            for name, parameter in self.parameters.items()
        }

    def pruned(self, point: Mapping[str, Value]) -> Point:
        """`point` without the parameters whose condition is not met."""
        kept: Point = {}
        for name, parameter in self.parameters.items():
            if all(n in kept and kept[n] in values for n, values in parameter.when.items()):
                kept[name] = point[name]
        return kept

    def features(self, units: np.ndarray) -> Features:
        """As coordinates: a choice has one per option, a conditional parameter one for absence."""
        columns: list[np.ndarray] = []
        owner: list[int] = []
        for i, (unit, parameter) in enumerate(zip(units.T, self.parameters.values(), strict=True)):
            absent = np.isnan(unit)
            found = [np.where(absent, 0.5, unit)]
            if isinstance(parameter, Choice):
                count = len(parameter.options)
                index = np.minimum(np.where(absent, -1.0, unit * count), count - 1).astype(int)
                found = [(index == option) / 2.0**0.5 for option in range(count)]
            if parameter.when:
                found.append(absent.astype(float))
            columns += found
            owner += [i] * len(found)
        return Features(np.stack(columns, axis=1), np.array(owner))

    def log_belief(self, units: np.ndarray) -> np.ndarray:
        """Logarithm of the density of the parameters' priors, float64 [points]."""
        each = [
            np.nan_to_num(parameter.log_belief(unit))
            for unit, parameter in zip(units.T, self.parameters.values(), strict=True)
        ]
        belief: np.ndarray = np.sum(each, axis=0)
        return belief

    def on_grid(self, units: np.ndarray) -> np.ndarray:
        """Rows of `units` that keep the constraints, in the middle of the cells they lie in."""
        snapped = units.copy()
        values: dict[str, list[Value]] = {}
        for i, (name, parameter) in enumerate(self.parameters.items()):
            plain = isinstance(parameter, Float) and parameter.step is None
            if plain and not self.constraints:
                continue
            values[name] = [parameter.decode(u) for u in units[:, i].tolist()]
            if not plain:
                snapped[:, i] = [parameter.encode(v) for v in values[name]]  # type: ignore[arg-type]
        for i, parameter in enumerate(self.parameters.values()):
            for name, wanted in parameter.when.items():
                parent = snapped[:, list(self.parameters).index(name)]
                met = np.array([value in wanted for value in values[name]])
                snapped[~met | np.isnan(parent), i] = np.nan
        if not self.constraints:
            return snapped
        names = [p.name for p in self._constrained]
        rows = zip(*(values[name] for name in names), strict=True)
        holds = [self.holds(dict(zip(names, row, strict=True))) for row in rows]
        kept: np.ndarray = snapped[np.array(holds, dtype=bool)]
        return kept

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

    def broken(self, point: Mapping[str, Value]) -> str:
        """The constraints that `point` does not keep, in words."""
        return ", ".join(f"constraint {c}" for c in self.constraints if not c.holds(point))

    def draw(self, rng: np.random.Generator) -> Point:
        """A random feasible point, drawn from the priors where the feasible share is not tiny."""
        for _ in range(200):
            point = self._believed(rng.random(len(self)))
            if self.holds(point):
                return self.pruned(point)
        # Hardly any room: somewhere between two known feasible points.
        first, second = self._pool[rng.integers(len(self._pool), size=2)]
        between = {**point, **self._decode_constrained(first + rng.random() * (second - first))}
        if not self.holds(between):
            between.update(self._decode_constrained(first))
        return self.pruned(between)

    def believed(self, unit: np.ndarray) -> Point | None:
        """The point at `unit`, even draws spread as the priors are; None if it is infeasible."""
        point = self._believed(unit)
        return self.pruned(point) if self.holds(point) else None

    def _believed(self, unit: np.ndarray) -> Point:
        pairs = zip(self.parameters.values(), unit.tolist(), strict=True)
        return {parameter.name: parameter.decode(parameter.believed(u)) for parameter, u in pairs}

    def repair(self, point: Mapping[str, Value]) -> Point:
        """`point` itself if it keeps the constraints, else a feasible point near it.

        From the nearest known feasible point the way towards `point` is halved until the border;
        coordinates in no constraint keep their values. Integers and steps are rounded before
        each check, so that what is returned is what was checked.

        Args:
            point: with a value for every parameter; conditional ones that are not called for
                are left out of what is returned.
        """
        if self.holds(point):
            return self.pruned(point)
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
        return self.pruned({**point, **nearest_inside})

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
        if isinstance(parameter, Grid):
            return min(parameter.values, key=lambda v: abs(v - value))
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
        steps = [None if isinstance(p, Grid) else p.step for p in numbers]
        scale = np.array([step or 1.0 for step in steps], dtype=float)
        rows, upper = [], []
        for constraint in self.constraints if constraints is None else constraints:
            row = np.array([constraint.coefficients.get(name, 0.0) for name in names])
            rows.append(row * scale)
            upper.append(constraint.at_most - row @ low)
        result = milp(
            objective,
            constraints=Rows(np.array(rows), ub=np.array(upper)),
            bounds=Bounds(np.zeros(len(names)), np.round((high - low) / scale, 9)),
            integrality=np.array([step is not None for step in steps], dtype=int),
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
