"""The table of reference networks, with their default sparsity and training."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from gossamer.errors import UserError, nearest
from gossamer.models.bc_resnet import bc_resnet
from gossamer.models.convnet import image_cnn, speech_cnn
from gossamer.models.depthwise import ds_cnn, mobilenet
from gossamer.models.mlp import mlp
from gossamer.models.resnet import resnet
from gossamer.models.tc_resnet import tc_resnet
from gossamer.models.transformer import bert, vit
from gossamer.own_code import file_without_function, is_code, load_function


@dataclass(frozen=True)
class Reference:
    """A network that can be trained by name.

    Attributes:
        build: called with ``classes=``, ``input_shape=`` and those settings that are its
            arguments.
        summary: one line for listings.
        settings: defaults by name, for arguments of ``build``, weight densities
            (``"weight_density.conv2"``) and training.
    """

    build: Callable[..., nn.Module]
    summary: str
    settings: Mapping[str, Any] = field(default_factory=dict)


# Ahmad & Scheinkman 2019: random masks that never change, equally many inputs in every unit.
_AS_PUBLISHED = {"rule": "static", "pattern": "fan_in", "allocation": "uniform"}
# As the authors tuned it: one cycle, up to a high learning rate. The sparse networks are those of
# their later library; the ones of the paper's table 3 have dense convolutions and 40 % or 10 % of
# the hidden layer's weights, 756,000 and 362,000 non-zeros, and the paper's accuracies are theirs.
_SPEECH = {"epochs": 30, "batch_size": 32, "learning_rate": 0.03, "weight_decay": 5e-4}
_SPEECH_SPARSE = {
    **_SPEECH,
    **_AS_PUBLISHED,
    "activation_density": (0.095, 0.125, 0.10),
    "weight_density.conv1": 0.5,
    "weight_density.conv2": 0.2,
    "weight_density.linear1": 0.1,
    "weight_density.output": 1.0,
}
_KEYWORD = {"epochs": 40, "batch_size": 100, "learning_rate": 0.1, "weight_decay": 1e-3}
_IMAGE = {"epochs": 15, "batch_size": 64, "learning_rate": 0.1, "weight_decay": 5e-4}
# Mirrored and moved as He et al. 2016 do it; a larger batch at a higher rate takes less time.
_SMALL_IMAGE = {
    **_IMAGE,
    "epochs": 30,
    "batch_size": 128,
    "learning_rate": 0.2,
    "flip": True,
    "crop": 4,
}
# Without batch norms the high rate of the others diverges.
_MNIST = {**_IMAGE, "learning_rate": 0.05}
# Recommended in the literature where dense phases fit in memory (Peste et al. 2021).
_LARGE_IMAGE = {**_IMAGE, "rule": "acdc"}
_TRANSFORMER = {
    "epochs": 30,
    "batch_size": 64,
    "optimizer": "adamw",
    "learning_rate": 1e-3,
    "weight_decay": 0.05,
}

MODELS: dict[str, Reference] = {
    "speech_cnn": Reference(
        speech_cnn, "keyword spotting CNN-2, dense, 1,716,000 weights", _SPEECH
    ),
    "speech_cnn_sparse": Reference(
        speech_cnn,
        "the same, sparse weights and k-winners, 193,248 non-zero weights",
        _SPEECH_SPARSE,
    ),
    "speech_cnn_super_sparse": Reference(
        speech_cnn,
        "1,500 hidden units at 5 %, 159,248 non-zero weights of 2,522,000",
        {**_SPEECH_SPARSE, "hidden": 1500, "weight_density.linear1": 0.05},
    ),
    "image_cnn": Reference(image_cnn, "MNIST CNN-2, dense, 513,250 weights", _MNIST),
    "image_cnn_sparse": Reference(
        image_cnn,
        "wider, sparse hidden layer and k-winners, 273,900 non-zero weights of 775,800",
        {
            **_MNIST,
            **_AS_PUBLISHED,
            "channels": (32, 64),
            "hidden": 700,
            "inference_factor": 1.5,
            "activation_density": (0.087, 0.293, 0.143),
            "weight_density.linear1": 0.3,
        },
    ),
    "mlp": Reference(mlp, "two hidden layers of 512 units, any input", _IMAGE),
    "resnet18": Reference(resnet, "residual network, 18 layers, any image", _IMAGE),
    "resnet20": Reference(
        resnet,
        "residual network, 20 layers of 16 to 64 channels, for pictures as small as CIFAR-10's",
        {**_SMALL_IMAGE, "blocks": (3, 3, 3), "width": 16},
    ),
    "resnet50": Reference(
        resnet,
        "residual network, 50 layers with bottlenecks, any image",
        {**_LARGE_IMAGE, "blocks": (3, 4, 6, 3), "bottleneck": True},
    ),
    "ds_cnn": Reference(ds_cnn, "keyword spotting, depthwise separable convolutions", _SPEECH),
    "tc_resnet": Reference(
        tc_resnet, "keyword spotting, convolutions over time: 8 layers, or layers=14", _KEYWORD
    ),
    "bc_resnet": Reference(
        bc_resnet, "keyword spotting, broadcasted residuals, the smallest accurate ones", _KEYWORD
    ),
    "mobilenet": Reference(
        mobilenet, "MobileNet, thirteen depthwise blocks, any image", _LARGE_IMAGE
    ),
    "vit": Reference(vit, "vision transformer, four layers of 128, any image", _TRANSFORMER),
    "bert": Reference(bert, "transformer over tokens, two layers of 128", _TRANSFORMER),
}


def reference(name: str) -> Reference:
    """Return a reference network by name, or a user's network by ``file.py:function``.

    ``package.module:function`` works as well. The function is called with ``classes=``,
    ``input_shape=`` and those settings that are its keyword arguments, and must return a torch
    module.

    Raises:
        UserError: no such name, file, module or function, or one that fails when imported.
    """
    if name in MODELS:
        return MODELS[name]
    if not is_code(name):
        if fault := file_without_function(name):
            raise UserError(fault)
        if Path(name).is_file():
            raise UserError(
                f"{name} is no network that can be trained: give the name of a reference network, "
                "a run directory (to compress), or your code as file.py:function"
            )
        raise UserError(
            f"unknown model '{name}': {nearest(name, MODELS)}; or give your own as file.py:function"
        )
    place, _, function = name.rpartition(":")
    return Reference(load_function(name, "model"), f"{function} of {place}")
