"""Every argument that is a number, in all rooms: numpy's and torch's serve, others are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import gossamer as gs
from gossamer import models, sparsity
from gossamer.data import Augmentation, LogMel
from gossamer.deploy import MeasureSettings
from gossamer.energy import Costs
from gossamer.errors import UserError
from gossamer.listen import Detector, Windows
from gossamer.nn import (
    AnnealActivations,
    KWinners,
    KWinners2d,
    Threshold,
    VariationalLinear,
    sparsify_activations,
    to_variational,
    winner_mask,
)
from gossamer.training import TrainingConfig

X = torch.zeros(4, 16)
WINNERS = {"density": 0.5, "boost_strength": 1.0, "boost_decay": 0.9, "inference_factor": 1.0}
MOVING = {"interval": 100, "until": 0.75}
SOUND = {"mean": -50.0, "std": 9.0, "samples": 16_000}


def network(width: int = 16) -> nn.Sequential:
    return nn.Sequential(nn.Linear(16, width), nn.ReLU(), nn.Linear(width, 8))


# Name -> what is called, and its numbers.
CALLS: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "KWinners": (KWinners, {"units": 8, "duty_cycle_period": 1000, **WINNERS}),
    "KWinners2d": (KWinners2d, {"channels": 8, "duty_cycle_period": 1000, **WINNERS}),
    "Threshold": (Threshold, {"density": 0.5}),
    "VariationalLinear": (lambda **n: VariationalLinear(4, 3, **n), {"threshold": 3.0}),
    "to_variational": (lambda **n: to_variational(network(), **n), {"threshold": 3.0}),
    "winner_mask": (lambda **n: winner_mask(X, **n), {"k": 3}),
    "AnnealActivations": (
        lambda **n: AnnealActivations(nn.Sequential(KWinners(8, 0.5)), **n),
        {"steps": 10, "start": 1.0},
    ),
    "sparsify_activations": (
        lambda **n: sparsify_activations(network(), example=X, **n),
        WINNERS,
    ),
    "ACDC": (sparsity.ACDC, {"interval": 1, "until": 0.75}),
    "Block": (sparsity.Block, {"size": 8}),
    "Cubic": (sparsity.Cubic, {"until": 0.5, "start": 0.0, "initial": 1.0}),
    "NM": (sparsity.NM, {"n": 2, "m": 4}),
    "OneShot": (sparsity.OneShot, MOVING),
    "Phases": (sparsity.Phases, {"pairs": 4, "start": 0.1, "until": 0.75}),
    "RigL": (sparsity.RigL, {**MOVING, "fraction": 0.3}),
    "PerLayer": (
        lambda share: gs.Sparsifier(network(), 0.5, allocation=sparsity.PerLayer({"0": share})),
        {"share": 0.5},
    ),
    "Sparsifier": (lambda **n: gs.Sparsifier(network(), **n), {"density": 0.5, "seed": 0}),
    "prune": (lambda **n: sparsity.prune(network(), **n), {"density": 0.5}),
    "rearrange": (lambda **n: sparsity.rearrange(network(), **n), {"density": 0.5}),
    "mu_parametrize": (
        lambda **n: sparsity.mu_parametrize(network(), network(8), **n),
        {"density": 0.5},
    ),
    "scale": (sparsity.scale, {"inputs": 2.0, "outputs": 2.0, "density": 0.5}),
    "TrainingConfig": (
        TrainingConfig,
        {"epochs": 2, "batch_size": 64, "learning_rate": 0.1, "crop": 0, "gain": 0.0},
    ),
    "Augmentation": (Augmentation, {"crop": 0, "shift": 0, "time_mask": 0, "gain": 0.0}),
    "LogMel": (LogMel, LogMel().settings()),
    "Windows": (
        lambda stride, **n: Windows({**LogMel().settings(), **n}, stride),
        {"stride": 3, **SOUND},
    ),
    "Detector": (
        lambda **n: Detector(["yes", "no"], **n),
        {"threshold": 0.8, "smoothing": 3, "refractory": 1.0},
    ),
    "MeasureSettings": (MeasureSettings, {"engine_threads": 1, "engine_batch": 64}),
    "Costs": (
        lambda low, high, **n: Costs("x", "y", access={"L1": (low, high)}, **n),
        dict.fromkeys(("low", "high", "add", "multiply", "add_whole", "multiply_whole"), 1.0),
    ),
    "mlp": (models.mlp, {"classes": 4, "hidden": 8, "layers": 2, "activation_density": 0.5}),
    "speech_cnn": (
        lambda **n: models.speech_cnn(channels=[2, 2], **n),
        {"classes": 4, "hidden": 8, "boost_strength": 1.0},
    ),
    "tc_resnet": (models.tc_resnet, {"classes": 4, "width": 0.25, "dropout": 0.1}),
    "vit": (models.vit, {"classes": 4, "width": 16, "layers": 1, "head_size": 8}),
}

NUMPY: dict[type, Any] = {int: (np.int64, np.int32), float: (np.float64, np.float32)}
NO_NUMBERS = (
    *(float("nan"), np.float32("nan"), float("inf"), -float("inf"), 10**400, -1e300),
    *("", "x", b"1", object(), 1 + 2j, True, [[1]], np.zeros(2), torch.zeros(2)),
    *(np.array(np.nan), torch.tensor(float("nan")), torch.empty((), device="meta")),
)
# These may mean something, or be refused.
PERHAPS = (None, [], np.zeros(0), 1e-320, 0, -1, 2.5)


def refusal(call: Callable[..., Any], numbers: dict[str, Any]) -> bool:
    """Whether a call is refused, in one line."""
    try:
        call(**numbers)
    except UserError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return True
    return False


@pytest.mark.parametrize("name", CALLS)
def test_numbers(name: str) -> None:
    call, numbers = CALLS[name]
    call(**numbers)
    for argument, number in numbers.items():
        kinds = [*NUMPY[type(number)], np.array, torch.tensor]
        for kind in kinds:
            call(**{**numbers, argument: kind(number)})
        for wrong in NO_NUMBERS:
            assert refusal(call, {**numbers, argument: wrong}), f"{argument}={wrong!r}"
        for value in PERHAPS:
            refusal(call, {**numbers, argument: value})
