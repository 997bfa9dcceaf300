"""Small to large: cheap trials first, the full cost for promising ones only."""

import pytest

from gossamer.errors import UserError
from gossamer.search import (
    AtLeast,
    AtMost,
    Dominated,
    Experiment,
    Fidelity,
    Float,
    Halving,
    Maximize,
    Minimize,
    TrialRecord,
    TrialStopped,
    Violated,
)
from gossamer.search.stopping.fidelity import Ladder

SMALL = Fidelity("small", {"width": 8}, cost=0.1, reduction=4)
MIDDLE = Fidelity("middle", {"width": 16}, cost=0.3, reduction=2)


def make(storage=None, **changes):
    arguments = {
        "parameters": [Float("a", 0, 1)],
        "metrics": [Maximize("accuracy", 0.8), Minimize("density", 0.9)],
        "budget": 6,
        "sampler": "random",
        "settings": {"width": 64},
        "fidelities": [SMALL],
        "storage": storage,
        **changes,
    }
    return Experiment("x", **arguments)


def train(trial):
    """A small network is a tenth less accurate, in the same order."""
    loss = 0.1 if trial.settings["width"] < 64 else 0.0
    return {"accuracy": trial.parameters["a"] - loss, "density": 0.5}


def by_fidelity(experiment, fidelity):
    return [r for r in experiment.trials() if r.fidelity == fidelity]


def test_the_full_cost_is_spent_on_the_best_quarter():
    experiment = make()
    experiment.run(train, progress=False)
    small, full = by_fidelity(experiment, "small"), by_fidelity(experiment, None)
    spent = len(small) * 0.1 + len(full)
    assert 5.9 <= spent <= 6.0 + 1e-9
    assert len(full) <= len(small) // 4
    assert len(full) >= 3
    # Each full trial repeats a small one that was among the best of those before it.
    for record in full:
        origin = experiment.trials()[record.origin]
        assert origin.parameters == record.parameters
        earlier = [r.parameters["a"] for r in small if r.number < record.number]
        better = sum(a > record.parameters["a"] for a in earlier)
        assert better < len(earlier) / 4
    assert len({r.origin for r in full}) == len(full)


def test_the_frontier_and_importances_are_of_full_trials_only():
    experiment = make()
    experiment.run(train, progress=False)
    frontier = experiment.frontier()
    assert frontier.feasible
    assert all(trial.fidelity is None for trial in frontier.trials)


def test_the_sampler_sees_each_point_once_at_its_full_value():
    experiment = make(budget=12)
    experiment.run(train, progress=False)
    history = experiment._history(experiment.trials())
    assert len(history.points) == len({tuple(p.items()) for p in history.points})
    assert len(history.points) == len(by_fidelity(experiment, "small"))
    # Once three points were run at both, what small ones lead to is known: 0.1 more.
    assert len(by_fidelity(experiment, None)) >= 3
    for point, values in zip(history.points, history.values, strict=True):
        assert values[0] == pytest.approx(point["a"], abs=1e-6)


def test_a_ladder_of_three():
    experiment = make(fidelities=[MIDDLE, SMALL], budget=8)
    experiment.run(train, progress=False)
    small, middle, full = (by_fidelity(experiment, f) for f in ("small", "middle", None))
    assert len(small) > len(middle) > len(full) > 0
    assert {experiment.trials()[r.origin].fidelity for r in full} == {"middle"}
    assert {experiment.trials()[r.origin].fidelity for r in middle} == {"small"}
    assert all(r.origin is None for r in small)


