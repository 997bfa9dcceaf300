"""Continuation: which trials are trained for longer, when, and that nothing is lost meanwhile."""

import math

import pytest

from gossamer.errors import UserError
from gossamer.search import (
    AtLeast,
    AtMost,
    Choice,
    Continuation,
    Experiment,
    Grid,
    Maximize,
    TrialRecord,
)
from gossamer.search.trials.repeats import with_noise_of_repeats

METRICS = [Maximize("speedup"), AtLeast("accuracy", 0.9), AtMost("density", 0.1)]
LONGER = Continuation(["accuracy"])


def row(number, speedup, accuracy, density=0.1, *, origin=None, continued=0, **changes):
    values = {"speedup": speedup, "accuracy": accuracy, "density": density}
    arguments = {"parameters": {"epochs": 3, "number": number}, "seconds": 10.0, **changes}
    parameters = arguments.pop("parameters")
    seconds = arguments.pop("seconds")
    return TrialRecord(
        number,
        arguments.pop("state", "complete"),
        parameters,
        values,
        None,
        seconds,
        origin=origin,
        continued=continued,
        **arguments,
    )


def next_up(*records, seconds=math.inf, metrics=METRICS, longer=LONGER):
    found = longer.next_up(metrics, records, seconds)
    return None if found is None else found.number


def test_the_nearest_of_those_that_would_be_better():
    inside = row(0, 2.0, 0.91)
    assert next_up(inside, row(1, 3.0, 0.88), row(2, 2.5, 0.89)) == 2
    assert next_up(inside, row(1, 3.0, 0.89), row(2, 2.5, 0.89)) == 1  # as near, and faster
    assert next_up(inside, row(1, 2.0, 0.89)) is None  # no faster than the best
    assert next_up(inside, row(1, 3.0, 0.91, density=0.2)) is None  # training keeps the density
    assert next_up(inside, row(1, 3.0, 0.89, parameters={"epochs": 0})) is None
    assert next_up(inside, row(1, 3.0, 0.89, fidelity="small")) is None
    assert next_up(inside, row(1, 3.0, 0.89, state="stopped")) is None
    assert next_up() is None


def test_only_the_nearer_half_goes_on():
    misses = [row(n, 3.0, 0.9 - 0.01 * n) for n in range(1, 5)]
    begun = [row(n + 4, 3.0, 0.5, origin=n, continued=1) for n in (1, 2)]
    assert next_up(*misses) == 1
    assert next_up(*misses, begun[0], longer=Continuation(["accuracy"], rounds=1)) == 2
    assert next_up(*misses, *begun, longer=Continuation(["accuracy"], rounds=1)) is None


def test_a_round_that_gains_too_little_is_the_last():
    """0.01 gained and two rounds left: 0.02 more is possible, 0.03 is not."""
    others = [row(n, 1.0, 0.1, parameters={"epochs": 0}, seconds=100.0) for n in (8, 9)]
    for accuracy, number in ((0.881, 1), (0.869, None)):
        first = row(0, 3.0, accuracy - 0.01)
        assert next_up(first, row(1, 3.0, accuracy, origin=0, continued=1), *others) == number
    last = row(1, 3.0, 0.899, origin=0, continued=3)
    assert next_up(row(0, 3.0, 0.8), last, *others) is None  # there are no rounds left


def test_time_is_shared_and_no_longer_training_than_is_left():
    first, other = row(0, 3.0, 0.89, seconds=10.0), row(1, 1.0, 0.1, seconds=2.0)
    assert next_up(first, other, seconds=10.0) == 0
    assert next_up(first, other, seconds=9.9) is None
    again = row(2, 3.0, 0.895, origin=0, continued=1, seconds=10.0)
    # The next round takes 20 seconds: 30 of 42 is more than half, 30 of 62 is not.
    assert next_up(first, other, again) is None
    assert next_up(first, other, again, row(3, 1.0, 0.1, seconds=20.0)) == 2
    # A running one counts with the 10 s that it is expected to take: 15 of 32 with the next.
    running = row(2, 3.0, 0.0, origin=0, continued=1, seconds=None, state="running")
    near, less = row(4, 3.0, 0.895, seconds=5.0), Continuation(["accuracy"], share=0.4)
    assert next_up(first, other, running, near, longer=less) is None
    assert next_up(first, other, near, longer=less) == 4


def test_the_end_of_a_search_goes_to_what_is_nearest():
    """A new trial takes 2 seconds; with less than that to spare, a round begins now or never."""
    other, longer = row(1, 1.0, 0.1, seconds=2.0), Continuation(["accuracy"], share=0.1)  # used up
    again = row(2, 3.0, 0.895, origin=0, continued=1, seconds=10.0)
    trials = (row(0, 3.0, 0.89, seconds=2.0), other, again)
    for seconds, number in ((22.1, None), (21.9, 2), (20.0, 2), (19.9, None)):
        assert next_up(*trials, seconds=seconds, longer=longer) == number


