"""Stopping early: reports, forecasts, rules, and what becomes of stopped trials."""

import math
import re
import warnings

import numpy as np
import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.errors import UserError
from gossamer.search import (
    STOPPING,
    AtLeast,
    AtMost,
    Dominated,
    Experiment,
    Float,
    Halving,
    Maximize,
    Minimize,
    OptunaPruner,
    OutOfReach,
    Trial,
    TrialStopped,
    Violated,
)
from gossamer.search.ranking import order
from gossamer.search.stopping import learning_curves
from gossamer.search.stopping.context import StoppingContext
from gossamer.search.stopping.learning_curves import Curve, Forecast
from gossamer.search.stopping.rules import rules_from_mapping, rules_to_mapping
from gossamer.search.trials.optuna_log import quiet_optuna

METRICS = [Maximize("accuracy", 0.8), Minimize("density", 0.2)]
EPOCHS = 10


def curve(end, *, number=0, density=0.1, until=EPOCHS, of=EPOCHS, noise=()):
    """Accuracy rises along 1 - exp; the same shape for all, `end` at its end."""
    steps = np.arange(1, until + 1)
    rise = (1 - np.exp(-3 * steps / of)) / (1 - math.exp(-3))
    values = end * rise
    values[: len(noise)] += np.asarray(noise)[: len(values)]
    complete = until == of
    return Curve(
        number,
        steps,
        of,
        {"accuracy": values, "density": np.full(until, density)},
        {"accuracy": end, "density": density} if complete else {},
    )


def finished(count, low=0.5, high=0.95, seed=0, noise=0.02, density=0.1):
    rng = np.random.default_rng(seed)
    return [
        curve(
            float(end),
            number=i,
            noise=rng.normal(0, noise, EPOCHS),
            density=density,
        )
        for i, end in enumerate(rng.uniform(low, high, count))
    ]


def seen(trial, others, metrics=METRICS):
    complete = [other for other in others if other.ends]
    return StoppingContext(metrics, trial, complete, others)


# Forecast


def test_a_forecast_of_equal_shapes_finds_the_end():
    forecast = Forecast(METRICS[0], finished(30, noise=0.0))
    half = curve(0.7, until=5)
    end = forecast.expected(0.5, float(half.values["accuracy"][-1]))
    assert end == pytest.approx(0.7, abs=0.02)
    best = forecast.best(0.5, float(half.values["accuracy"][-1]), 0.95)
    assert end <= best <= 0.75


def test_too_few_curves_leave_every_end_possible():
    for count, confidence, enough in ((18, 0.95, False), (19, 0.95, True), (9, 0.9, True)):
        best = Forecast(METRICS[0], finished(count)).best(0.5, 0.3, confidence)
        assert math.isfinite(best) == enough
    assert Forecast(METRICS[0], []).best(0.5, 0.3, 0.9) == math.inf
    assert Forecast(METRICS[1], []).best(0.5, 0.3, 0.9) == -math.inf


def test_what_never_changes_is_known_from_its_first_value():
    forecast = Forecast(METRICS[1], [curve(0.8, density=d) for d in np.linspace(0.01, 0.5, 25)])
    assert forecast.best(0.1, 0.3, 0.95) == pytest.approx(0.3)
    assert forecast.expected(0.1, 0.3) == pytest.approx(0.3)


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), noise=st.floats(0.005, 0.1))
def test_few_curves_end_beyond_the_bound_at_any_look(seed, noise):
    """The promise: at confidence 0.9 about a tenth, over all looks together."""
    curves = finished(130, seed=seed, noise=noise)
    forecast = Forecast(METRICS[0], curves[:80])
    beyond = sum(
        any(
            forecast.best(step / EPOCHS, float(c.values["accuracy"][step - 1]), 0.9)
            < c.ends["accuracy"]
            for step in range(1, EPOCHS)
        )
        for c in curves[80:]
    )
    # 50 looks at probability 0.1, and the bound's own chance: 15 is beyond 4 deviations of it.
    assert beyond <= 15


