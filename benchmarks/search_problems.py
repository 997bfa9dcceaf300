"""Problems with a small acceptable box or no thresholds, and tables of recorded trainings.

All metrics are minimized; a trial is inside when every metric is at most its threshold.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from gossamer.search import Choice, Float, Int
from gossamer.search.definition import from_mapping
from gossamer.search.space.space import Space

Parameter = Float | Int | Choice
DIMENSION = 10
# The box of a bbob-biobj problem ends at this multiple of what the best compromise needs.
_ROOM = 1.4
TABLES = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Problem:
    """Parameters, thresholds, and what a trial's metrics are.

    Attributes:
        corner: hypervolumes are measured from here: from the thresholds where there are any.
        limited: the samplers are given the corner as thresholds.
        noise: standard deviation of what the samplers see of each metric around its value.
    """

    name: str
    parameters: Sequence[Parameter]
    corner: tuple[float, ...]
    evaluate: Callable[[dict[str, Any]], list[float]]
    limited: bool = True
    noise: float = 0.0

    @property
    def thresholds(self) -> tuple[float | None, ...]:
        """Of each metric; None where there is none."""
        return self.corner if self.limited else (None,) * len(self.corner)

    def with_noise(self, deviation: float) -> Problem:
        """The same problem, each metric seen with noise of that standard deviation."""
        return replace(self, name=f"{self.name}_noisy", noise=deviation)

    def without_thresholds(self, corner: tuple[float, ...]) -> Problem:
        """The same problem with no threshold, measured from `corner`."""
        return replace(self, name=f"{self.name}_free", corner=corner, limited=False)


def _of_vector(
    name: str, thresholds: tuple[float, ...], function: Callable[[np.ndarray], list[float]]
) -> Problem:
    names = [f"x{i}" for i in range(DIMENSION)]
    return Problem(
        name,
        [Float(n, 0.0, 1.0) for n in names],
        thresholds,
        lambda point: [float(v) for v in function(np.array([point[n] for n in names]))],
    )


def _zdt1(x: np.ndarray) -> list[float]:
    g = 1.0 + 9.0 * x[1:].mean()
    return [x[0], g * (1.0 - np.sqrt(x[0] / g))]


def _zdt2(x: np.ndarray) -> list[float]:
    g = 1.0 + 9.0 * x[1:].mean()
    return [x[0], g * (1.0 - (x[0] / g) ** 2)]


def _zdt3(x: np.ndarray) -> list[float]:
    g = 1.0 + 9.0 * x[1:].mean()
    return [x[0], g * (1.0 - np.sqrt(x[0] / g) - x[0] / g * np.sin(10.0 * np.pi * x[0]))]


def _dtlz2(metrics: int) -> Callable[[np.ndarray], list[float]]:
    """DTLZ2 with its best distance parameters at 0.35.

    At 0.5, where it has them, every sampler that begins in the middle would begin with the answer.
    """

    def function(x: np.ndarray) -> list[float]:
        radius = 1.0 + ((x[metrics - 1 :] - 0.35) ** 2).sum()
        angles = x[: metrics - 1] * np.pi / 2.0
        values = []
        for i in range(metrics):
            value = radius * np.prod(np.cos(angles[: metrics - 1 - i]))
            values.append(value * (np.sin(angles[metrics - 1 - i]) if i else 1.0))
        return values

    return function


def _plateau(x: np.ndarray) -> list[float]:
    """A quality that is the same nearly everywhere, against a size.

    As of networks that learn nothing with most settings: a random point is 0.04 better than the
    worst in the median, 0.5 in one of a hundred.
    """
    distance = ((x[1:6] - 0.35) ** 2).mean()
    return [1.0 - x[0] ** 0.3 * np.exp(-30.0 * distance), x[0]]


def _wfg4(x: np.ndarray) -> list[float]:
    """WFG4 with two metrics and four position parameters: hills in every parameter, a concave
    frontier (Huband et al. 2006, IEEE Transactions on Evolutionary Computation 10(5))."""
    hills, height, best, position = 30.0, 10.0, 0.35, 4
    far = np.abs(x - best) / (2.0 * (np.floor(best - x) + best))
    waves = np.cos((4.0 * hills + 2.0) * np.pi * (0.5 - far))
    y = (1.0 + waves + 4.0 * height * far**2) / (height + 2.0)
    angle, distance = y[:position].mean() * np.pi / 2.0, y[position:].mean()
    return [distance + 2.0 * np.sin(angle), distance + 4.0 * np.cos(angle)]


def _mixed() -> Problem:
    """An error and a size, of a network as it is tuned: choices, whole numbers, conditions.

    The error is worked out, not trained: a bowl around the optimizer's best rate (0.3 for SGD,
    0.0003 for Adam) and momentum, and a power of the number of weights, which blocks use worse.
    """
    parameters: list[Parameter] = [
        Choice("optimizer", ["sgd", "adam"]),
        Float("rate", 1e-5, 1.0, log=True),
        Float("momentum", 0.0, 0.99, when={"optimizer": ["sgd"]}),
        Float("beta", 0.5, 0.9999, when={"optimizer": ["adam"]}),
        Int("layers", 1, 3),
        Int("width1", 8, 512, log=True),
        Int("width2", 8, 512, log=True, when={"layers": [2, 3]}),
        Int("width3", 8, 512, log=True, when={"layers": [3]}),
        Choice("pattern", ["none", "block"]),
        Int("block", 2, 16, log=True, when={"pattern": ["block"]}),
        Float("density", 0.01, 1.0, log=True),
    ]

    def evaluate(point: dict[str, Any]) -> list[float]:
        sgd = point["optimizer"] == "sgd"
        rate = np.log10(point["rate"] / (0.3 if sgd else 0.0003))
        second = point["momentum"] - 0.9 if sgd else point["beta"] - 0.95
        widths = [100, *(point[f"width{i + 1}"] for i in range(point["layers"])), 10]
        weights = sum(a * b for a, b in itertools.pairwise(widths)) * point["density"]
        used = weights / (1.0 + 0.1 * point["block"] if "block" in point else 1.5)
        depth = {1: 1.0, 2: 0.7, 3: 0.8}[point["layers"]]
        error = 0.02 + 0.03 * rate**2 + 0.2 * second**2 + depth * used**-0.4 + (not sgd) * 0.005
        return [min(0.9, float(error)), float(np.log10(weights))]

    return Problem("mixed", parameters, (0.1, 2.8), evaluate)


@lru_cache(maxsize=1)
def _suite() -> Any:
    import cocoex

    return cocoex.Suite("bbob-biobj", "", f"dimensions:{DIMENSION} instance_indices:1")


def _biobj(number: int) -> Problem:
    """bbob-biobj's function `number`, instance 1, on [-5, 5] in each dimension.

    Its box is not part of the suite: the two minima and the best compromise (the least largest
    share of the way from one minimum's value to the other's) are found by differential evolution,
    and the thresholds lie 1.4 times as far from the minima's values as the compromise.
    """
    from scipy.optimize import differential_evolution

    coco = _suite().get_problem(number - 1)

    def function(x: np.ndarray) -> list[float]:
        return list(coco(10.0 * x - 5.0))

    cache = TABLES / "biobj.json"
    known = json.loads(cache.read_text()) if cache.exists() else {}
    if str(number) not in known:
        bounds = [(0.0, 1.0)] * DIMENSION

        def least(of: Callable[[np.ndarray], float]) -> np.ndarray:
            found = differential_evolution(of, bounds, seed=0, maxiter=600, tol=1e-10, polish=True)
            return np.array(found.x)

        ends = [least(lambda x, i=i: function(x)[i]) for i in (0, 1)]
        ideal = np.array([function(ends[i])[i] for i in (0, 1)])
        nadir = np.array([function(ends[1 - i])[i] for i in (0, 1)])
        middle = least(lambda x: float(((np.array(function(x)) - ideal) / (nadir - ideal)).max()))
        share = ((np.array(function(middle)) - ideal) / (nadir - ideal)).max()
        known[str(number)] = (ideal + _ROOM * share * (nadir - ideal)).tolist()
        cache.parent.mkdir(exist_ok=True)
        cache.write_text(json.dumps(known, indent=1) + "\n")
    return _of_vector(f"biobj_f{number}", tuple(known[str(number)]), function)


def table(path: Path) -> Problem:
    """A problem that answers from recorded trainings.

    The file holds ``parameters`` as in an experiment file, ``thresholds`` (metric -> number),
    ``maximize`` (names of metrics to be turned round) and ``trials``, each with ``parameters``
    and ``metrics``. Between the recorded points the metrics are the mean of 200 extremely
    randomized trees over the parameters on their scales (Geurts et al., 2006).
    """
    from sklearn.ensemble import ExtraTreesRegressor

    data = json.loads(path.read_text())
    parameters = from_mapping(
        {
            "name": path.stem,
            "metrics": {"any": {"goal": "minimize"}},
            "parameters": data["parameters"],
        }
    )["parameters"]
    space = Space(parameters)
    signs = np.array([-1.0 if n in data["maximize"] else 1.0 for n in data["thresholds"]])
    units = space.encode([trial["parameters"] for trial in data["trials"]])
    values = np.array([[t["metrics"][n] for n in data["thresholds"]] for t in data["trials"]])
    forest = ExtraTreesRegressor(200, min_samples_leaf=2, random_state=0).fit(units, values * signs)
    return Problem(
        path.stem,
        parameters,
        tuple((np.array(list(data["thresholds"].values())) * signs).tolist()),
        lambda point: forest.predict(space.encode([point]))[0].tolist(),
    )


# Name -> what makes the problem, the most telling first.
PROBLEMS: dict[str, Callable[[], Problem]] = {
    "zdt1": lambda: _of_vector("zdt1", (0.5, 0.6), _zdt1),
    "dtlz2": lambda: _of_vector("dtlz2", (0.8, 0.8), _dtlz2(2)),
    "biobj_f7": lambda: _biobj(7),
    "mnist_table": lambda: table(TABLES / "mnist_table.json"),
    "speech_table": lambda: table(TABLES / "speech_table.json"),
    "biobj_f1": lambda: _biobj(1),
    "zdt3": lambda: _of_vector("zdt3", (0.5, 0.3), _zdt3),
    "biobj_f21": lambda: _biobj(21),
    "dtlz2_3": lambda: _of_vector("dtlz2_3", (0.75, 0.75, 0.75), _dtlz2(3)),
    "zdt2": lambda: _of_vector("zdt2", (0.7, 0.7), _zdt2),
    "biobj_f11": lambda: _biobj(11),
    "wfg4": lambda: _of_vector("wfg4", (1.6, 3.0), _wfg4),
    "mixed": _mixed,
    "dtlz2_noisy": lambda: PROBLEMS["dtlz2"]().with_noise(0.03),
}
# Problems without thresholds; the corner is at 1.1 times the frontier's worst values, or at the
# worst that there is.
FREE: dict[str, Callable[[], Problem]] = {
    "plateau_free": lambda: _of_vector("plateau", (), _plateau).without_thresholds((1.0, 1.0)),
    "speech_table_free": lambda: table(TABLES / "speech_table.json").without_thresholds(
        (-0.091, 0.47)
    ),
    "zdt1_free": lambda: PROBLEMS["zdt1"]().without_thresholds((1.1, 1.1)),
    "dtlz2_free": lambda: PROBLEMS["dtlz2"]().without_thresholds((1.1, 1.1)),
}


def inside(values: np.ndarray, thresholds: Sequence[float]) -> np.ndarray:
    """True for rows of `values` [trials, metrics] inside all thresholds; bool [trials]."""
    found: np.ndarray = (values <= np.array(thresholds)).all(axis=1)
    return found


def hypervolume(values: np.ndarray, thresholds: Sequence[float]) -> float:
    """Hypervolume that `values` [trials, metrics] dominate inside the thresholds."""
    kept = values[inside(values, thresholds)]
    if not len(kept):
        return 0.0
    if kept.shape[1] == 1:
        return float(thresholds[0] - kept.min())
    # Slices along the last metric, each as large as what the values up to there dominate.
    kept = kept[np.argsort(kept[:, -1], kind="stable")]
    ends = [*kept[1:, -1], thresholds[-1]]
    return sum(
        (end - row[-1]) * hypervolume(kept[: i + 1, :-1], thresholds[:-1])
        for i, (row, end) in enumerate(zip(kept, ends, strict=True))
        if end > row[-1]
    )