def test_a_trial_that_was_put_back_keeps_its_fidelity(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    experiment = make(url)
    trial = experiment.ask()
    assert (trial.fidelity, trial.settings) == ("small", {"width": 8})
    experiment._store.put_back(trial.number)
    again = Experiment.from_storage(url)
    assert again.fidelities == [SMALL]
    assert again.ask() == trial


def test_thresholds_stop_full_trials_only():
    """A small network's density and accuracy say nothing of the full one's thresholds."""

    def reporting(trial):
        values = train(trial) | {"density": 0.95}
        trial.report(1, values, of=2)
        return values

    experiment = make(stopping=[Violated()])
    experiment.run(reporting, progress=False)
    assert {r.state for r in by_fidelity(experiment, "small")} == {"complete"}
    assert {r.state for r in by_fidelity(experiment, None)} == {"stopped"}


# The last small trial is less accurate than the four before it.
WORSE = (0.4, 0.5, 0.6, 0.7, 0.3)
DOMINATED, HALVING = Dominated(confidence=0.5, least=3), Halving(least=3, first=1)


@pytest.mark.parametrize(
    ("rule", "metrics", "accuracies", "stopped"),
    [
        # Accuracy is wanted ...
        (DOMINATED, [Maximize("accuracy", 0.8), AtMost("density", 0.9)], WORSE, True),
        (HALVING, [Maximize("accuracy", 0.8), AtMost("density", 0.9)], WORSE, True),
        # ... or only limited, at full cost, so that no small trial dominates another ...
        (DOMINATED, [AtLeast("accuracy", 0.8), AtMost("density", 0.9)], WORSE, False),
        (DOMINATED, [AtLeast("accuracy", 0.8), Minimize("density")], WORSE, False),
        (HALVING, [AtLeast("accuracy", 0.8), Minimize("density")], WORSE, False),
        # ... but of constraints alone the one farthest outside stops: 0.3 is 0.5 below, the
        # others at most 0.4. What is inside, or nearer than all others, goes on.
        (HALVING, [AtLeast("accuracy", 0.8), AtMost("density", 0.9)], WORSE, True),
        (HALVING, [AtLeast("accuracy", 0.2), AtMost("density", 0.9)], WORSE, False),
        (
            HALVING,
            [AtLeast("accuracy", 0.8), AtMost("density", 0.9)],
            (0.4, 0.5, 0.6, 0.7, 0.75),
            False,
        ),
    ],
)
def test_what_stops_a_small_trial(rule, metrics, accuracies, stopped):
    dear = Fidelity("small", cost=0.1, reduction=9)  # none of so few climbs
    made = make(metrics=metrics, stopping=[rule], fidelities=[dear])
    ended = []
    for accuracy in accuracies:
        trial = made.ask()
        assert trial.fidelity == "small"
        values = {"accuracy": accuracy, "density": 0.5}
        try:
            for step in (1, 2, 3, 4):
                trial.report(step, values, of=4)
        except TrialStopped:
            ended.append(trial.number)
            # What it was expected to end with is kept of every metric, for the sampler.
            assert made.record(trial.number).expected == pytest.approx(values, abs=0.01)
        else:
            made.tell(trial, values)
    assert ended == ([4] if stopped else [])


def test_of_constraints_alone_what_comes_nearest_at_full_cost_climbs():
    """Worked by hand. Three points were run at both costs, 0.2 more accurate and 0.1 denser at
    full cost; so of the four small ones (accuracy at least 0.8, density at most 0.5 wanted)

        accuracy 0.65, density 0.10 -> 0.85, 0.20   inside
        accuracy 0.99, density 0.60 -> 1.19, 0.70   0.2 too dense
        accuracy 0.55, density 0.05 -> 0.75, 0.15   0.05 not accurate enough
        accuracy 0.62, density 0.30 -> 0.82, 0.40   inside, and no better than the first

    the first climbs, then the last: were they optimized, accuracy 0.99 would not be behind. Three
    more that are far away only make room: of ten trials five may climb.
    """
    metrics = [AtLeast("accuracy", 0.8), AtMost("density", 0.5)]
    ladder = Ladder(metrics, [Fidelity("small", cost=0.1, reduction=2)])

    def record(number, fidelity, accuracy, density, origin=None):
        values = {"accuracy": accuracy, "density": density}
        return TrialRecord(
            number, "complete", {}, values, None, None, fidelity=fidelity, origin=origin
        )

    pairs = [(0.3, 0.2), (0.4, 0.4), (0.5, 0.3)]
    records = [record(i, "small", *values) for i, values in enumerate(pairs)]
    records += [record(3 + i, None, a + 0.2, d + 0.1, i) for i, (a, d) in enumerate(pairs)]
    small = [(0.65, 0.1), (0.99, 0.6), (0.55, 0.05), (0.62, 0.3)]
    records += [record(6 + i, "small", *values) for i, values in enumerate(small)]
    records += [record(20 + i, "small", 0.1, 0.9) for i in range(3)]
    first = ladder.next_up(records, room=1.0)
    assert first == (records[6], None)
    then = ladder.next_up([*records, record(10, None, 0.85, 0.2, origin=6)], room=1.0)
    assert then == (records[9], None)


def test_no_more_than_their_share_climb_however_much_the_last_trials_improve():
    """Of twelve trials, each better than all before it, four climb: not each new best."""
    metrics = [Maximize("accuracy")]
    ladder = Ladder(metrics, [Fidelity("small", cost=0.1, reduction=3)])
    records: list[TrialRecord] = []
    climbed = []
    for i in range(12):
        number = len(records)
        values = {"accuracy": i / 20}
        records.append(TrialRecord(number, "complete", {}, values, None, None, fidelity="small"))
        promoted = ladder.next_up(records, room=1.0)
        if promoted is not None:
            climbed.append(i)
            better = {"accuracy": i / 20 + 0.1}
            assert promoted == (records[number], None)
            records.append(
                TrialRecord(number + 1, "complete", {}, better, None, None, origin=number)
            )
    assert climbed == [2, 5, 8, 11]


def test_networks_take_the_fidelity_over_the_parameters():
    from gossamer.search import TrainNetwork, Trial

    train = TrainNetwork(
        {"task": "t", "model": "speech_cnn", "hidden": 100}, {"small": {"epochs": 2, "hidden": 10}}
    )
    small = train._recipe(Trial(0, {"epochs": 30, "learning_rate": 0.1}, "small")).settings
    assert (small["epochs"], small["hidden"], small["learning_rate"]) == (2, 10, 0.1)
    full = train._recipe(Trial(0, {"epochs": 30})).settings
    assert (full["epochs"], full["hidden"]) == (30, 100)


FILE = """
name = "e"
budget = 3
[settings]
width = 64
[[fidelity]]
name = "small"
cost = 0.1
settings = { width = 8 }
[metrics.density]
goal = "minimize"
[parameters.a]
type = "float"
low = 0
high = 1
"""


def test_fidelities_in_a_file(tmp_path):
    (tmp_path / "e.toml").write_text(FILE)
    assert Experiment.from_toml(tmp_path / "e.toml").fidelities == [SMALL]


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("cost = 0.1", "cost = 1.5", "cost must be between 0 and 1"),
        ("cost = 0.1", "", "fidelity 1: 'cost' is missing"),
        ("cost = 0.1", "cots = 0.1", "unknown key 'cots'; did you mean 'cost'"),
        ("cost = 0.1", "cost = 0.1\nreduction = 1", "reduction must be a whole number"),
        ("{ width = 8 }", "3", "settings must be a table"),
        ("[[fidelity]]", "[fidelity]", "'fidelity' must be a list of tables"),
    ],
)
def test_fidelities_of_nonsense(tmp_path, old, new, words):
    (tmp_path / "e.toml").write_text(FILE.replace(old, new))
    with pytest.raises(UserError) as error:
        Experiment.from_toml(tmp_path / "e.toml")
    assert words in str(error.value)


def test_other_settings_under_the_same_name_are_refused(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    make(url).ask()
    with pytest.raises(UserError, match="fidelity 'small' has other settings"):
        make(url, fidelities=[Fidelity("small", {"width": 9})]).ask()
    with pytest.raises(UserError, match="same name"):
        make(fidelities=[SMALL, SMALL])
