"""Multi-metric experiments with thresholds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossamer.search.distinct import Solutions
from gossamer.search.execution.commands import Command
from gossamer.search.execution.loggers import LOGGERS, MLflow, TensorBoard, WandB
from gossamer.search.execution.ray import on_ray
from gossamer.search.experiment import Experiment
from gossamer.search.for_optuna import ExperimentSampler, sweep_config, sweep_study
from gossamer.search.frontier import Frontier
from gossamer.search.importers.into import Imported, import_from
from gossamer.search.importers.registry import IMPORTERS
from gossamer.search.metrics import AtLeast, AtMost, Maximize, Minimize
from gossamer.search.optuna_export import export_study
from gossamer.search.samplers.gp import GPSampler
from gossamer.search.samplers.history import History
from gossamer.search.samplers.optuna import OptunaSampler
from gossamer.search.samplers.registry import SAMPLERS
from gossamer.search.samplers.sampler import RandomSampler, Sampler
from gossamer.search.samplers.warm_start import WarmStart
from gossamer.search.snapshot import Snapshot
from gossamer.search.space.constraints import LinearConstraint
from gossamer.search.space.parameters import Choice, Float, Grid, Int, Prior
from gossamer.search.space.space import Space
from gossamer.search.stopping.continuation import Continuation
from gossamer.search.stopping.fidelity import Fidelity
from gossamer.search.stopping.optuna import OptunaPruner
from gossamer.search.stopping.rules import STOPPING, Dominated, Halving, OutOfReach, Violated
from gossamer.search.transfer import export_trials, import_trials
from gossamer.search.trials.table import Trials, to_dataframe
from gossamer.search.trials.trial import Report, Trial, TrialRecord, TrialStopped

if TYPE_CHECKING:
    from gossamer.search.networks import TrainNetwork, chosen_trial, merged, recipe_of

__all__ = [
    "IMPORTERS",
    "LOGGERS",
    "SAMPLERS",
    "STOPPING",
    "AtLeast",
    "AtMost",
    "Choice",
    "Command",
    "Continuation",
    "Dominated",
    "Experiment",
    "ExperimentSampler",
    "Fidelity",
    "Float",
    "Frontier",
    "GPSampler",
    "Grid",
    "Halving",
    "History",
    "Imported",
    "Int",
    "LinearConstraint",
    "MLflow",
    "Maximize",
    "Minimize",
    "OptunaPruner",
    "OptunaSampler",
    "OutOfReach",
    "Prior",
    "RandomSampler",
    "Report",
    "Sampler",
    "Snapshot",
    "Solutions",
    "Space",
    "TensorBoard",
    "TrainNetwork",
    "Trial",
    "TrialRecord",
    "TrialStopped",
    "Trials",
    "Violated",
    "WandB",
    "WarmStart",
    "chosen_trial",
    "export_study",
    "export_trials",
    "import_from",
    "import_trials",
    "merged",
    "on_ray",
    "recipe_of",
    "sweep_config",
    "sweep_study",
    "to_dataframe",
]
__dir__ = __all__.copy

# These import torch, which takes seconds, in every worker process too; whoever searches for
# something else than a network does without.
_OF_NETWORKS = ("TrainNetwork", "chosen_trial", "merged", "recipe_of")


def __getattr__(name: str) -> Any:
    if name in _OF_NETWORKS:
        from gossamer.search import networks

        return getattr(networks, name)
    raise AttributeError(f"module 'gossamer.search' has no attribute {name!r}")