def test_curves_of_other_lengths_are_compared_by_share():
    forecast = Forecast(METRICS[0], finished(30, noise=0.0))
    long = curve(0.7, until=50, of=100)
    assert forecast.expected(0.5, float(long.values["accuracy"][-1])) == pytest.approx(
        0.7, abs=0.02
    )


# Order


def test_order_is_inside_first_then_by_fronts_then_by_violation():
    values = np.array(
        [
            [0.70, 0.1],  # outside by 0.1 (of accuracy)
            [0.90, 0.1],  # first front, an end
            [0.85, 0.15],  # dominated
            [0.95, 0.2],  # first front, the other end
            [0.60, 0.1],  # outside by 0.2
            [0.91, 0.12],  # first front, in the middle
        ]
    )
    assert order(METRICS, values).tolist() == [1, 3, 5, 2, 0, 4]


# Rules


def make(kind):
    return {"out_of_reach": OutOfReach(), "violated": Violated(), "dominated": Dominated()}.get(
        kind, STOPPING[kind]()
    )


@pytest.mark.parametrize("kind", STOPPING)
def test_conformance_a_rule(kind):
    rule = make(kind)
    metrics = METRICS[:1] if kind == "optuna" else METRICS

    def seen(trial, others, metrics=metrics):
        return StoppingContext(metrics, trial, [o for o in others if o.ends], others)

    good = curve(0.94, number=99, density=0.01, until=5)
    bad = curve(0.1, number=99, density=0.5, until=5)
    peers = finished(40)
    # The best trial of all goes on, with many curves and with none.
    assert rule.reason(seen(good, peers)) is None
    assert rule.reason(seen(good, [])) is None
    # A trial that reported none of the metrics goes on.
    silent = Curve(99, np.array([1]), EPOCHS, {m.name: np.array([math.nan]) for m in METRICS}, {})
    assert rule.reason(seen(silent, peers)) is None
    # What it says is one line, and depends on nothing but what it saw.
    looks = [rule.reason(seen(curve(0.1, density=0.5, until=n), peers)) for n in range(1, 10)]
    said = [look for look in looks if look]
    assert said
    assert all("\n" not in look for look in said)
    assert rule.reason(seen(bad, peers)) == rule.reason(seen(bad, peers))
    # Without thresholds nothing is outside them.
    if kind in ("out_of_reach", "violated"):
        free = [Maximize("accuracy"), Minimize("density")]
        assert rule.reason(seen(bad, peers, free)) is None
    # It can be written to a file and read back.
    assert rules_from_mapping(rules_to_mapping([rule])) == [rule]


@pytest.mark.parametrize("kind", ["out_of_reach", "dominated", "halving"])
def test_never_on_the_strength_of_fewer_curves_than_stated(kind):
    bad = [curve(0.05, number=99, density=0.9, until=n) for n in range(1, 10)]
    for count in (0, 5, 24):
        rule = STOPPING[kind](least=25)
        assert not any(rule.reason(seen(b, finished(count))) for b in bad)
    # Two metrics at joint confidence 0.95 need 39 curves.
    assert any(STOPPING[kind](least=25).reason(seen(b, finished(45))) for b in bad)


def test_out_of_reach_stops_the_hopeless_and_spares_the_close():
    peers = finished(40)
    assert "outside the threshold 0.8" in OutOfReach().reason(seen(curve(0.4, until=5), peers))
    assert OutOfReach().reason(seen(curve(0.79, until=5), peers)) is None
    assert OutOfReach(confidence=0.99).reason(seen(curve(0.4, until=5), peers)) is None


def test_violated_asks_for_no_curves_at_all():
    trial = curve(0.9, density=0.3, until=1)
    assert "density 0.3 is outside the threshold 0.2" in Violated().reason(seen(trial, []))
    assert Violated(metrics=["other"]).reason(seen(trial, [])) is None


