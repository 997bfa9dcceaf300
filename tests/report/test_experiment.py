"""The figures of an experiment in words."""

from __future__ import annotations

from dataclasses import replace

from report_fakes import goal, record, snapshot

from gossamer.report import experiment as words
from gossamer.search import AtMost, LinearConstraint

INSIDE = {"accuracy": 0.97, "density": 0.1}


def test_best_is_inside_and_its_values_are_of_one_trial() -> None:
    # The highest accuracy and the lowest density are of trials outside, or of other trials.
    read = snapshot(
        [
            record(0, values={"accuracy": 0.99, "density": 0.5}),
            record(1, values={"accuracy": 0.5, "density": 0.001}),
            record(2, values={"accuracy": 0.966, "density": 0.02}),
            record(3, values={"accuracy": 0.971, "density": 0.14}),
        ]
    )
    assert words.verdict(read) == (
        "2 trials on the frontier, inside the thresholds; "
        "best in accuracy is trial 3 with accuracy 0.971, density 0.14"
    )


def test_nearest_is_called_so() -> None:
    read = snapshot(
        [
            record(0, values={"accuracy": 0.96, "density": 0.15}),
            record(1, values={"accuracy": 0.5, "density": 0.9}),
        ]
    )
    assert words.verdict(read) == (
        "no trial is inside the thresholds; the nearest is trial 0 with accuracy 0.96, density 0.15"
    )


def test_no_trial_of_the_full_task() -> None:
    assert words.verdict(snapshot([])) == "no trial is complete yet"
    read = snapshot([record(0, values=INSIDE, fidelity="small")])
    assert words.verdict(read) == (
        "no trial of the full task is complete yet; of the cheaper small the best is trial 0 with "
        "accuracy 0.97, density 0.1"
    )


def test_no_trial_is_nearest_where_none_is_complete() -> None:
    assert words.title(snapshot([])) == "Best trials"
    missed = snapshot([record(0, values={"accuracy": 0.5, "density": 0.9})])
    assert words.title(missed) == "Nearest to the thresholds"


def test_counts_have_no_fractions() -> None:
    """Multiply-adds are a mean over examples."""
    trials = [
        record(n, values={"accuracy": 0.97, "macs": macs, "nonzero": 12.0})
        for n, macs in enumerate((998.3, 998.7, 81_234.6))
    ]
    metrics = (goal("accuracy", "maximize", 0.965), goal("macs", "minimize", 999.0))
    for named in (metrics, metrics[:1]):
        texts = [words.texts(snapshot(trials, metrics=named), trial) for trial in trials]
        assert [text["value:macs"] for text in texts] == ["998", "999", "81,235"]
        assert texts[0]["value:nonzero"] == "12"
    tight = snapshot(trials, metrics=(metrics[0], goal("macs", "minimize", 998.0)))
    assert words.value(tight, tight.metrics[1], trials[0]) == "998.3", "it misses 998"


def test_one_trial_is_not_called_trials() -> None:
    one = replace(snapshot([record(0, values=INSIDE, fidelity="small")]), costs={"small": 0.1})
    assert words.counts(one).startswith("1 trial, as much as 0.1 of 1,000 full ones: ")
    assert words.counts(replace(one, budget=None)).startswith("1 trial: ")
    assert words.counts(replace(one, costs={})).startswith("1 of 1,000 trials: ")


def test_of_several_cheaper_tasks_the_dearest_tells_most() -> None:
    trials = [
        record(0, values=INSIDE, fidelity="small"),
        record(1, values={"accuracy": 0.6, "density": 0.3}, fidelity="half"),
        record(2, values={"accuracy": 0.9, "density": 0.2}, fidelity="half"),
    ]
    read = replace(snapshot(trials), costs={"small": 0.1, "half": 0.5})
    assert words.verdict(read).endswith(
        "of the cheaper half the nearest to the thresholds is trial 2 with "
        "accuracy 0.9, density 0.2"
    )


def test_counts_have_separators_and_leave_nothing_out() -> None:
    trials = [record(n, values=INSIDE) for n in range(1200)]
    trials += [record(n, values=INSIDE, fidelity="small") for n in range(1200, 1203)]
    trials += [record(1203, "failed"), record(1204, "stopped"), record(1205, "running")]
    trials += [record(1206, "waiting")]
    assert words.counts(snapshot(trials, budget=2000)) == (
        "1,207 of 2,000 trials: 1,200 complete, 1,200 inside the thresholds, "
        "3 of a cheaper task, 1 failed, 1 stopped early, 2 unfinished"
    )


def test_failures_by_reason() -> None:
    trials = [record(0, "failed", reason="out of\n memory"), record(1, "failed")]
    trials += [record(2, "failed", reason="out of memory"), record(3, values=INSIDE)]
    assert words.failures(snapshot(trials)) == [
        ("out of memory", [0, 2]),
        ("no reason recorded", [1]),
    ]


def test_limits_roles_and_constraints() -> None:
    read = snapshot([])
    assert [words.limit(metric) for metric in read.metrics] == ["≥\u00a00.965", "≤\u00a00.15"]
    assert words.limit(goal("loss", "minimize")) == ""
    assert words.limit(goal("loss", "minimize", 0.123456789)) == "≤\u00a00.123456789"
    roles = [words.role(metric) for metric in (*read.metrics, AtMost("size", 3.0))]
    assert roles == ["maximize", "minimize", "constraint"]
    order = LinearConstraint({"start": 1.0, "end": -1.0}, 0.0)
    scaled = LinearConstraint({"a": -2.0, "b": 0.5}, 1.5)
    assert words.constraint(order) == "start − end ≤\u00a00"
    assert words.constraint(scaled) == "−2 · a + 0.5 · b ≤\u00a01.5"


def test_metrics_of_gossamers_own_training_name_their_data() -> None:
    accuracy, density = snapshot([]).metrics
    trained, own = snapshot([], split="validation"), snapshot([])
    assert words.split(trained, accuracy) == "validation"
    assert words.split(trained, density) == ""
    assert words.split(own, accuracy) == ""


def test_parameter_that_is_none_differs_from_one_that_is_missing() -> None:
    trial = record(0, parameters={"rule": None})
    assert words.parameter(trial, "rule") == "none"
    assert words.parameter(trial, "other") == "–"


def test_trials_of_a_cheaper_task_count_as_a_part_of_the_budget() -> None:
    trials = [record(n, values=INSIDE, fidelity="small") for n in range(5)]
    read = replace(snapshot([*trials, record(5, values=INSIDE)]), budget=9, costs={"small": 0.1})
    assert words.of_budget(read, 6, "trials") == "6 trials, as much as 1.5 of 9 full ones"
    assert words.counts(read).startswith("6 trials, as much as 1.5 of 9 full ones: 1 complete, ")
    assert words.of_budget(replace(read, costs={}), 6, "trials") == "6 of 9 trials"
    assert words.of_budget(replace(read, budget=None), 6) == "6"
