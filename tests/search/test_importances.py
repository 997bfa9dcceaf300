"""Which parameters move which metric."""

import pytest

from gossamer.search import Choice, Experiment, Float, LinearConstraint, Maximize, Minimize


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


@pytest.mark.parametrize("sampler", ["random", "gp"])
def test_a_parameter_without_effect_has_no_share(sampler):
    """At 15 trials a forest ascribed up to 0.46 to one."""
    experiment = Experiment(
        "x",
        [
            Float("a", 0, 1),
            Float("b", 0, 1),
            Choice("nothing", ["x", "y", "z"]),
            Float("little", 0, 1, when={"nothing": ["x", "y"]}),
        ],
        [Minimize("m", threshold=0.3), Maximize("huge")],
        [LinearConstraint({"a": 1, "b": 1}, 1.5)],
        sampler=sampler,
        budget=15,
    )

    def train(trial):
        a, b = trial.parameters["a"], trial.parameters["b"]
        return {"m": (a - 0.3) ** 2 + 2 * (b - 0.3) ** 2, "huge": 1e300 * (a - 0.5)}

    experiment.run(train, trials=9, progress=False)
    assert experiment.importances() == {"m": {}, "huge": {}}  # too few
    experiment.run(train, progress=False)
    found = experiment.importances()
    for name, effects in (("m", {"a", "b"}), ("huge", {"a"})):
        shares = found[name]
        assert sum(shares.values()) == pytest.approx(1.0)
        assert list(shares.values()) == sorted(shares.values(), reverse=True)
        for parameter, share in shares.items():
            assert 0 <= share.low <= share <= share.high <= 1
            if sampler == "random":
                assert (share.low > 0.1) if parameter in effects else (share.high < 0.05)
            elif parameter not in effects:
                # Trials around one optimum tell less, and the interval says so.
                assert share < 0.46
                assert share.low < 0.1
    # Sobol' total effects of (a - 0.3)^2 and 2 (b - 0.3)^2 over the box are as 1 to 4.
    if sampler == "random":
        assert found["m"]["a"].low - 0.03 < 0.2 < found["m"]["a"].high + 0.03
