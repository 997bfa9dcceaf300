"""Trains and evaluates networks on tasks."""

from gossamer.training.checkpoint import folder_for, make_folder
from gossamer.training.counting import Counts, LayerCount, count, weight_counts
from gossamer.training.evaluate import Evaluation, Noise, evaluate, inference_seconds, noise_score
from gossamer.training.examples import predict
from gossamer.training.fit import DivergedError, fit
from gossamer.training.history import Epoch, History
from gossamer.training.recipe import Recipe
from gossamer.training.robustness import Curve, Unfinished, robustness
from gossamer.training.run import (
    EXAMPLES,
    Trained,
    load_config,
    load_description,
    load_network,
    load_recipe,
    onnx_of,
    train,
)
from gossamer.training.settings import OPTIMIZERS, SCHEDULES, Settings

__all__ = [
    "EXAMPLES",
    "OPTIMIZERS",
    "SCHEDULES",
    "Counts",
    "Curve",
    "DivergedError",
    "Epoch",
    "Evaluation",
    "History",
    "LayerCount",
    "Noise",
    "Recipe",
    "Settings",
    "Trained",
    "Unfinished",
    "count",
    "evaluate",
    "fit",
    "folder_for",
    "inference_seconds",
    "load_config",
    "load_description",
    "load_network",
    "load_recipe",
    "make_folder",
    "noise_score",
    "onnx_of",
    "predict",
    "robustness",
    "train",
    "weight_counts",
]
