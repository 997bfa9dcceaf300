"""Which parameters move which metric."""

import pytest

from gossamer.search import (
    Experiment,
    Float,
    Minimize,
)


def test_importances_find_what_matters():
    experiment = Experiment(
        "x",
        [Float("a", 0, 1), Float("b", 0, 1), Float("same", 1, 1)],
        [Minimize("of_a"), Minimize("of_b"), Minimize("constant")],
        sampler="random",
        budget=40,
    )
    assert experiment.importances() == {"of_a": {}, "of_b": {}, "constant": {}}
    experiment.run(
        lambda t: {
            "of_a": t.parameters["a"] + 0.01 * t.parameters["b"],
            "of_b": t.parameters["b"] ** 2,
            "constant": 1.0,
        },
        progress=False,
    )
    shares = experiment.importances()
    assert shares["of_a"]["a"] > 0.9
    assert shares["of_b"]["b"] > 0.9
    assert next(iter(shares["of_b"])) == "b"
    assert sum(shares["of_a"].values()) == pytest.approx(1.0)
    assert shares["constant"] == {}