def test_dominated_compares_with_trials_of_no_higher_cost():
    trial = curve(0.85, until=8, density=0.18)
    peers = finished(60, low=0.5, high=0.8)
    assert Dominated(confidence=0.9).reason(seen(trial, peers)) is None
    best = curve(0.99, number=77, density=0.05)
    reason = Dominated(confidence=0.9).reason(seen(trial, [*peers, best]))
    assert "dominated by trial 77" in reason
    longer = Curve(78, best.steps * 5, 5 * EPOCHS, best.values, best.ends)
    assert Dominated(confidence=0.9).reason(seen(trial, [*peers, longer])) is None


def test_dominated_compares_optimized_metrics_alone():
    trial = curve(0.85, until=8, density=0.05)
    better = [*finished(60, low=0.5, high=0.8), curve(0.99, number=77, density=0.1)]

    def reason(*metrics):
        return Dominated(confidence=0.9).reason(StoppingContext(metrics, trial, better, better))

    # Less of a density that only has to be acceptable is no better.
    assert reason(Maximize("accuracy", 0.8), Minimize("density", 0.2)) is None
    assert "dominated by trial 77" in reason(Maximize("accuracy", 0.8), AtMost("density", 0.2))
    assert reason(AtLeast("accuracy", 0.8), AtMost("density", 0.2)) is None


def test_halving_keeps_a_third_at_each_rung_and_the_whole_frontier():
    rule = Halving(reduction=3, first=1, least=3)
    assert rule.reason(seen(curve(0.6, until=1), finished(2))) is None
    peers = [curve(e, number=i, until=9, density=0.1) for i, e in enumerate((0.9, 0.7, 0.5))]
    assert rule.reason(seen(curve(0.95, until=1), peers)) is None
    assert "place 3 of 4 after 1 steps" in rule.reason(seen(curve(0.6, until=1), peers))
    # Not a rung; and a rung that was passed in one report.
    assert rule.reason(seen(curve(0.6, until=2), peers)) is None
    assert "after 3 steps" in rule.reason(seen(curve(0.6, until=3), peers))
    free = [Maximize("accuracy"), Minimize("density")]
    sparse = curve(0.5, until=1, density=0.01)
    assert rule.reason(seen(sparse, peers, free)) is None


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"out_of_rech": {}}, "no rule 'out_of_rech'; did you mean 'out_of_reach'"),
        ({"halving": 3}, "stopping.halving must be a table"),
        ({"halving": {"leest": 3}}, "no option 'leest'; did you mean 'least'"),
        ({"halving": {"reduction": 1}}, "reduction must be a whole number of at least 2"),
        ({"out_of_reach": {"confidence": 95}}, "confidence must be between 0 and 1, not 95"),
        ({"dominated": {"least": 0}}, "least must be a whole number of at least 1"),
        ({"violated": {"metrics": "density"}}, "metrics must be a list, such as ['density']"),
        ({"optuna": {"pruner": "MedianPrune"}}, "'MedianPrune'; did you mean 'MedianPruner'"),
        ({"optuna": {"pruner": ["MedianPruner"]}}, "no pruner ['MedianPruner']"),
        ({"optuna": {"arguments": 3}}, "arguments must be a table, not 3"),
        ({"optuna": {"arguments": {"warmup": 3}}}, "MedianPruner: .* argument 'warmup'"),
        ({"optuna": {"arguments": {"n_warmup_steps": -3}}}, "cannot be negative"),
        ({"optuna": {"arguments": {"n_warmup_steps": "3"}}}, "MedianPruner: "),
        ({"optuna": {"pruner": "HyperbandPruner", "arguments": {"min_resource": 0}}}, "division"),
        ({"optuna": {"pruner": "NopPruner"}}, "no pruner 'NopPruner'"),
        (
            {"optuna": {"pruner": "PatientPruner", "arguments": {"wrapped_pruner": "x"}}},
            "leave wrapped_pruner out",
        ),
        ({"optuna": {"pruner": "ThresholdPruner"}}, "lower or upper must be specified"),
    ],
)
def test_rules_of_nonsense(data, words):
    with pytest.raises(UserError) as error:
        rules_from_mapping(data)
    assert words in str(error.value) or re.search(words, str(error.value))


