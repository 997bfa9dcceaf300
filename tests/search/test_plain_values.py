"""Every public constructor, given numbers of other libraries and what is no number at all."""

import json

import numpy as np
import pytest
import torch
from tests.search.experiments import make

from gossamer.errors import UserError
from gossamer.numbers import Goal
from gossamer.search import (
    AtLeast,
    AtMost,
    Choice,
    Command,
    Dominated,
    Experiment,
    Fidelity,
    Float,
    Grid,
    Halving,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    OutOfReach,
    Prior,
    Violated,
    WarmStart,
)
from gossamer.search.definition import from_mapping, to_mapping

# Each makes something from one number.
OF_A_NUMBER = {
    "Float low": lambda n: Float("x", n, 2.0),
    "Float high": lambda n: Float("x", 0.0, n),
    "Float step": lambda n: Float("x", 0.0, 1.0, step=n),
    "Int low": lambda n: Int("x", n, 8),
    "Int high": lambda n: Int("x", 0, n),
    "Int step": lambda n: Int("x", 0, 8, step=n),
    "Grid value": lambda n: Grid("x", [n]),
    "Prior center": lambda n: Float("x", 0.0, 1.0, prior=Prior(n, 0.5)),
    "Prior spread": lambda n: Float("x", 0.0, 1.0, prior=Prior(0.5, n)),
    "coefficient": lambda n: LinearConstraint({"x": n}, 1.0),
    "at_most": lambda n: LinearConstraint({"x": 1.0}, n),
    "Maximize": lambda n: Maximize("m", n),
    "Minimize": lambda n: Minimize("m", n),
    "AtLeast": lambda n: AtLeast("m", n),
    "AtMost": lambda n: AtMost("m", n),
    "Fidelity cost": lambda n: Fidelity("f", cost=n),
    "Fidelity reduction": lambda n: Fidelity("f", reduction=n),
    "Command": lambda n: Command("run", timeout=n),
    "WarmStart": lambda n: WarmStart("sqlite:///x.db", best=n),
    "OutOfReach": lambda n: OutOfReach(confidence=n),
    "OutOfReach least": lambda n: OutOfReach(least=n),
    "Dominated": lambda n: Dominated(confidence=n),
    "Halving": lambda n: Halving(reduction=n),
    "budget": lambda n: make(budget=n),
    "seed": lambda n: make(seed=n),
    "start": lambda n: make(start=[{"width": n}]),
    "setting": lambda n: make(settings={"rate": n}),
}
# What the number is where 1 is not one that it may be.
ORDINARY = {
    **dict.fromkeys(["Fidelity cost", "OutOfReach", "Dominated", "Prior center"], 0.5),
    **dict.fromkeys(["Fidelity reduction", "Halving"], 2),
}
OF_A_LIST = {
    "options": lambda v: Choice("x", v),
    "values": lambda v: Grid("x", v),
    "when": lambda v: make(
        parameters=[Grid("p", [1, 2, 3]), Float("x", 0, 1, when={"p": v})],
    ),
    "setting": lambda v: make(settings={"sizes": v}),
    "start": lambda v: make(start=[{"width": n} for n in v]),
}


def read_only(values):
    array = np.array(values)
    array.setflags(write=False)
    return array


@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_numbers_of_numpy_and_torch_make_what_pythons_do(name):
    number, make_one = ORDINARY.get(name, 1), OF_A_NUMBER[name]
    kinds = [np.float32, np.float64, np.array, torch.tensor, read_only]
    if isinstance(number, int):
        kinds = [np.int64, np.uint8, np.array, torch.tensor, read_only]
    for kind in kinds:
        assert _description(make_one(kind(number))) == _description(make_one(number))


