"""Known good points, and learning from an earlier experiment."""

import numpy as np
import pytest

from gossamer.errors import UserError
from gossamer.search import (
    Choice,
    Experiment,
    Float,
    Int,
    LinearConstraint,
    Minimize,
    WarmStart,
)

PARAMETERS = [
    Float("a", 0.0, 1.0),
    Float("b", 1e-3, 1.0, log=True),
    Choice("c", ["x", "y"]),
    Float("d", 0.0, 1.0, when={"c": ["y"]}),
]
METRICS = [Minimize("loss")]


def test_known_good_points_come_first_and_once():
    start = [{"a": 0.25, "b": 0.5, "c": "x"}, {"a": 0.75}, {"c": "y", "d": 0.1}]
    for sampler in ("gp", "random"):
        experiment = Experiment("s", PARAMETERS, METRICS, start=start, sampler=sampler)
        asked = [experiment.ask().parameters for _ in range(5)]
        assert asked[0] == start[0]
        assert asked[1]["a"] == 0.75
        assert asked[1]["b"] == pytest.approx(10**-1.5)
        assert (asked[2]["c"], asked[2]["d"]) == ("y", 0.1)
        assert asked[3] not in asked[:3]
        assert asked[4] not in asked[:4]


@pytest.mark.parametrize(
    ("start", "words"),
    [
        ({"a": 1.0}, "start must be a list"),
        ([3], "start must be a list such as"),
        ([{"a": 0.5}, {"e": 1.0}], "start 2: unknown parameter 'e'"),
        ([{"a": 1.5}], "start 1: 'a' is never 1.5"),
        ([{"a": "big"}], "start 1: 'a' is never 'big'"),
        ([{"c": "z"}], "start 1: 'c' is never 'z'"),
        ([{"a": 1.0, "b": 1.0, "c": "x"}], "start 1 breaks constraint"),
        ([{"a": 1.0}], "give the constraint's other parameters too"),
    ],
)
def test_points_that_cannot_be_are_named(start, words):
    constraints = [LinearConstraint({"a": 1.0, "b": 1.0}, at_most=1.02)]
    with pytest.raises(UserError) as error:
        Experiment("s", PARAMETERS, METRICS, constraints, start=start)
    assert words in str(error.value)


def _bowl(center, offset=0.0, slope=1.0):
    def train(trial):
        x = np.array([trial.parameters[f"x{i}"] for i in range(5)])
        away = x - center
        return {
            "loss": offset + slope * (away**2).sum(),
            "size": float(trial.parameters["x0"] + trial.parameters["x1"]),
        }

    return train


_METRICS = [Minimize("loss", 0.1), Minimize("size", 0.6)]
_FIVE = [Float(f"x{i}", 0.0, 1.0) for i in range(5)]


def _small(tmp_path, **others):
    """An earlier experiment, whose two best points are known unless it searches."""
    url = f"sqlite:///{tmp_path}/small.db"
    start = [{f"x{i}": x for i in range(5)} for x in (0.3, 0.2)]
    arguments = {"start": start, "sampler": "random", "budget": 3, **others}
    Experiment("small", _FIVE, _METRICS, storage=url, **arguments).run(_bowl(0.3), progress=False)
    return url


def test_an_earlier_experiment_shortens_the_way(tmp_path):
    """Its optimum is near, its values are of another scale: inside within half the trials."""
    url = _small(tmp_path, start=(), sampler="gp", budget=25)

    def first(**others):
        found = Experiment("large", _FIVE, _METRICS, budget=20, **others)
        found.run(_bowl(0.36, offset=0.02, slope=2.0), progress=False)
        inside = [
            r.number for r in found.trials() if r.values["loss"] <= 0.1 and r.values["size"] <= 0.6
        ]
        return inside[0] + 1 if inside else 21

    assert first(warm_start=WarmStart(url)) <= 0.5 * first()


def test_it_is_read_once_and_brought_into_the_new_space(tmp_path):
    url = _small(tmp_path)
    parameters = [*_FIVE[:3], Float("x3", 0.5, 1.0), Int("x4", 0, 1), Float("new", 0.0, 4.0)]
    constraints = [LinearConstraint({"x0": 1.0, "x1": 1.0}, at_most=0.5)]
    storage = f"sqlite:///{tmp_path}/large.db"
    arguments = (parameters, _METRICS, constraints)
    warm = WarmStart(url, "small", best=2)
    first = Experiment("large", *arguments, storage=storage, warm_start=warm)
    asked = [first.ask().parameters for _ in range(3)]
    for point in asked[:2]:
        assert point["x3"] >= 0.5
        assert point["x4"] in (0, 1)
        assert point["x0"] + point["x1"] <= 0.5 + 1e-9
    assert asked[1] == pytest.approx(
        {**{f"x{i}": 0.2 for i in range(3)}, "x3": 0.5, "x4": 0, "new": 2.0}
    )
    (tmp_path / "small.db").unlink()
    again = Experiment.from_storage(storage)
    assert again.trials()[0].parameters == asked[0]
    assert again.ask().parameters not in asked
    with pytest.raises(UserError, match=r"small\.db does not exist"):
        Experiment("other", *arguments, storage=storage, warm_start=warm)


def test_an_earlier_experiment_that_tells_nothing_is_refused(tmp_path):
    url = _small(tmp_path)
    with pytest.raises(UserError, match="no complete trial with one of the metrics other"):
        Experiment("large", _FIVE, [Minimize("other")], warm_start=WarmStart(url))
    with pytest.raises(UserError, match="has none of the parameters z"):
        Experiment("large", [Float("z", 0.0, 1.0)], _METRICS, warm_start=WarmStart(url))
    with pytest.raises(UserError, match="best must be a whole number"):
        WarmStart(url, best=-1)


def test_thresholds_set_elsewhere_are_followed(tmp_path):
    """Two openings of one experiment, as two processes have them."""
    url = f"sqlite:///{tmp_path}/x.db"
    here = Experiment("x", _FIVE, _METRICS, storage=url)
    there = Experiment("x", _FIVE, _METRICS, storage=url)
    there.set_threshold("size", 0.2)
    here.ask()
    assert here.metrics == [Minimize("loss", 0.1), Minimize("size", 0.2)]
    here.set_threshold("loss", None)
    there.frontier()
    assert there.metrics == [Minimize("loss"), Minimize("size", 0.2)]
    assert Experiment.from_storage(url).metrics == there.metrics
    with pytest.raises(UserError, match="no metric 'siez'; did you mean 'size'"):
        here.set_threshold("siez", 1.0)
    with pytest.raises(UserError, match="threshold must be a finite number"):
        here.set_threshold("size", float("nan"))
