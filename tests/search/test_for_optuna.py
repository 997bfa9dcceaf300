"""An experiment's suggestions inside Optuna, and behind the sweeps of W&B."""

import json

import optuna
import pytest

from gossamer.errors import UserError
from gossamer.search import (
    AtLeast,
    Choice,
    Experiment,
    ExperimentSampler,
    Float,
    Grid,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    Sampler,
    sweep_config,
    sweep_study,
)

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class Recording(Sampler):
    """Suggests the middle, and remembers what it saw."""

    def __init__(self):
        self.seen = []

    def suggest(self, space, metrics, history, rng):
        self.seen.append((history, [m.threshold for m in metrics]))
        return space.draw(rng)


def shelf(sampler="random", **changes):
    return Experiment(
        "shelf",
        [
            Float("rate", 1e-4, 0.1, log=True),
            Int("width", 8, 64, step=8),
            Grid("batch", [16, 64]),
            Choice("rule", ["set", "rigl"]),
            Float("drop", 0, 1, when={"rule": "rigl"}),
        ],
        [Maximize("accuracy", 0.5), Minimize("density", 0.25)],
        sampler=sampler,
        budget=6,
        **changes,
    )


def objective(trial):
    rate = trial.suggest_float("rate", 1e-4, 0.1, log=True)
    width = trial.suggest_int("width", 8, 64, step=8)
    trial.suggest_categorical("batch", [16, 64])
    rule = trial.suggest_categorical("rule", ["set", "rigl"])
    drop = trial.suggest_float("drop", 0, 1) if rule == "rigl" else 0.5
    if trial.number == 2:
        raise ValueError("no data")
    return rate * drop, width / 64


def test_a_loop_of_optuna_gets_the_suggestions_of_an_experiment():
    sampler = Recording()
    experiment = shelf(sampler, constraints=[LinearConstraint({"width": 1}, at_most=32)])
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=ExperimentSampler(experiment)
    )
    study.optimize(objective, n_trials=6, catch=ValueError)
    assert len(study.trials) == 6
    assert all(trial.params["width"] <= 32 for trial in study.trials)
    history, thresholds = sampler.seen[-1]
    assert thresholds == [0.5, 0.25]
    assert [len(history.points), len(history.failed), len(history.pending)] == [4, 1, 0]
    first = study.trials[0]
    assert history.points[0] == first.params
    assert history.values[0].tolist() == first.values
    # The suggestions are those that the experiment itself makes.
    own = shelf()
    asked = own.ask()
    other = optuna.create_study(
        directions=["maximize", "minimize"], sampler=ExperimentSampler(shelf())
    )
    assert other.ask(experiment.space.distributions()).params.items() >= asked.parameters.items()


def test_parallel_trials_are_seen_as_running():
    sampler = Recording()
    study = optuna.create_study(
        directions=["maximize", "minimize"], sampler=ExperimentSampler(shelf(sampler))
    )
    distributions = shelf().space.distributions()
    asked = [study.ask(distributions) for _ in range(3)]
    assert [len(history.pending) for history, _ in sampler.seen] == [0, 1, 2]
    assert len({json.dumps(trial.params) for trial in asked}) == 3


def test_what_optuna_cannot_hold_is_named():
    experiment = Experiment("x", [Float("a", 0, 1)], [Maximize("m"), AtLeast("n", 1)])
    with pytest.raises(UserError, match=r"metric 'n' is not optimized"):
        ExperimentSampler(experiment)
    study = optuna.create_study(directions=["maximize"] * 2, sampler=ExperimentSampler(shelf()))
    with pytest.raises(UserError, match=r"no parameter 'width2' in the experiment; did you mean"):
        study.ask().suggest_int("width2", 1, 2)


def test_a_sweep_of_wandb_has_the_parameters_metrics_and_budget(tmp_path):
    config = sweep_config(shelf(), "train.py", "sweep.py")
    assert config["metrics"] == [
        {"name": "accuracy", "goal": "maximize"},
        {"name": "density", "goal": "minimize"},
    ]
    assert config["parameters"] == {
        "rate": {"distribution": "log_uniform_values", "min": 1e-4, "max": 0.1},
        "width": {"distribution": "q_uniform", "min": 8, "max": 64, "q": 8},
        "batch": {"values": [16, 64]},
        "rule": {"values": ["set", "rigl"]},
        "drop": {"distribution": "uniform", "min": 0.0, "max": 1.0},
    }
    assert config["scheduler"] == {
        "engine": "optuna",
        "source": "sweep.py",
        "optimizer": "optimizer",
    }
    one = Experiment("x", [Int("a", 1, 9, log=True)], [Maximize("m")])
    assert sweep_config(one, "p", "s")["metric"] == {"name": "m", "goal": "maximize"}
    study, used_up = sweep_study(shelf())
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    for i in range(6):
        assert not used_up(study)
        study.tell(study.ask(shelf().space.distributions()), [0.1 * i, 0.2])
    assert used_up(study)


def test_the_scheduler_of_wandb_asks_and_tells(tmp_path):
    scheduler = pytest.importorskip(
        "wandb.sdk.sweeps.scheduler.optuna", reason="W&B is not installed"
    )
    from wandb.sdk.sweeps.run_state import RunState
    from wandb.sdk.sweeps.scheduler.optimizer import RunWithMetrics
    from wandb.sdk.sweeps.sweep_info import SweepInfo

    source = tmp_path / "sweep.py"
    source.write_text(
        "from gossamer.search import sweep_study\n"
        "from tests.search.test_for_optuna import shelf\n\n\n"
        "def optimizer(sweep):\n    return sweep_study(shelf())\n"
    )
    config = sweep_config(shelf(), "train.py", str(source))
    engine = scheduler.build_optuna_optimizer(SweepInfo("s", "s", "e", "p", config, "c"))
    for i in range(3):
        first, second = engine.ask_n_runs(2)
        own = first.config.flat_dict()
        assert shelf().space.read(own, "sweep") == own
        for run, state in ((first, RunState.FINISHED), (second, RunState.CRASHED)):
            summary = {"accuracy": 0.5 + i / 10, "density": 0.25}
            data = RunWithMetrics(
                wandb_run_id=run.run_id,
                config=run.config,
                state=state,
                summary_metrics=summary,
                history_metrics=[],
            )
            assert not engine.should_terminate_sweep()
            engine.tell_run(run.run_id, data)
    assert engine.should_terminate_sweep()
    states = [trial.state.name for trial in engine.study.trials]
    assert (states.count("COMPLETE"), states.count("FAIL")) == (3, 3)
