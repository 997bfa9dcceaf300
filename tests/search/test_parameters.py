"""Parameters: what they accept, and their way to and from the unit interval."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gossamer.errors import UserError
from gossamer.search import Choice, Float, Grid, Int, Maximize, Minimize, Prior, Space

_PARAMETERS = [
    Float("a", -2.0, 3.0),
    Float("b", 1e-5, 0.3, log=True),
    Float("c", 0.1, 0.7, step=0.2),
    Float("d", 1.5, 1.5),
    Int("e", -3, 9),
    Int("f", 1, 1000, log=True),
    Int("g", 32, 256, step=32),
    Int("h", 4, 4),
    Choice("i", ["adam", "sgd", None, 3, False]),
]


@pytest.mark.parametrize("parameter", _PARAMETERS, ids=lambda p: p.name)
@given(unit=st.floats(0.0, 1.0))
def test_every_unit_gives_a_value_that_optuna_accepts(parameter, unit):
    distribution = parameter.distribution()
    value = parameter.decode(unit)
    assert distribution._contains(distribution.to_internal_repr(value))


@pytest.mark.parametrize("parameter", _PARAMETERS, ids=lambda p: p.name)
@given(unit=st.floats(0.0, 1.0))
def test_encoding_goes_back(parameter, unit):
    value = parameter.decode(unit)
    encoded = parameter.encode(value)
    assert 0.0 <= encoded <= 1.0
    again = parameter.decode(encoded)
    if isinstance(value, float):
        assert math.isclose(again, value, rel_tol=1e-9, abs_tol=1e-12)
    else:
        assert again is value or again == value


def test_hand_worked_values():
    assert Float("x", 1e-4, 1.0, log=True).decode(0.5) == pytest.approx(1e-2)
    # Four cells of a quarter each, and decimal steps: not 0.30000000000000004.
    stepped = Float("x", 0.1, 0.4, step=0.1)
    assert [stepped.decode(u) for u in (0.0, 0.24, 0.25, 0.5, 0.99, 1.0)] == [
        0.1,
        0.1,
        0.2,
        0.3,
        0.4,
        0.4,
    ]
    assert [Int("x", 1, 4).decode(u) for u in (0.0, 0.25, 0.74, 1.0)] == [1, 2, 3, 4]
    assert [Int("x", 32, 96, step=32).decode(u) for u in (0.0, 0.5, 0.9)] == [32, 64, 96]
    assert [Choice("x", ["a", "b", "c"]).decode(u) for u in (0.0, 0.5, 1.0)] == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: Float("lr", 0.3, 0.1), "'lr': low 0.3 is above high 0.1"),
        (lambda: Prior(0.5, [0.1, -1]), "prior: spread must be above 0"),
        (lambda: Prior(0.5, [0.1]), "prior: spread must be a finite number, or two of them"),
        (lambda: Float("lr", 1, 9, log=True, prior=Prior(2, [2, 1])), "'lr': on a logarithmic"),
        (lambda: Choice("c", ["a", "b"], prior=[1]), "'c': prior must be 2 numbers above 0"),
        (lambda: Choice("c", ["a", "b"], prior=[1, 0]), "'c': prior must be 2 numbers above 0"),
        (lambda: Choice("c", ["a", "b"], prior="ab"), "'c': prior must be 2 numbers above 0"),
        (lambda: Choice("c", ["a", "b"], ordered=1), "'c': ordered must be true or false"),
        (lambda: Grid("g", ["a", "b"]), "texts in an order are a choice with ordered = true"),
        (lambda: Float("lr", 0.0, 0.1, log=True), "'lr': log = true needs low > 0"),
        (lambda: Float("lr", -1.0, 0.1, log=True), "'lr': log = true needs low > 0"),
        (lambda: Float("lr", "0.1", 1.0), "'lr': low must be a finite number"),
        (lambda: Float("lr", 0.1, math.inf), "'lr': high must be a finite number"),
        (lambda: Float("lr", 0.1, math.nan), "'lr': high must be a finite number"),
        (lambda: Float("lr", True, 2.0), "'lr': low must be a finite number"),
        (lambda: Float("lr", 0.1, 1.0, step=0.0), "'lr': step must be above 0"),
        (lambda: Float("lr", 0.1, 1.0, step=-0.1), "'lr': step must be above 0"),
        (lambda: Float("lr", 0.1, 1.0, log=1), "'lr': log must be true or false"),
        (lambda: Float("lr", 0.1, 1.0, log=True, step=0.1), "'lr': log and step exclude"),
        (lambda: Float("lr", 0.0, 1.0, step=0.3), "use high = 0.9"),
        (lambda: Float("", 0.0, 1.0), "name must be a text"),
        (lambda: Float(3, 0.0, 1.0), "name must be a text"),
        (lambda: Int("n", 5, 4), "'n': low 5 is above high 4"),
        (lambda: Int("n", 0, 4, log=True), "'n': log = true needs low > 0"),
        (lambda: Int("n", 1.5, 4), "'n': low must be a whole number"),
        (lambda: Int("n", 1, 4, step=0), "'n': step must be above 0"),
        (lambda: Int("n", 1, 4, step=0.5), "'n': step must be a whole number"),
        (lambda: Int("n", 1, 5, log=True, step=2), "'n': log and step exclude"),
        (lambda: Int("n", 1, 6, step=2), "use high = 5"),
        (lambda: Choice("c", []), "'c': options is empty"),
        (lambda: Choice("c", "adam"), "'c': options must be a list"),
        (lambda: Choice("c", ["a", "b", "a"]), "'c': option 'a' is given twice"),
        (lambda: Choice("c", [1, True]), "'c': option True is given twice"),
        (lambda: Choice("c", [[1]]), "'c': option [1] must be"),
        (lambda: Choice("c", [math.nan]), "'c': option nan must be"),
        (lambda: Maximize("a", threshold="high"), "metric 'a': threshold must be"),
        (lambda: Minimize("a", threshold=math.nan), "metric 'a': threshold must be"),
        (lambda: Minimize(" "), "the metric's name must be a text"),
    ],
)
def test_what_makes_no_sense_is_one_line_that_names_it(make, words):
    with pytest.raises(UserError) as error:
        make()
    assert words in str(error.value)
    assert "\n" not in str(error.value)


def test_violation_is_measured_from_the_threshold():
    assert Maximize("a", 0.9).violation(0.7) == pytest.approx(0.2)
    assert Maximize("a", 0.9).violation(0.9) == 0.0
    assert Minimize("a", 0.1).violation(0.4) == pytest.approx(0.3)
    assert Minimize("a", 0.1).violation(0.05) == pytest.approx(-0.05)
    assert Maximize("a").violation(-1e9) == -math.inf


def test_a_skewed_prior_is_normal_to_either_side():
    skewed = Float("x", 0.0, 10.0, prior=Prior(2.0, [0.5, 2.0]))
    drawn = 10.0 * np.array([skewed.believed(u) for u in (np.arange(20_000) + 0.5) / 20_000])
    # Masses to the left and right are as the spreads are, less what is beyond the bounds.
    assert (drawn < 2.0).mean() == pytest.approx(0.5 / 2.5, abs=0.002)
    left, right = drawn[drawn < 2.0], drawn[drawn > 2.0]
    assert ((2.0 - left) < 0.5).mean() == pytest.approx(0.6827, abs=0.005)
    assert ((right - 2.0) < 2.0).mean() == pytest.approx(0.6827, abs=0.005)
    at = np.array([0.15, 0.2, 0.4])
    assert skewed.log_belief(at) == pytest.approx([-0.5, 0.0, -0.5])


def test_a_prior_with_equal_spreads_is_the_normal_one():
    both, one = (Float("x", 1, 100, log=True, prior=Prior(10, s)) for s in ([3, 3], 3))
    for unit in (0.0, 0.1, 0.5, 0.77, 1.0):
        assert both.believed(unit) == pytest.approx(one.believed(unit))


@pytest.mark.parametrize(
    "listed",
    [Choice("x", ["a", "b", "c"], prior=[1, 2, 5]), Grid("x", [1, 2, 9], prior=[1, 2, 5])],
)
def test_weights_of_listed_values(listed):
    drawn = [listed.decode(listed.believed(u)) for u in (np.arange(800) + 0.5) / 800]
    values = getattr(listed, "options", None) or listed.values
    assert [drawn.count(value) for value in values] == [100, 200, 500]
    assert 0.0 <= listed.believed(0.0) <= listed.believed(1.0) <= 1.0
    centers = np.array([listed.encode(value) for value in values])
    density = listed.log_belief(centers)
    assert np.exp(density - density[0]) == pytest.approx([1, 2, 5])


def test_ordered_options_are_neighbors():
    sizes = ["small", "medium", "large"]
    points = [{"size": size} for size in sizes]
    for ordered, ratio in ((True, 2.0), (False, 1.0)):
        space = Space([Choice("size", sizes, ordered=ordered)])
        columns = space.features(space.encode(points)).columns
        near, far = (np.linalg.norm(columns[i] - columns[0]) for i in (1, 2))
        assert far / near == pytest.approx(ratio)
