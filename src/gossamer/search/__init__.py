"""Multi-metric experiments with thresholds."""

from gossamer.search.constraints import LinearConstraint
from gossamer.search.experiment import Experiment
from gossamer.search.frontier import Frontier
from gossamer.search.metrics import Maximize, Minimize
from gossamer.search.networks import TrainNetwork, chosen_trial, recipe_of
from gossamer.search.parameters import Choice, Float, Int
from gossamer.search.samplers import SAMPLERS
from gossamer.search.trials import Trial, TrialRecord

__all__ = [
    "SAMPLERS",
    "Choice",
    "Experiment",
    "Float",
    "Frontier",
    "Int",
    "LinearConstraint",
    "Maximize",
    "Minimize",
    "TrainNetwork",
    "Trial",
    "TrialRecord",
    "chosen_trial",
    "recipe_of",
]