# Optuna's pruners

NOISE = np.random.default_rng(5).normal(0, 0.05, (25, 12))
# Value at each report of 25 trials, of which some learn and some do not.
LEARNING = np.linspace(0.2, 0.9, 25)[NOISE[:, 0].argsort(), None] * np.linspace(0.5, 1, 12) + NOISE


@pytest.mark.parametrize(
    ("pruner", "arguments", "every"),
    [
        ("MedianPruner", {}, 1),
        ("MedianPruner", {"n_startup_trials": 2, "n_warmup_steps": 4, "interval_steps": 3}, 2),
        ("PercentilePruner", {"percentile": 60.0, "n_min_trials": 3}, 1),
        ("SuccessiveHalvingPruner", {}, 1),
        ("SuccessiveHalvingPruner", {"min_resource": 2, "reduction_factor": 2}, 1),
        ("SuccessiveHalvingPruner", {"min_resource": 1, "bootstrap_count": 2}, 1),
        ("SuccessiveHalvingPruner", {"min_resource": 3, "min_early_stopping_rate": 1}, 2),
        ("HyperbandPruner", {}, 1),
        ("HyperbandPruner", {"min_resource": 2, "max_resource": 12, "reduction_factor": 2}, 2),
        ("PatientPruner", {"patience": 2, "min_delta": 0.01}, 1),
        ("ThresholdPruner", {"lower": 0.2, "upper": 0.8, "n_warmup_steps": 3}, 1),
        ("WilcoxonPruner", {"p_threshold": 0.3}, 1),
    ],
)
@pytest.mark.parametrize("goal", ["maximize", "minimize"])
def test_optunas_pruners_stop_what_they_would_stop_in_optuna(pruner, arguments, every, goal):
    metric = Maximize("score") if goal == "maximize" else Minimize("score")
    values = LEARNING if goal == "maximize" else 1 - LEARNING
    steps = list(range(every, 13, every))

    def theirs():
        with quiet_optuna(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # A pruner that patience alone stops has no default for its arguments in Optuna.
            made = getattr(optuna.pruners, pruner)(
                **({"wrapped_pruner": None} if pruner == "PatientPruner" else {}), **arguments
            )
            study = optuna.create_study(study_name="gossamer", direction=goal, pruner=made)
            for row in values:
                trial = study.ask()
                for step in steps:
                    trial.report(row[step - 1], step)
                    if trial.should_prune():
                        yield step
                        study.tell(trial, state=optuna.trial.TrialState.PRUNED)
                        break
                else:
                    yield None
                    study.tell(trial, row[-1])

    def ours():
        rule = OptunaPruner(pruner, arguments)
        made = Experiment("x", [Float("a", 0, 1)], [metric], sampler="random", stopping=[rule])
        for row in values:
            trial = made.ask()
            try:
                for step in steps:
                    trial.report(step, {"score": row[step - 1]})
            except TrialStopped:
                reason = made.record(trial.number).reason
                assert reason.endswith(f"after {step} steps, at which {pruner} stops it")
                yield step
            else:
                yield None
                made.tell(trial, {"score": row[-1]})

    expected = list(theirs())
    assert list(ours()) == expected
    assert None in expected
    assert any(step is not None for step in expected)


def test_what_a_pruner_of_optuna_would_not_see_is_refused():
    for metrics in (METRICS, [Maximize("accuracy"), AtMost("density", 0.2)], [AtMost("size", 1)]):
        with pytest.raises(UserError, match="MedianPruner sees one metric, which is optimized"):
            Experiment("x", [Float("a", 0, 1)], metrics, stopping=[OptunaPruner()])
    # The only metric's own threshold asks for no other trial than the best ones.
    rule = OptunaPruner("PatientPruner", {"patience": 1})
    made = Experiment("x", [Float("a", 0, 1)], [Maximize("accuracy", 0.5)], stopping=[rule])
    assert Experiment("y", made.parameters, made.metrics, stopping=made.stopping).stopping == [rule]


def test_a_pruner_of_optuna_waits_where_a_report_lacks_its_metric():
    made = Experiment(
        "x",
        [Float("a", 0, 1)],
        [Minimize("loss")],
        stopping=[OptunaPruner("ThresholdPruner", {"upper": 1.0})],
    )
    trial = made.ask()
    trial.report(1, {"another": 7.0})
    with pytest.raises(TrialStopped):
        trial.report(2, {"loss": 7.0})


# In an experiment


def experiment(**changes):
    arguments = {
        "parameters": [Float("end", 0.0, 1.0), Float("density", 0.0, 0.5)],
        "metrics": METRICS,
        "budget": 40,
        "sampler": "random",
        **changes,
    }
    return Experiment("x", **arguments)


def train(trial):
    """Learns along the curve above; counts its epochs."""
    import math

    end, density = trial.parameters["end"], trial.parameters["density"]
    for epoch in range(1, 11):
        rise = (1 - math.exp(-3 * epoch / 10)) / (1 - math.exp(-3))
        trial.report(epoch, {"accuracy": end * rise, "density": density}, of=10)
    return {"accuracy": end, "density": density}


@pytest.mark.parametrize("workers", [1, 2])
def test_stopped_trials_are_a_state_of_their_own_and_count_once(workers):
    made = experiment(stopping=[Violated(), OutOfReach(confidence=0.9)])
    made.run(train, workers=workers, progress=False)
    records = made.trials()
    assert len(records) == 40
    stopped = [r for r in records if r.state == "stopped"]
    assert {r.state for r in records} == {"complete", "stopped"}
    assert all(r.reason and r.values == {} and r.seconds is not None for r in stopped)
    assert all(1 <= len(r.reports) < 10 for r in stopped)
    assert all(len(r.reports) == 10 for r in records if r.state == "complete")
    assert [report.step for report in records[0].reports] == list(
        range(1, len(records[0].reports) + 1)
    )
    # Every dense trial went after one epoch, and its end was estimated.
    dense = [r for r in records if r.parameters["density"] > 0.2]
    assert dense
    assert all(r.state == "stopped" and len(r.reports) == 1 for r in dense)
    assert all(set(r.expected) == {"accuracy", "density"} for r in stopped)
    assert any("would end at" in r.reason for r in stopped)
    # None that is inside was stopped, and the sampler knows all of them.
    inside = [r for r in records if r.parameters["end"] >= 0.8 and r.parameters["density"] <= 0.2]
    assert all(r.state == "complete" for r in inside)
    history = made._history(made.trials())
    assert len(history.points) == 40
    assert history.failed == []


def test_without_rules_reports_are_stored_and_stop_nothing():
    made = experiment(budget=3)
    made.run(train, progress=False)
    assert [r.state for r in made.trials()] == ["complete"] * 3
    first = made.trials()[0]
    assert [r.step for r in first.reports] == list(range(1, 11))
    assert first.reports[4].of == 10
    assert first.reports[-1].values["accuracy"] == pytest.approx(first.values["accuracy"])
    assert all(
        a.seconds <= b.seconds for a, b in zip(first.reports, first.reports[1:], strict=False)
    )


def test_ask_and_tell_with_reports():
    made = experiment(stopping=[Violated()])
    trial = made.ask()
    while trial.parameters["density"] <= 0.2:
        made.tell(trial, train(trial))
        trial = made.ask()
    with pytest.raises(TrialStopped, match=r"density .* outside the threshold"):
        train(trial)
    record = made.trials()[trial.number]
    assert record.state == "stopped"
    with pytest.raises(UserError, match="has ended already"):
        made.tell(trial, {"accuracy": 1, "density": 0})
    other = made.ask()
    assert made.tell(other, stopped="by\nhand").reason == "by hand"


def test_a_stop_that_train_swallows_is_a_stop_all_the_same():
    def stubborn(trial):
        import contextlib

        with contextlib.suppress(TrialStopped):
            train(trial)
        return {"accuracy": 1.0, "density": 0.0}

    made = experiment(stopping=[Violated()])
    made.run(stubborn, progress=False)
    states = {r.state for r in made.trials() if r.parameters["density"] > 0.2}
    assert states == {"stopped"}
    assert len(made.trials()) == 40


def test_train_may_stop_a_trial_itself():
    def fussy(trial):
        raise TrialStopped("not worth it")

    made = experiment(budget=8)
    made.run(fussy, progress=False)
    assert [(r.state, r.reason) for r in made.trials()] == [("stopped", "not worth it")] * 8


@pytest.mark.parametrize(
    ("step", "of", "workers", "words"),
    [
        (-1, None, 1, "step must be a whole number"),
        (0.5, None, 1, "step"),
        (3, 2, 2, "'of' must be"),
    ],
)
def test_reports_of_nonsense_fail_the_trial(step, of, workers, words):
    made = experiment(budget=8)
    with pytest.raises(UserError, match="first 5 trials all failed") as error:
        made.run(lambda t: t.report(step, {}, of), workers=workers, progress=False)
    assert words in str(error.value)


def test_a_trial_made_by_hand_reports_to_nobody():
    Trial(0, {"a": 1}).report(1, {"accuracy": 0.5})


def test_an_attempt_that_was_lost_leaves_no_reports():
    made = experiment()
    trial = made.ask()
    trial.report(1, {"accuracy": 0.1})
    trial.report(2, {"accuracy": 0.2})
    made._store.put_back(trial.number)
    again = made.ask()
    assert again.number == trial.number
    assert made.trials()[0].reports == ()
    again.report(1, {"accuracy": 0.3, "nothing": math.nan})
    (report,) = made.trials()[0].reports
    assert report.values == {"accuracy": 0.3}
    assert made.trials()[0].attempts == 2


def test_rules_and_reports_are_stored_with_the_experiment(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    rules = [Violated(["density"]), Halving(reduction=2, first=2, least=4)]
    made = experiment(storage=url, stopping=rules, budget=4)
    made.run(train, progress=False)
    again = Experiment.from_storage(url)
    assert again.stopping == rules
    assert again.trials() == made.trials()
    assert all(r.reports and r.worker and r.started for r in again.trials())


def test_rules_in_a_file(tmp_path):
    (tmp_path / "e.toml").write_text(
        """
name = "e"
[stopping.violated]
metrics = ["density"]
[stopping.out_of_reach]
confidence = 0.9
least = 12
[metrics.density]
goal = "minimize"
threshold = 0.2
[parameters.a]
type = "float"
low = 0
high = 1
"""
    )
    read = Experiment.from_toml(tmp_path / "e.toml")
    assert read.stopping == [Violated(["density"]), OutOfReach(confidence=0.9, least=12)]


def test_reports_do_not_cost_more_as_trials_become_more(monkeypatch):
    fits = []
    made = learning_curves._Line.__init__
    monkeypatch.setattr(
        learning_curves._Line, "__init__", lambda line, *args: fits.append(1) or made(line, *args)
    )
    reads = []
    of_record = Curve.of_record
    monkeypatch.setattr(
        Curve, "of_record", lambda record, metrics: reads.append(1) or of_record(record, metrics)
    )
    experiment = Experiment(
        "x",
        [Float("end", 0.6, 0.95)],
        [Maximize("accuracy", 0.5)],
        sampler="random",
        stopping=[OutOfReach(least=3)],
    )

    def counted(trials):
        fits.clear(), reads.clear()
        for _ in range(trials):
            trial = experiment.ask()
            for step in range(1, 6):
                trial.report(step, {"accuracy": trial.parameters["end"] * step / 5}, of=5)
            experiment.tell(trial, {"accuracy": trial.parameters["end"]})
        return len(fits) / trials, len(reads) / trials

    counted(20)
    # Of each trial: the 17 shares of the grid from its first report on and the 4 at which it may
    # be stopped, once; its own curve at these 4, and that of the trial which ended before it.
    assert counted(10) == (21, 5)
    counted(30)
    assert counted(10) == (21, 5)
