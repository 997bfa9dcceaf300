"""Training and evaluation of networks on tasks, and run directories.

Only ``measure.py`` imports ``deploy``, ``energy`` and ``runtime``, to measure exported networks.
"""

from gossamer.training.config import OPTIMIZERS, SCHEDULES, TrainingConfig
from gossamer.training.distillation import Ensemble
from gossamer.training.evaluate import Evaluation, Noise, evaluate, inference_seconds, noise_score
from gossamer.training.fit import DivergedError, fit
from gossamer.training.flops import Counts, LayerCount, count, weight_counts
from gossamer.training.folder import folder_for
from gossamer.training.history import Epoch, History
from gossamer.training.loader import predict
from gossamer.training.recipe import Recipe
from gossamer.training.robustness import Curve, Unfinished, robustness
from gossamer.training.run import (
    EXAMPLES,
    FILES,
    check_trust,
    load_config,
    load_description,
    load_network,
    load_recipe,
    onnx_of,
)
from gossamer.training.trained import Trained, train

__all__ = [
    "EXAMPLES",
    "FILES",
    "OPTIMIZERS",
    "SCHEDULES",
    "Counts",
    "Curve",
    "DivergedError",
    "Ensemble",
    "Epoch",
    "Evaluation",
    "History",
    "LayerCount",
    "Noise",
    "Recipe",
    "Trained",
    "TrainingConfig",
    "Unfinished",
    "check_trust",
    "count",
    "evaluate",
    "fit",
    "folder_for",
    "inference_seconds",
    "load_config",
    "load_description",
    "load_network",
    "load_recipe",
    "noise_score",
    "onnx_of",
    "predict",
    "robustness",
    "train",
    "weight_counts",
]
__dir__ = __all__.copy
