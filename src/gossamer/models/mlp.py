"""A plain multi-layer perceptron."""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import nn

from gossamer.models.activation import each, units
from gossamer.models.arguments import Winners, checked


@checked
def mlp(
    classes: int = 10,
    *,
    input_shape: tuple[int, ...] = (1, 28, 28),
    hidden: int = 512,
    layers: int = 2,
    activation_density: float | Sequence[float] = 1.0,
    norm: bool = True,
    dropout: float = 0.0,
    **winners: Unpack[Winners],
) -> nn.Sequential:
    """Build a perceptron: flatten; ``layers`` times [linear, batch norm, activation]; output layer.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: of one example.
        hidden: units of each hidden layer.
        layers: hidden layers.
        activation_density: share of winners after each hidden layer, one value or one for
            each; 1.0 means ReLU.
        norm: whether batch norm stands between a hidden layer and its activation.
        dropout: after each activation.
        winners: see :class:`gossamer.nn.KWinners`.

    Raises:
        UserError: a value out of range.
    """
    parts: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    inputs = math.prod(input_shape)
    for index, density in enumerate(each(activation_density, layers, "hidden layers"), start=1):
        parts[f"linear{index}"] = nn.Linear(inputs, hidden, bias=not norm)
        if norm:
            parts[f"norm{index}"] = nn.BatchNorm1d(hidden)
        parts[f"act{index}"] = units(hidden, density, **winners)
        if dropout:
            parts[f"dropout{index}"] = nn.Dropout(dropout)
        inputs = hidden
    parts["output"] = nn.Linear(inputs, classes)
    return nn.Sequential(parts)