def test_no_round_counts_for_which_there_is_no_time():
    """0.008 are missing and each round gains 0.003: four rounds of 20, 40, 80, 160 s would do."""
    first, again = row(0, 3.0, 0.889, seconds=10.0), row(1, 3.0, 0.892, origin=0, continued=1)
    others = [row(n, 1.0, 0.1, parameters={"epochs": 0}, seconds=30.0) for n in (8, 9)]
    longer = Continuation(["accuracy"], rounds=4, share=0.9)
    assert next_up(first, again, *others, longer=longer, seconds=141.0) == 1  # three rounds
    assert next_up(first, again, *others, longer=longer, seconds=139.0) is None
    # At the end the nearest is the answer, unless one is inside already.
    assert next_up(first, again, *others, longer=longer, seconds=25.0) == 1
    inside = row(2, 2.0, 0.91, parameters={"epochs": 0})
    assert next_up(first, again, inside, *others, longer=longer, seconds=25.0) is None


def test_what_is_optimized_may_be_what_improves():
    metrics = [Maximize("accuracy", 0.9), AtMost("density", 0.1)]
    best, worse = row(0, 1.0, 0.95), row(1, 1.0, 0.92)
    assert next_up(best, worse, metrics=metrics) == 0
    assert next_up(best, row(1, 1.0, 0.96, density=0.2), metrics=metrics) == 0
    limits = [AtLeast("accuracy", 0.9)]
    assert next_up(row(0, 1.0, 0.8), metrics=limits) == 0
    assert next_up(row(0, 1.0, 0.8), row(1, 1.0, 0.91), metrics=limits) is None


def test_rounds_are_no_repeats_from_which_noise_is_estimated():
    point = {"epochs": 3}
    records = [row(0, 3.0, 0.8, parameters=point)]
    records.append(row(1, 3.0, 0.9, parameters=point, origin=0, continued=1))
    assert [record.noise for record in with_noise_of_repeats(records)] == [{}, {}]


def experiment(storage=None, **changes):
    arguments = {
        "parameters": [
            Grid("epochs", [0, 3]),
            Choice("pattern", ["single", "block"], when={"epochs": [3]}),
        ],
        "metrics": METRICS,
        "storage": storage,
        "start": [{"epochs": 0}, {"epochs": 3, "pattern": "single"}],
        "continuation": Continuation(["accuracy"], share=0.9),
        "sampler": "random",
        **changes,
    }
    return Experiment("x", **arguments)


def train(trial):
    """A network in blocks is twice as fast, and good enough after four times the training."""
    if not trial.parameters["epochs"]:
        return {"speedup": 1.0, "accuracy": 0.5, "density": 0.1}
    blocks = trial.parameters["pattern"] == "block"
    loss = (0.05 if blocks else 0.0) / 2**trial.continued
    return {"speedup": 4.0 if blocks else 2.0, "accuracy": 0.915 - loss, "density": 0.1}


def test_an_experiment_trains_until_the_faster_one_is_inside(tmp_path):
    storage = f"sqlite:///{tmp_path / 'x.db'}"
    started = []

    def interrupted(trial):
        started.append((trial.number, trial.origin, trial.continued))
        if trial.continued == 2 and len(started) < 6:
            raise KeyboardInterrupt
        return train(trial)

    search = experiment(storage)
    with pytest.raises(KeyboardInterrupt):
        search.run(interrupted, trials=20, progress=False)
    records = search.trials()
    ((number, origin, rounds),) = [start for start in started if start[2] == 2]
    assert records[number].state == "waiting"
    again = Experiment.from_storage(storage)
    assert again.continuation == search.continuation
    again.run(interrupted, trials=1, progress=False)
    assert started[-1] == (number, origin, rounds)  # the same round of the same trial
    best = again.frontier()
    assert best.feasible
    assert best.trials[0].number == number
    first = again.record(again.record(origin).origin)
    assert (first.continued, first.origin) == (0, None)
    assert first.parameters == best.trials[0].parameters


def test_trials_are_all_that_is_asked_for():
    search = experiment()
    search.run(train, trials=7, progress=False)
    assert len(search.trials()) == 7
    assert any(record.continued for record in search.trials())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"improves": []}, "improves must name a metric"),
        ({"improves": ["acuracy"]}, "no metric 'acuracy'; did you mean 'accuracy'"),
        ({"parameter": "epoch"}, "no parameter 'epoch'; did you mean 'epochs'"),
        ({"rounds": 0}, "rounds must be"),
        ({"share": 1}, "share must be between 0 and 1"),
    ],
)
def test_what_cannot_be_continued(changes, message):
    with pytest.raises(UserError, match=message):
        experiment(continuation=Continuation(**{"improves": ["accuracy"], **changes}))