@pytest.mark.parametrize("name", OF_A_LIST)
def test_arrays_are_lists(name):
    for kind in (tuple, np.array, torch.tensor, read_only):
        assert _description(OF_A_LIST[name](kind([1, 2]))) == _description(OF_A_LIST[name]([1, 2]))
    options = np.array(["sgd", "adam"])
    assert Choice("x", options) == Choice("x", ["sgd", "adam"])
    assert type(Choice("x", options).options[0]) is str
    assert Violated(options) == Violated(["sgd", "adam"])


def _description(made):
    """What is stored of it; JSON knows no numbers of other libraries."""
    if isinstance(made, Experiment):
        return json.dumps(made._opening.definition)
    return repr(made)


STRANGE = {
    "nan": float("nan"),
    "infinite": np.float64("inf"),
    "huge": 10**400,
    "nothing": None,
    "text": "1",
    "boolean": np.True_,
    "empty": np.array([]),
    "empty list": [],
    "several": np.array([1, 2]),
    "complex": 1j,
}


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", OF_A_NUMBER)
def test_what_is_no_number_is_one_line(name, kind):
    value = STRANGE[kind]
    if name == "setting" and kind not in ("nan", "infinite", "complex"):
        return  # settings are any JSON
    if (name, kind) == ("Prior spread", "several"):
        return  # one below the center, one above it
    optional = ("Float step", "Maximize", "Minimize", "Command", "budget")
    if value is None and name in optional:
        OF_A_NUMBER[name](value)
        return
    with pytest.raises(UserError) as error:
        OF_A_NUMBER[name](value)
    assert "\n" not in str(error.value)
    assert len(str(error.value)) > 10


@pytest.mark.parametrize("kind", STRANGE)
@pytest.mark.parametrize("name", ["options", "values"])
def test_what_is_no_list_is_one_line(name, kind):
    if kind == "several":
        return
    with pytest.raises(UserError) as error:
        OF_A_LIST[name](STRANGE[kind])
    assert "\n" not in str(error.value)


LARGEST, SMALLEST = 1.7976931348623157e308, 5e-324


@pytest.mark.parametrize(
    ("parameter", "words"),
    [
        (lambda: Float("x", -LARGEST, LARGEST), "further apart than a double"),
        (lambda: Float("x", SMALLEST, 1.0, log=True), "further apart than a double"),
        (lambda: Float("x", 0.0, 1e300, step=1e-300), "too small a step"),
        (lambda: Int("x", 0, 2**60), "beyond 2\\*\\*53"),
        (lambda: Int("x", -(10**308), 10**308), "further apart|beyond"),
    ],
)
def test_ranges_that_a_double_cannot_hold_are_refused(parameter, words):
    with pytest.raises(UserError, match=words):
        parameter()


@pytest.mark.parametrize(
    "parameter",
    [
        Float("x", -8e307, 8e307),
        Float("x", 1e-300, 1.0, log=True),
        Float("x", 0.0, SMALLEST),
        Float("x", 1.0, 1.0 + 2**-52),
        Float("x", 0.0, 10.0, prior=Prior(5.0, SMALLEST)),
        Float("x", 0.0, 1.0, prior=Prior(0.5, LARGEST)),
        Int("x", -(2**53), 2**53 - 1),
        Grid("x", [-LARGEST, 0.0, SMALLEST, LARGEST]),
    ],
    ids=str,
)
def test_ranges_at_the_ends_of_a_double_are_searched(parameter):
    experiment = Experiment("x", [parameter], [Minimize("m")], budget=6)
    experiment.run(lambda trial: {"m": float(trial.parameters["x"]) / 10}, progress=False)
    for record in experiment.trials():
        assert record.state == "complete"
        assert parameter.low <= record.parameters["x"] <= parameter.high


@pytest.mark.parametrize("values", [[1e300, -1e300], [1e-310, 2e-310], [LARGEST, -LARGEST], [5, 5]])
def test_metrics_of_any_size_leave_the_sampler_working(values):
    experiment = Experiment("x", [Float("x", 0, 1)], [Minimize("m", 1.0), Maximize("n")], budget=7)
    experiment.run(
        lambda t: {"m": values[t.number % 2], "n": values[(t.number + 1) % 2]}, progress=False
    )
    assert [record.state for record in experiment.trials()] == ["complete"] * 7


