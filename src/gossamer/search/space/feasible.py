"""The points that satisfy every constraint, and the repair of others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from gossamer.errors import UserError
from gossamer.search.space.constraints import LinearConstraint
from gossamer.search.space.parameters import Float, Grid, Int
from gossamer.search.validation import Value

# Number of feasible points to move infeasible suggestions toward.
_POOL = 256
# Halvings on the way from a feasible point to the suggestion: to a millionth of the way.
_HALVINGS = 20

Numbers = dict[str, float]


class Feasible:
    """The feasible region of the constrained parameters.

    Args:
        parameters: those that some constraint names.
        constraints: at least one.

    Raises:
        UserError: no point satisfies the constraints.
    """

    def __init__(
        self,
        parameters: Sequence[Float | Int | Grid],
        constraints: Sequence[LinearConstraint],
    ) -> None:
        self._parameters = {p.name: p for p in parameters}
        self._constraints = constraints
        self._pool = self._feasible_pool()

    @property
    def names(self) -> list[str]:
        """Names of the constrained parameters."""
        return list(self._parameters)

    def holds(self, point: Mapping[str, Value]) -> bool:
        """Whether `point` satisfies every constraint."""
        return all(constraint.holds(point) for constraint in self._constraints)

    def draw(self, rng: np.random.Generator) -> Numbers:
        """Return a random point between two known feasible ones."""
        first, second = self._pool[rng.integers(len(self._pool), size=2)]
        between = self._decode(first + rng.random() * (second - first))
        return between if self.holds(between) else self._decode(first)

    def near(self, point: Mapping[str, Value]) -> Numbers:
        """Return a feasible point near `point`.

        It is found by bisection between `point` and the nearest known feasible point. Integers
        and steps are rounded before each check, so that the returned point was checked itself.
        """
        wish = self._encode(point)
        start = self._pool[np.argmin(((self._pool - wish) ** 2).sum(axis=1))]
        nearest_inside = self._decode(start)
        inside, outside = 0.0, 1.0
        for _ in range(_HALVINGS):
            middle = (inside + outside) / 2
            candidate = self._decode(start + middle * (wish - start))
            if self.holds(candidate):
                inside, nearest_inside = middle, candidate
            else:
                outside = middle
        return nearest_inside

    def _decode(self, unit: np.ndarray) -> Numbers:
        pairs = zip(self._parameters.values(), unit.tolist(), strict=True)
        return {parameter.name: parameter.decode(u) for parameter, u in pairs}

    def _encode(self, point: Mapping[str, Value]) -> np.ndarray:
        return np.array([p.encode(point[name]) for name, p in self._parameters.items()])  # type: ignore[arg-type]

    def _feasible_pool(self) -> np.ndarray:
        """Feasible points, float64 [points, constrained parameters], in the unit cube."""
        rng = np.random.default_rng(0)
        feasible: list[np.ndarray] = []

        def keep(unit: np.ndarray) -> None:
            if self.holds(self._decode(unit)):
                feasible.append(unit)

        for _ in range(20_000):
            keep(rng.random(len(self._parameters)))
            if len(feasible) == _POOL:
                break
        if len(feasible) < 16:
            # A sliver that random points miss: its corners, and points between them.
            corners = self._corners(rng)
            for corner in corners:
                keep(self._encode(corner))
            for _ in range(_POOL if corners else 0):
                first, second = rng.choice(len(corners), size=2)
                share = rng.random()
                between = {
                    name: self._onto_grid(name, value + share * (corners[second][name] - value))
                    for name, value in corners[first].items()
                }
                keep(self._encode(between))
        if not feasible:
            self._raise_impossible()
        return np.array(feasible)

    def _onto_grid(self, name: str, value: float) -> float:
        parameter = self._parameters[name]
        if isinstance(parameter, Grid):
            return min(parameter.values, key=lambda v: abs(v - value))
        value = min(max(value, parameter.low), parameter.high)
        if parameter.step is None:
            return value
        return parameter.low + round((value - parameter.low) / parameter.step) * parameter.step

    def _corners(self, rng: np.random.Generator) -> list[dict[str, float]]:
        """Return extreme feasible points, by mixed-integer programs with random objectives."""
        solutions = (self._solve(rng.standard_normal(len(self._parameters))) for _ in range(32))
        return [solution for solution in solutions if solution is not None]

    def _solve(
        self,
        objective: np.ndarray,
        constraints: Sequence[LinearConstraint] | None = None,
    ) -> dict[str, float] | None:
        # Slow to import, and for constraints only.
        from scipy.optimize import Bounds, milp
        from scipy.optimize import LinearConstraint as Rows

        numbers = list(self._parameters.values())
        names = [p.name for p in numbers]
        low = np.array([p.low for p in numbers], dtype=float)
        high = np.array([p.high for p in numbers], dtype=float)
        # value = low + scale * variable: a stepped parameter counts whole steps.
        steps = [None if isinstance(p, Grid) else p.step for p in numbers]
        scale = np.array([step or 1.0 for step in steps], dtype=float)
        rows, upper = [], []
        for constraint in self._constraints if constraints is None else constraints:
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
        nothing = np.zeros(len(self._parameters))
        for constraint in self._constraints:
            if self._solve(nothing, [constraint]) is None:
                raise UserError(
                    f"constraint {constraint} can not be met within the parameters' bounds; "
                    "raise at_most or widen the bounds"
                )
        if self._solve(nothing) is None:
            raise UserError(
                "the constraints exclude each other within the parameters' bounds: "
                + ", ".join(map(str, self._constraints))
            )
        raise UserError(
            "the constraints leave no range to search: "
            + ", ".join(map(str, self._constraints))
            + "; loosen one, or leave out a parameter that the others determine"
        )
