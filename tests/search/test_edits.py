"""Trials deleted, corrected and noted after they ended."""

import math
import subprocess
import sys
import threading

import pytest
from tests.search.experiments import good, make, states

from gossamer.errors import UserError
from gossamer.search import Experiment, Fidelity, export_trials, import_trials
from gossamer.search.trials.trial import TrialStopped


def numbers(experiment):
    return [record.number for record in experiment.trials()]


def fail(trial):
    raise RuntimeError("a mistake")


def test_a_deleted_trial_counts_no_more(storage):
    experiment = make(storage=storage, budget=4)
    experiment.run(good, trials=3, progress=False)
    best = experiment.frontier().trials[0].number
    experiment.forget(best)
    assert numbers(experiment) == [n for n in range(3) if n != best]
    assert best not in [record.number for record in experiment.frontier().trials]
    # Its place is free again, its number is not.
    experiment.run(good, progress=False)
    assert numbers(experiment) == [n for n in range(5) if n != best]
    assert experiment.record(best).state == "complete"
    if storage:
        again = Experiment.from_storage(storage)
        assert again.trials() == experiment.trials()
        again.run(good, progress=False)
        assert len(again.trials()) == 4


def test_deleted_failures_use_up_no_budget(storage):
    experiment = make(storage=storage, budget=3)
    for _ in range(3):
        experiment.tell(experiment.ask(), error="a mistake")
    assert experiment.ask_within(3) is None
    experiment.forget(0, 1, 2)
    trials = [experiment.ask_within(3) for _ in range(4)]
    assert [trial and trial.number for trial in trials] == [3, 4, 5, None]


def test_only_what_is_there_is_deleted():
    experiment = make()
    experiment.run(good, trials=2, progress=False)
    with pytest.raises(UserError, match="has no trial 2; it has 2"):
        experiment.forget(0, 2)
    with pytest.raises(UserError, match="a trial's number must be a whole number"):
        experiment.forget(-1)
    assert numbers(experiment) == [0, 1]


def test_a_running_trial_that_is_deleted_stops_at_its_next_report(storage):
    experiment = make(storage=storage)
    trial = experiment.ask()
    trial.report(1, {"accuracy": 0.1})
    (Experiment.from_storage(storage) if storage else experiment).forget(trial.number)
    with pytest.raises(TrialStopped, match="it was deleted"):
        trial.report(2, {"accuracy": 0.2})
    assert experiment.record(0).state == "stopped"
    assert numbers(experiment) == []
    silent = experiment.ask()
    experiment.forget(silent.number)
    assert experiment.tell(silent, {"accuracy": 0.5, "density": 0.1}).state == "complete"
    assert numbers(experiment) == []


def test_a_deleted_trial_that_waits_is_not_run_again(storage):
    experiment = make(storage=storage)
    trial = experiment.ask()
    experiment._store.put_back(trial.number)
    experiment.forget(trial.number)
    assert experiment.ask().number == 1


def test_a_search_goes_on_while_its_trials_are_deleted(tmp_path):
    """Every trial that completes is deleted at once by another process's object."""
    url = f"sqlite:///{tmp_path}/s.db"
    experiment = make(storage=url, budget=4)
    barrier = threading.Event()

    def train(trial):
        if trial.number < 3:
            Experiment.from_storage(url).forget(*range(trial.number))
        else:
            barrier.set()
        return good(trial)

    experiment.run(train, progress=False)
    assert barrier.is_set()
    assert numbers(experiment) == [2, 3, 4, 5]
    assert states(experiment) == ["complete"] * 4


def test_a_deleted_trial_of_a_cheaper_task_frees_its_cost(tmp_path):
    experiment = make(
        storage=f"sqlite:///{tmp_path}/s.db", budget=1, fidelities=[Fidelity("small", cost=0.5)]
    )
    first, second = experiment.ask_within(1), experiment.ask_within(1)
    assert (first.fidelity, second.fidelity) == ("small", "small")
    assert experiment.ask_within(1) is None
    experiment.forget(first.number)
    assert experiment.ask_within(1).number == 2
    assert experiment.ask_within(1) is None


def test_values_are_corrected(storage):
    experiment = make(storage=storage)
    experiment.run(
        lambda trial: {"accuracy": (0.95, 0.01), "density": 0.5}, trials=2, progress=False
    )
    assert not experiment.frontier().feasible
    record = experiment.correct(1, {"density": (0.125, 0.25), "accuracy": 0.96, "size": 3})
    assert record.values == {"accuracy": 0.96, "density": 0.125, "size": 3.0}
    assert record.noise == {"density": 0.25}
    assert [r.number for r in experiment.frontier().trials] == [1]
    experiment.correct(1, {"density": 0.1})
    assert experiment.record(1).noise == {}
    if storage:
        again = Experiment.from_storage(storage).trials()
        assert again[1].values == {"accuracy": 0.96, "density": 0.1, "size": 3.0}


