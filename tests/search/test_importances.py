"""Which parameters move which metric."""

import json
from pathlib import Path

import pytest

from gossamer.search import (
    Choice,
    Experiment,
    Float,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    TrialRecord,
)
from gossamer.search.importances import importances


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
                assert share < 0.2
                assert share.low < 0.05
    # Sobol' total effects of (a - 0.3)^2 and 2 (b - 0.3)^2 over the box are as 1 to 4.
    if sampler == "random":
        assert found["m"]["a"].low - 0.03 < 0.2 < found["m"]["a"].high + 0.03


CLUSTERED = json.loads((Path(__file__).parent / "data/clustered_trials.json").read_text())


@pytest.mark.parametrize("count", [15, 30, 60])
@pytest.mark.parametrize("recorded", CLUSTERED)
def test_what_does_nothing_is_near_0_among_trials_of_the_sampler(recorded, count):
    """Two recorded searches of "gp" over accuracy = 0.98 - 0.03 (log10(lr) + 2)^2 - 0.003 / (wd +
    0.05), with noise of 0.004, at least 0.9, against density = wd, at most 0.3; u1 to u4 are never
    looked at. Their trials lie close together, so that a parameter which does nothing may seem to
    explain what another one does: it once got up to 0.65."""
    parameters = [
        Float("lr", 1e-4, 1, log=True),
        Float("wd", 0.01, 1, log=True),
        Float("u1", 0, 1),
        Float("u2", 0, 1),
        Int("u3", 1, 64, log=True),
        Choice("u4", ["a", "b"]),
    ]
    records = [
        TrialRecord(
            number,
            "complete",
            {name: value for name, value in trial.items() if name != "accuracy"},
            {"accuracy": trial["accuracy"], "density": trial["wd"]},
            None,
            1.0,
        )
        for number, trial in enumerate(recorded[:count])
    ]
    metrics = [Maximize("accuracy", 0.9), Minimize("density", 0.3)]
    shares = importances(metrics, Experiment("x", parameters, metrics).space, records)
    for metric, causes in (("accuracy", ["lr", "wd"]), ("density", ["wd"])):
        assert list(shares[metric])[: len(causes)] == causes
        for name, share in shares[metric].items():
            if name not in causes:
                assert share < 0.1
                assert share.low < 0.01
    assert 0.65 < shares["accuracy"]["lr"] < 0.9
    assert shares["density"]["wd"] > 0.9