def test_terms_of_a_constraint_that_a_double_cannot_hold_are_refused():
    with pytest.raises(UserError, match="terms are too large"):
        make(constraints=[LinearConstraint({"width": LARGEST}, 1.0)])


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"metrics": Maximize("a")}, "metrics must be a list"),
        ({"metrics": ["a"]}, r"metrics must be a list such as \[Maximize"),
        ({"parameters": Float("a", 0, 1)}, "parameters must be a list"),
        ({"parameters": ["a"]}, "parameters must be a list such as"),
        ({"constraints": [3]}, "constraints must be a list such as"),
        ({"settings": [1]}, "settings must map"),
        ({"sampler": ["gp"]}, "sampler must be a name"),
        ({"start": {"width": 3}}, "start must be a list"),
        ({"stopping": [3]}, "stopping must be a list such as"),
        ({"fidelities": "cheap"}, "fidelities must be a list"),
        ({"storage": 3}, "not a database URL"),
        ({"warm_start": "sqlite:///x.db"}, "warm_start must be"),
        ({"command": 3}, "command must be"),
    ],
)
def test_arguments_of_another_kind_are_named(changes, words):
    with pytest.raises(UserError, match=words):
        make(**changes)


def test_start_points_have_the_parameters_own_types():
    experiment = Experiment(
        "x",
        [Int("n", 0, 9), Grid("g", [1.0, 2.0]), Choice("c", [True, "a"]), Float("f", 0, 1)],
        [Minimize("m")],
        start=[{"n": np.float32(3), "g": torch.tensor(2), "c": np.True_, "f": np.int64(1)}],
    )
    point = experiment.ask().parameters
    assert point == {"n": 3, "g": 2.0, "c": True, "f": 1.0}
    assert [type(value) for value in point.values()] == [int, float, bool, float]


def test_numpy_values_are_stored(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    arguments = {
        "parameters": [Grid("g", np.array([1, 2])), Float("f", np.float32(0.5), np.float64(1))],
        "metrics": [Maximize("m", np.float32(0.5))],
        "start": [{"g": np.int64(2)}],
        "stopping": [OutOfReach(confidence=np.float64(0.9))],
        "fidelities": [Fidelity("cheap", {"n": np.arange(2)}, np.float32(0.25))],
        "settings": {"sizes": np.array([8, 16])},
        "budget": np.int64(5),
    }
    experiment = Experiment("x", storage=url, **arguments)
    experiment.tell(experiment.ask(), {"m": np.float16(0.75)})
    again = Experiment.from_storage(url)
    assert again.settings == {"sizes": [8, 16]}
    assert again.parameters == experiment.parameters
    assert again.trials() == experiment.trials()
    described = to_mapping(again.parameters, again.metrics, again.constraints, name="x")
    assert from_mapping(json.loads(json.dumps(described)))["parameters"] == again.parameters


@pytest.mark.parametrize("narrow", [np.float32, np.float16, torch.tensor, np.array])
def test_a_number_of_few_bits_at_the_threshold_meets_it(narrow):
    """0.7 of 32 bits is 0.699999988 of 64: the best network would be called infeasible."""
    for metric in (Maximize("m", 0.7), Minimize("m", narrow(0.7))):
        experiment = Experiment("e", parameters=[Float("x", 0, 1)], metrics=[metric], budget=2)
        trial = experiment.ask()
        experiment.tell(trial, {"m": narrow(0.7) if metric.goal is Goal.MAXIMIZE else 0.7})
        assert [t.values["m"] for t in experiment.frontier().trials] == [0.7]
        assert experiment.frontier().feasible