@pytest.mark.parametrize(
    ("number", "values", "message"),
    [
        (0, {"density": math.nan}, "'density' must be a finite number, not nan"),
        (0, {"density": "much"}, "'density' must be a finite number, not 'much'"),
        (0, {"density": (0.1, -1.0)}, "standard deviation of 'density'"),
        (1, {"density": 0.1}, "trial 1 is failed, and only a complete trial's"),
        (2, {"density": 0.1}, "no trial 2"),
    ],
)
def test_what_is_no_correction_changes_nothing(number, values, message):
    experiment = make()
    experiment.tell(experiment.ask(), {"accuracy": 0.9, "density": 0.5})
    experiment.tell(experiment.ask(), error="a mistake")
    before = experiment.trials()
    parameter = next(iter(before[0].parameters))
    with pytest.raises(UserError, match=f"'{parameter}' is a parameter, and the trial ran with"):
        experiment.correct(0, {"accuracy": 0.1, parameter: 0.5})
    with pytest.raises(UserError, match=message):
        experiment.correct(number, {"accuracy": 0.1, **values})
    assert experiment.trials() == before


def test_notes(storage):
    experiment = make(storage=storage)
    experiment.run(good, trials=2, progress=False)
    experiment.note(1, " try this one\non the phone ")
    assert [r.note for r in experiment.trials()] == [None, "try this one\non the phone"]
    experiment.note(1, "")
    assert experiment.trials()[1].note is None
    with pytest.raises(UserError, match="a note must be a text"):
        experiment.note(0, 7)


def test_records_stay_the_same_objects_while_nothing_changes():
    """Forecasts of learning curves are fitted anew only for trials that are other objects."""
    experiment = make()
    experiment.run(good, trials=2, progress=False)
    experiment.correct(0, {"density": 0.1})
    first, second = experiment._records(), experiment._records()
    assert all(a is b for a, b in zip(first, second, strict=True))
    experiment.correct(0, {"density": 0.2})
    assert experiment._records()[0].values["density"] == 0.2


def test_an_export_takes_what_was_changed_along(tmp_path):
    one, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "other"))
    experiment = make(storage=one, budget=4)
    experiment.run(good, trials=3, progress=False)
    experiment.forget(0)
    experiment.correct(1, {"density": (0.1, 0.5)})
    experiment.note(2, "good")
    assert export_trials(one, tmp_path / "trials.json") == 3
    import_trials(tmp_path / "trials.json", other)
    again = Experiment.from_storage(other)
    assert again.trials() == experiment.trials()
    again.run(good, progress=False)
    assert numbers(again) == [1, 2, 3, 4]


EDIT = """
import sys
from gossamer.search import Experiment

experiment = Experiment.from_storage(sys.argv[1])
for turn in range(10**6):
    experiment.forget(turn % 3)
    experiment.correct(3, {"density": 0.001 * turn, "size": turn})
    experiment.note(4, f"turn {turn}")
    print(turn, flush=True)
"""


@pytest.mark.slow
def test_a_process_killed_within_its_changes_loses_none_that_it_made(tmp_path):
    url = f"sqlite:///{tmp_path}/s.db"
    experiment = make(storage=url)
    experiment.run(good, progress=False)
    before = [experiment.record(number) for number in range(8)]
    process = subprocess.Popen([sys.executable, "-c", EDIT, url], stdout=subprocess.PIPE, text=True)
    for _ in range(4):
        last = int(process.stdout.readline())
    process.kill()
    last = max(map(int, process.communicate(timeout=60)[0].split()), default=last)
    again = Experiment.from_storage(url)
    assert numbers(again) == [3, 4, 5, 6, 7]
    # What was being written when it was killed is there or is not, each change for itself.
    values = again.record(3).values
    assert values["size"] in (last, last + 1)
    assert values["density"] in (0.001 * last, 0.001 * (last + 1))
    assert again.record(4).note in (f"turn {last}", f"turn {last + 1}")
    assert values["accuracy"] == before[3].values["accuracy"]
    assert [again.record(number) for number in (0, 1, 2, 5, 6, 7)] == [
        before[number] for number in (0, 1, 2, 5, 6, 7)
    ]
    again.run(good, progress=False)
    assert len(again.trials()) == 8
