"""Linear constraints, and the points that keep them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import UserError
from gossamer.search import Choice, Float, Int, LinearConstraint
from gossamer.search.space.space import Space

_PARAMETERS = [
    Float("a", 0.0, 1.0),
    Float("b", 1e-3, 1.0, log=True),
    Int("n", 0, 20),
    Float("s", 0.0, 2.0, step=0.25),
    Choice("c", ["x", "y", "z"]),
]
_NUMBERS = ("a", "b", "n", "s")


@st.composite
def _spaces(draw):
    """Spaces whose one to three constraints a random point of the box keeps."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    box = Space(_PARAMETERS)
    inside = box.draw(rng)
    constraints = []
    for _ in range(draw(st.integers(1, 3))):
        names = draw(st.lists(st.sampled_from(_NUMBERS), min_size=1, max_size=4, unique=True))
        coefficients = {name: draw(st.sampled_from([-2.0, -1.0, 0.5, 1.0, 3.0])) for name in names}
        total = sum(c * inside[name] for name, c in coefficients.items())
        constraints.append(LinearConstraint(coefficients, total + draw(st.floats(0.01, 1.0))))
    return Space(_PARAMETERS, constraints), rng


@settings(max_examples=40, deadline=None)
@given(_spaces())
def test_drawn_and_repaired_points_are_feasible_and_in_the_box(case):
    space, rng = case
    box = Space(_PARAMETERS)
    for _ in range(20):
        wish = box.draw(rng)
        for point in (space.draw(rng), space.repair(wish)):
            for constraint in space.constraints:
                terms = [c * point[name] for name, c in constraint.coefficients.items()]
                assert sum(terms) <= constraint.at_most + 1e-9
            for parameter in _PARAMETERS:
                distribution = parameter.distribution()
                value = distribution.to_internal_repr(point[parameter.name])
                assert distribution._contains(value)
        repaired = space.repair(wish)
        assert repaired["c"] == wish["c"]
        if space.holds(wish):
            assert repaired == wish


def test_repair_moves_to_the_border_and_leaves_the_rest():
    space = Space(
        [Float("a", 0.0, 1.0), Float("b", 0.0, 1.0), Float("free", 0.0, 1.0)],
        [LinearConstraint({"a": 1.0, "b": 1.0}, at_most=1.0)],
    )
    repaired = space.repair({"a": 0.9, "b": 0.9, "free": 0.123})
    assert repaired["free"] == 0.123
    assert repaired["a"] + repaired["b"] == pytest.approx(1.0, abs=1e-4)
    # The nearest point of the border is (0.5, 0.5); the nearest of the pool leads close to it.
    assert abs(repaired["a"] - 0.5) < 0.15


def test_decimal_steps_count_as_decimals():
    # 0.1 + 0.2 > 0.3 in floating point.
    assert LinearConstraint({"a": 1.0, "b": 1.0}, at_most=0.3).holds({"a": 0.1, "b": 0.2})
    assert not LinearConstraint({"a": 1.0, "b": 1.0}, at_most=0.3).holds({"a": 0.1, "b": 0.2001})


def test_a_sliver_that_random_points_miss_is_sampled():
    space = Space(
        [Float("a", 0.0, 1.0), Float("b", 0.0, 1.0)],
        [
            LinearConstraint({"a": 1.0, "b": -1.0}, at_most=1e-5),
            LinearConstraint({"a": -1.0, "b": 1.0}, at_most=1e-5),
        ],
    )
    rng = np.random.default_rng(1)
    points = [space.draw(rng) for _ in range(50)]
    assert all(abs(p["a"] - p["b"]) <= 1.0001e-5 for p in points)
    assert np.std([p["a"] for p in points]) > 0.1


def test_a_constraint_between_conditional_parameters_holds_where_both_exist():
    space = Space(
        [
            Choice("kind", ["both", "one", "none"]),
            Float("a", 0, 1, when={"kind": ["both", "one"]}),
            Float("b", 0, 1, when={"kind": "both"}),
        ],
        [LinearConstraint({"a": 1.0, "b": 1.0}, at_most=0.5)],
    )
    assert space.holds({"kind": "one", "a": 0.9})
    assert not space.holds({"kind": "both", "a": 0.9, "b": 0.1})
    assert space.repair({"kind": "one", "a": 0.9, "b": 0.9}) == {"kind": "one", "a": 0.9}
    moved = space.repair({"kind": "both", "a": 0.9, "b": 0.9})
    assert moved["a"] + moved["b"] <= 0.5 + 1e-9
    rng = np.random.default_rng(0)
    drawn = [space.draw(rng) for _ in range(200)]
    assert all(space.holds(point) for point in drawn)
    assert any(point["kind"] == "one" and point["a"] > 0.6 for point in drawn)
    units = space.on_grid(rng.random((300, 3)))
    sums = units[:, 1] + units[:, 2]
    assert (sums[~np.isnan(sums)] <= 0.5 + 1e-9).all()
    assert np.isnan(sums).sum() > 150  # those without b all stay


def test_an_equality_of_integers_is_met():
    space = Space(
        [Int("a", 0, 1000), Int("b", 0, 1000), Int("c", 0, 1000)],
        [
            LinearConstraint({"a": 1, "b": 1, "c": 1}, at_most=900),
            LinearConstraint({"a": -1, "b": -1, "c": -1}, at_most=-900),
        ],
    )
    rng = np.random.default_rng(1)
    assert all(sum(space.draw(rng).values()) == 900 for _ in range(50))


@pytest.mark.parametrize(
    ("constraints", "words"),
    [
        ([LinearConstraint({"a": 1.0, "zz": 1.0}, 1.0)], "unknown parameter 'zz'"),
        ([LinearConstraint({"lerning": 1.0}, 1.0)], "did you mean 'learning'?"),
        ([LinearConstraint({"c": 1.0}, 1.0)], "'c' is a choice"),
        ([LinearConstraint({"a": 1.0}, -0.5)], "can not be met within the parameters' bounds"),
        (
            [LinearConstraint({"a": 1.0}, 0.3), LinearConstraint({"a": -1.0}, -0.4)],
            "exclude each other",
        ),
        # Even and odd: no whole number is both, though real numbers are.
        (
            [LinearConstraint({"n": 2.0}, 3.5), LinearConstraint({"n": -2.0}, -2.5)],
            "exclude each other",
        ),
    ],
)
def test_impossible_constraints_are_refused(constraints, words):
    parameters = [Float("a", 0, 1), Float("learning", 0, 1), Int("n", 0, 9), Choice("c", ["x"])]
    with pytest.raises(UserError) as error:
        Space(parameters, constraints)
    assert words in str(error.value)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("coefficients", "at_most", "words"),
    [
        ({}, 1.0, "needs coefficients"),
        (["a"], 1.0, "needs coefficients"),
        ({"a": "1"}, 1.0, "the coefficient of 'a'"),
        ({"a": float("inf")}, 1.0, "the coefficient of 'a'"),
        ({"a": 0.0}, 1.0, "every coefficient is 0"),
        ({"a": 1.0}, None, "at_most must be"),
    ],
)
def test_constraints_of_nonsense_are_refused(coefficients, at_most, words):
    with pytest.raises(UserError) as error:
        LinearConstraint(coefficients, at_most)
    assert words in str(error.value)


def test_a_parameter_twice_or_none_at_all():
    with pytest.raises(UserError, match="'a' is given twice"):
        Space([Float("a", 0, 1), Int("a", 0, 1)])
    with pytest.raises(UserError, match="at least one parameter"):
        Space([])
