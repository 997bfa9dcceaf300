"""The search space: the parameters' box without the points that violate a constraint."""

from __future__ import annotations

import math
import operator
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution

from gossamer.errors import UserError, nearest
from gossamer.search.space.constraints import LinearConstraint
from gossamer.search.space.feasible import Feasible
from gossamer.search.space.features import Features
from gossamer.search.space.parameters import Choice, Float, Grid, Parameter
from gossamer.search.validation import Value, is_number, plain

Point = dict[str, Value]


def takes(parameter: Parameter, value: Value) -> bool:
    """Whether `value` is valid for `parameter`."""
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


def exact(parameter: Parameter, value: Any) -> Value:
    """Return `value`, which must be valid for `parameter`, in the parameter's type."""
    if isinstance(parameter, Choice | Grid):
        exact: Value = parameter.listed[list(parameter.listed).index(value)]
        return exact
    return float(value) if isinstance(parameter, Float) else int(value)


class Space:
    """The parameters' box without the points that violate a constraint.

    Args:
        parameters: at least one, names unique; conditional ones after those they depend on.
        constraints: between numeric parameters of these.

    Raises:
        UserError: a name occurs twice; a constraint names an unknown or non-numeric parameter;
            no point satisfies the constraints; or a condition names an unknown parameter or value.
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
        constrained = [p for p in parameters if not isinstance(p, Choice) and p.name in named]
        self._feasible = Feasible(constrained, self.constraints) if constrained else None

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
            numbers = (self.parameters[name] for name in constraint.coefficients)
            largest = [max(abs(p.low), abs(p.high)) for p in numbers if not isinstance(p, Choice)]
            terms = map(operator.mul, map(abs, constraint.coefficients.values()), largest)
            if math.isinf(sum(terms, abs(constraint.at_most))):
                raise UserError(f"constraint {constraint}: its terms are too large for a double")
        earlier: dict[str, Parameter] = {}
        for parameter in self.parameters.values():
            if parameter.default is not None and not takes(parameter, parameter.default):
                raise UserError(
                    f"parameter '{parameter.name}': default {parameter.default!r} is not "
                    "one of its values"
                )
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
            raise UserError(f"{where}: list '{name}' before '{child}'")
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
        """Return the feasible point at or near `unit`, float [parameters], in the unit cube."""
        pairs = zip(self.parameters.values(), np.nan_to_num(unit, nan=0.5).tolist(), strict=True)
        return self.repair({parameter.name: parameter.decode(u) for parameter, u in pairs})

    def encode(self, points: Sequence[Mapping[str, Value]]) -> np.ndarray:
        """Return float64 [points, parameters] in the unit cube; NaN where a point has no value."""
        units = np.full((len(points), len(self)), np.nan)
        for row, point in zip(units, points, strict=True):
            for column, (name, parameter) in enumerate(self.parameters.items()):
                if name in point:
                    row[column] = parameter.encode(point[name])  # type: ignore[arg-type]
        return units

    def read(self, values: Mapping[str, Any], where: str) -> Point:
        """Return `values` of some parameters, in the parameters' types.

        Args:
            values: by name.
            where: source of the values, the start of messages.

        Raises:
            UserError: a name is unknown or a value invalid.
        """
        point: Point = {}
        for name, value in plain(values).items():
            if name not in self.parameters:
                known = nearest(str(name), self.parameters)
                raise UserError(f"{where}: unknown parameter '{name}'; {known}")
            if not takes(self.parameters[name], value):
                raise UserError(f"{where}: '{name}' is never {value!r} in this experiment")
            point[name] = exact(self.parameters[name], value)
        return point

    def whole(self, point: Mapping[str, Value]) -> Point:
        """Return `point` with missing parameters at the middle of their range."""
        return {
            name: point[name] if name in point else parameter.decode(0.5)
            for name, parameter in self.parameters.items()
        }

    def middle(self) -> Point:
        """Return a value for every parameter: its prior's center, else the middle."""
        return {
            name: parameter.decode(parameter.believed(0.5))
            for name, parameter in self.parameters.items()
        }

    def pruned(self, point: Mapping[str, Value]) -> Point:
        """Return `point` without the parameters whose condition is not met."""
        active: Point = {}
        for name, parameter in self.parameters.items():
            if self.is_met(parameter, active):
                active[name] = point[name]
        return active

    def with_defaults(self, point: Mapping[str, Value]) -> Point:
        """Return an earlier trial's point with defaults of parameters that were added since."""
        known: Point = {
            name: p.default for name, p in self.parameters.items() if p.default is not None
        }
        if known.keys() <= point.keys():
            return dict(point)
        known = {**known, **point}
        active: Point = {}
        for name, parameter in self.parameters.items():
            if name in known and self.is_met(parameter, active):
                active[name] = known[name]
        return {**point, **active}

    @staticmethod
    def is_met(parameter: Parameter, active: Mapping[str, Value]) -> bool:
        """Return whether a point with these values has the parameter."""
        return all(n in active and active[n] in values for n, values in parameter.when.items())

    def features(self, units: np.ndarray) -> Features:
        """Return coordinates: one per option of a choice, one for absence of a conditional."""
        columns: list[np.ndarray] = []
        owner: list[int] = []
        for i, (unit, parameter) in enumerate(zip(units.T, self.parameters.values(), strict=True)):
            absent = np.isnan(unit)
            coordinates = [np.where(absent, 0.5, unit)]
            if isinstance(parameter, Choice) and not parameter.ordered:
                count = len(parameter.options)
                index = np.minimum(np.where(absent, -1.0, unit * count), count - 1).astype(int)
                coordinates = [(index == option) / 2.0**0.5 for option in range(count)]
            if parameter.when:
                coordinates.append(absent.astype(float))
            columns += coordinates
            owner += [i] * len(coordinates)
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
        """Return the rows of `units` that satisfy the constraints, at the middle of their cells."""
        snapped = units.copy()
        values: dict[str, list[Value]] = {}
        for i, (name, parameter) in enumerate(self.parameters.items()):
            plain = isinstance(parameter, Float) and parameter.step is None
            if plain and not self.constraints:
                continue
            values[name] = [parameter.decode(u) for u in units[:, i].tolist()]
            if not plain:
                # Candidates share few values.
                cells = {v: parameter.encode(v) for v in set(values[name])}  # type: ignore[arg-type]
                snapped[:, i] = [cells[v] for v in values[name]]
        for i, parameter in enumerate(self.parameters.values()):
            for name, wanted in parameter.when.items():
                parent = snapped[:, list(self.parameters).index(name)]
                met = np.array([value in wanted for value in values[name]])
                snapped[~met | np.isnan(parent), i] = np.nan
        if self._feasible is None:
            return snapped
        names = self._feasible.names
        columns = [list(self.parameters).index(name) for name in names]
        absent = np.isnan(snapped[:, columns]).tolist()
        rows = zip(zip(*(values[name] for name in names), strict=True), absent, strict=True)
        holds = [
            self._feasible.holds(
                {n: v for n, v, no in zip(names, row, gone, strict=True) if not no}
            )
            for row, gone in rows
        ]
        feasible: np.ndarray = snapped[np.array(holds, dtype=bool)]
        return feasible

    def distributions(self) -> dict[str, BaseDistribution]:
        """The parameters as Optuna knows them."""
        return {name: parameter.distribution() for name, parameter in self.parameters.items()}

    def holds(self, point: Mapping[str, Value]) -> bool:
        """Whether `point` satisfies every constraint."""
        return self._feasible is None or self._feasible.holds(point)

    def broken(self, point: Mapping[str, Value]) -> str:
        """Return the constraints that `point` violates, as text."""
        return ", ".join(f"constraint {c}" for c in self.constraints if not c.holds(point))

    def draw(self, rng: np.random.Generator) -> Point:
        """Return a random feasible point, from the priors unless the feasible share is tiny."""
        for _ in range(200):
            point = self._believed(rng.random(len(self)))
            if self.holds(self.pruned(point)):
                return self.pruned(point)
        assert self._feasible is not None
        return self.pruned({**point, **self._feasible.draw(rng)})

    def believed(self, unit: np.ndarray) -> Point | None:
        """Map `unit`, drawn uniformly, to a point of the priors; None if it is infeasible."""
        point = self.pruned(self._believed(unit))
        return point if self.holds(point) else None

    def _believed(self, unit: np.ndarray) -> Point:
        pairs = zip(self.parameters.values(), unit.tolist(), strict=True)
        return {parameter.name: parameter.decode(parameter.believed(u)) for parameter, u in pairs}

    def repair(self, point: Mapping[str, Value]) -> Point:
        """Return `point` if it satisfies the constraints, else a feasible point near it.

        Coordinates in no constraint keep their values.

        Args:
            point: with a value for every parameter; conditional ones that are not called for
                are left out of what is returned.
        """
        if self.holds(active := self.pruned(point)):
            return active
        assert self._feasible is not None
        return self.pruned({**point, **self._feasible.near(point)})
