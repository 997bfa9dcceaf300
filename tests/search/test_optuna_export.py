"""An experiment as a study that Optuna and optuna-dashboard open as theirs."""

import optuna
import pytest

from gossamer.errors import UserError
from gossamer.search import (
    AtMost,
    Choice,
    Experiment,
    Float,
    Maximize,
    Minimize,
    export_study,
    import_from,
)


@pytest.fixture
def experiment(tmp_path):
    made = Experiment(
        "größe",
        [Float("a", 0, 1), Choice("kind", ["x", None]), Float("b", 0, 1, when={"kind": "x"})],
        [Maximize("m", 0.5), AtMost("size", 10), Minimize("loss")],
        storage=f"sqlite:///{tmp_path}/own.db",
    )
    made.add({"a": 0.5, "kind": "x", "b": 0.25}, {"m": (0.75, 0.01), "size": 12, "loss": 1})
    made.add({"a": 0.25, "kind": None}, {"m": 0.25, "size": 5, "loss": 2})
    made.add({"a": 0.75, "kind": None}, error="no data")
    made.add({"a": 0.8, "kind": None}, stopped="too slow", seconds=2.5)
    made.add({"a": 0.9, "kind": None}, {"m": 0.1, "size": 5, "loss": 2})
    made.forget(4)
    made.correct(1, {"m": 0.375})
    made.note(0, "by hand")
    made.ask()
    return made


def test_optuna_opens_a_study_without_anything_of_ours(experiment, tmp_path):
    address = f"sqlite:///{tmp_path}/study.db"
    assert export_study(experiment, address) == 4
    study = optuna.load_study(study_name="größe", storage=address)
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert study.metric_names == ["m", "loss"]
    first, second, failed, stopped = study.trials
    assert (first.values, second.values) == ([0.75, 1.0], [0.375, 2.0])
    assert first.params == {"a": 0.5, "kind": "x", "b": 0.25}
    assert first.user_attrs == {"size": 12.0, "m (standard deviation)": 0.01, "note": "by hand"}
    assert first.system_attrs["constraints"] == pytest.approx([-0.25, 2])
    assert first.system_attrs["constraints:size"] == 2
    assert (failed.state.name, failed.user_attrs) == ("FAIL", {"reason": "no data"})
    assert (stopped.state.name, stopped.duration.total_seconds()) == ("PRUNED", 2.5)
    assert not study.user_attrs
    assert not any("gossamer" in key for trial in study.trials for key in trial.user_attrs)
    # Neither trial keeps every threshold, by Optuna's own account too.
    assert study.best_trials == []
    study.sampler = optuna.samplers.TPESampler(seed=0)
    study.ask({"a": optuna.distributions.FloatDistribution(0, 1)})
    with pytest.raises(UserError, match="has a study 'größe' already"):
        export_study(experiment, address)


def test_it_comes_back_as_it_was(experiment, tmp_path):
    address = f"sqlite:///{tmp_path}/study.db"
    export_study(experiment, address)
    again = Experiment("again", experiment.parameters, experiment.metrics)
    assert import_from(address, again).trials == 4
    for one, other in zip(experiment.trials(), again.trials(), strict=False):
        assert (one.parameters, one.state, one.reason) == (
            other.parameters,
            other.state,
            other.reason,
        )
        assert all(other.values[name] == value for name, value in one.values.items())
