"""Counts what a network holds and does: non-zeros, active units, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.nn import KWinners, KWinners2d, Threshold, quantized_layers
from gossamer.sparsity import sparsifiable_layers

_BYTES = 4  # of a 32-bit float

# Layers whose output says how many units are active.
ACTIVATIONS = (KWinners, KWinners2d, Threshold, nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish)


@dataclass
class LayerCount:
    """One Linear or convolution. Multiply-adds are per inference, averaged over the data.

    Attributes:
        macs_dense: as if no weight and no input were zero; taps on padding included.
        macs_weights: products whose weight is not zero.
        macs_both: products whose weight and input are both not zero.
        input_density: share of its inputs that are not zero.
    """

    name: str
    kind: str
    weights: int
    nonzero: int
    input_density: float
    macs_dense: float
    macs_weights: float
    macs_both: float

    @property
    def density(self) -> float:
        return self.nonzero / self.weights


@dataclass
class Counts:
    """A network's counts on some data.

    Attributes:
        layers: Linear and convolution layers in model order.
        activations: share of non-zero outputs of each activation layer (k-winners, ReLU...).
        active_share: the same over all units of all activation layers.
        parameters: all trainable numbers, biases and norms included.
        parameters_nonzero: those of them that are not zero.
        bytes: of the parameters with sparse layers stored sparsely: 4 bytes for each
            non-zero and one bit for each position; layers without zeros: 4 bytes a weight.
            In 8-bit layers 1 byte in place of 4, and 4 for the step of each output.
    """

    layers: list[LayerCount]
    activations: dict[str, float]
    active_share: float
    parameters: int
    parameters_nonzero: int
    bytes: int

    @property
    def weights(self) -> int:
        return sum(layer.weights for layer in self.layers)

    @property
    def nonzero(self) -> int:
        return sum(layer.nonzero for layer in self.layers)

    @property
    def density(self) -> float:
        return self.nonzero / self.weights if self.weights else 1.0

    def macs(self) -> dict[str, float]:
        """Multiply-adds per inference: ``dense``, ``weights`` alone, ``both``."""
        return {
            "dense": sum(layer.macs_dense for layer in self.layers),
            "weights": sum(layer.macs_weights for layer in self.layers),
            "both": sum(layer.macs_both for layer in self.layers),
        }


def weight_counts(model: nn.Module) -> tuple[int, int]:
    """(non-zero weights, all weights) of the Linear and convolution layers."""
    weights = [_weight(layer) for layer in sparsifiable_layers(model).values()]
    nonzero = sum(int(torch.count_nonzero(weight)) for weight in weights)
    return nonzero, sum(weight.numel() for weight in weights)


def _weight(layer: nn.Module) -> Tensor:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return weight


def count(model: nn.Module, batches: Iterable[Tensor]) -> Counts:
    """Run ``model`` in evaluation mode over ``batches`` of inputs and count.

    A layer that is called several times per inference counts each call.
    """
    layers = sparsifiable_layers(model)
    totals = {
        name: dict.fromkeys(("dense", "weights", "both", "active", "inputs"), 0.0)
        for name in layers
    }
    active: dict[str, list[float]] = {}
    hooks = []

    def layer_hook(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            _count_layer(module, inputs[0], output, totals[name])

        return hook

    def activation_hook(name: str) -> Any:
        def hook(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            entry = active.setdefault(name, [0.0, 0.0])
            entry[0] += float(torch.count_nonzero(output))
            entry[1] += output.numel()

        return hook

    for name, layer in layers.items():
        hooks.append(layer.register_forward_hook(layer_hook(name)))
    for name, module in model.named_modules():
        if isinstance(module, ACTIVATIONS):
            hooks.append(module.register_forward_hook(activation_hook(name)))
    examples = 0
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            for x in batches:
                model(x)
                examples += len(x)
    finally:
        model.train(was_training)
        for hook in hooks:
            hook.remove()

    counted = []
    for name, layer in layers.items():
        weight = _weight(layer)
        sums = totals[name]
        counted.append(
            LayerCount(
                name=name,
                kind=type(layer).__name__,
                weights=weight.numel(),
                nonzero=int(torch.count_nonzero(weight)),
                input_density=sums["active"] / sums["inputs"] if sums["inputs"] else 0.0,
                macs_dense=sums["dense"] / max(examples, 1),
                macs_weights=sums["weights"] / max(examples, 1),
                macs_both=sums["both"] / max(examples, 1),
            )
        )
    parameters = list(model.parameters())
    rounded = {id(layer.weight) for layer in quantized_layers(model).values()}
    units = sum(total for _, total in active.values())
    return Counts(
        layers=counted,
        activations={name: hits / total for name, (hits, total) in active.items()},
        active_share=sum(hits for hits, _ in active.values()) / units if units else 1.0,
        parameters=sum(p.numel() for p in parameters),
        parameters_nonzero=sum(int(torch.count_nonzero(p)) for p in parameters),
        bytes=sum(_stored_bytes(p, id(p) in rounded) for p in parameters),
    )


def _stored_bytes(parameter: Tensor, rounded: bool) -> int:
    each, steps = (1, _BYTES * len(parameter)) if rounded else (_BYTES, 0)
    sparse = each * int(torch.count_nonzero(parameter)) + math.ceil(parameter.numel() / 8)
    return steps + min(each * parameter.numel(), sparse)


def _count_layer(module: nn.Module, x: Tensor, y: Tensor, sums: dict[str, float]) -> None:
    weight = _weight(module)
    nonzero = int(torch.count_nonzero(weight))
    present = (weight != 0).to(torch.float32)
    active = (x != 0).to(torch.float32)
    sums["active"] += float(active.sum(dtype=torch.float64))
    sums["inputs"] += x.numel()
    if isinstance(module, nn.Linear):
        rows = x.numel() // module.in_features
        sums["dense"] += rows * weight.numel()
        sums["weights"] += rows * nonzero
        # Each active input meets the non-zeros of its column.
        met = active.reshape(-1, module.in_features).sum(dim=0, dtype=torch.float64)
        sums["both"] += float(met @ present.sum(dim=0, dtype=torch.float64))
        return
    assert isinstance(module, nn.Conv1d | nn.Conv2d)
    positions = math.prod(y.shape[2:]) * len(x)
    sums["dense"] += positions * weight.numel()
    sums["weights"] += positions * nonzero
    # Non-zeros that meet an active input: the convolution of the indicators, with the
    # outputs of a group added up beforehand, since only the sum is wanted.
    grouped = present.reshape(module.groups, -1, *present.shape[1:]).sum(dim=1)
    convolve = functional.conv1d if isinstance(module, nn.Conv1d) else functional.conv2d
    if module.padding_mode != "zeros":
        active = functional.pad(
            active, module._reversed_padding_repeated_twice, mode=module.padding_mode
        )
        padding: Any = 0
    else:
        padding = module.padding
    met = convolve(
        active,
        grouped,
        stride=module.stride,
        padding=padding,
        dilation=module.dilation,
        groups=module.groups,
    )
    sums["both"] += float(met.sum(dtype=torch.float64))
