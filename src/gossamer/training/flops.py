"""Counts of a network: non-zero weights, active units, multiply-adds."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.conv import _ConvTransposeNd
from torch.nn.utils.rnn import PackedSequence

from gossamer.nn import KWinners, KWinners2d, Threshold, quantized_layers
from gossamer.sparsity import Weight, sparsifiable_weights
from gossamer.sparsity.modes import evaluating

_BYTES = 4  # of a 32-bit float
_MOST_IN_BYTE = 255

# Layers whose output says how many units are active.
ACTIVATIONS = (KWinners, KWinners2d, Threshold, nn.ReLU, nn.ReLU6, nn.GELU, nn.SiLU, nn.Hardswish)


# Weights of recurrent layers and cells that meet the input; the others meet hidden states.
_READ_INPUTS = ("weight_ih", "weight_ih_l0", "weight_ih_l0_reverse")


@dataclass
class LayerCount:
    """Counts of one sparsifiable weight; multiply-adds are per inference, averaged over the data.

    Hidden states of recurrent layers count as inputs that are all active.

    Attributes:
        macs_dense: all products, including zeros and padding.
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
class UnitUse:
    """The evenness of activity among a layer's units.

    A unit's duty cycle is the share of examples (and of positions, for images) at which it is
    not zero (Ahmad & Scheinkman 2019, arXiv 1903.11257).

    Attributes:
        units: number of units; for images, of channels.
        dead: units that were never active.
        entropy: sum of the binary entropies of the duty cycles, in bits.
        entropy_most: the entropy if all units had the same duty cycle.
    """

    units: int
    dead: int
    entropy: float
    entropy_most: float

    @classmethod
    def of(cls, duty_cycles: Tensor) -> UnitUse:
        """Compute the figures from duty cycles ``[units]``, each from 0 to 1."""
        units = len(duty_cycles)
        most = units * float(_binary_entropy(duty_cycles.mean()))
        dead = int((duty_cycles == 0).sum())
        return cls(units, dead, float(_binary_entropy(duty_cycles).sum()), most)


def _binary_entropy(chance: Tensor) -> Tensor:
    """Return the entropy, in bits, of events of probability ``chance``, element by element."""
    return -(torch.xlogy(chance, chance) + torch.xlogy(1 - chance, 1 - chance)) / math.log(2)


@dataclass
class Counts:
    """Counts of a network on a set of examples.

    Attributes:
        layers: all weights that can be sparse (:func:`gossamer.sparsity.sparsifiable_weights`),
            in model order.
        activations: share of non-zero outputs of each activation layer (k-winners, ReLU...).
        active_share: share of non-zero outputs over all units of all activation layers.
        unit_use: use of each activation layer whose units are known (not of sequences).
        parameters: number of trainable parameters, biases and norms included.
        parameters_nonzero: number of those that are not zero.
        bytes: size of the parameters. A sparse layer takes 4 bytes for each non-zero and one bit
            for each position, a dense layer 4 bytes a weight. 8-bit layers take 1 byte instead
            of 4, and 4 more for the step of each output.
    """

    layers: list[LayerCount]
    activations: dict[str, float]
    active_share: float
    unit_use: dict[str, UnitUse]
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

    def activity(self) -> dict[str, Any]:
        """Return the figures of the activations for ``metrics.json``.

        ``units``, ``dead`` and ``entropy`` (as a share of the highest possible) are sums over
        layers; they are missing if no layer's units are known.
        """
        figures: dict[str, Any] = {"density": self.active_share, "layers": self.activations}
        used = self.unit_use.values()
        if used:
            figures["units"] = sum(use.units for use in used)
            figures["dead"] = sum(use.dead for use in used)
        if most := math.fsum(use.entropy_most for use in used):
            figures["entropy"] = math.fsum(use.entropy for use in used) / most
        return figures

    def macs(self) -> dict[str, float]:
        """Return multiply-adds per inference: all (``dense``), those with non-zero weights
        (``weights``), and those with non-zero weights and inputs (``both``)."""
        return {
            "dense": sum(layer.macs_dense for layer in self.layers),
            "weights": sum(layer.macs_weights for layer in self.layers),
            "both": sum(layer.macs_both for layer in self.layers),
        }


def weight_counts(model: nn.Module) -> tuple[int, int]:
    """Return the numbers of non-zero and of all sparsifiable weights."""
    weights = [weight.tensor for weight in sparsifiable_weights(model).values()]
    nonzero = sum(int(torch.count_nonzero(weight)) for weight in weights)
    return nonzero, sum(weight.numel() for weight in weights)


def count(
    model: nn.Module,
    batches: Iterable[Tensor],
    on_output: Callable[[Any], object] = lambda output: None,
) -> Counts:
    """Run ``model`` in evaluation mode on ``batches`` and return its counts.

    A layer that is called several times per inference counts each call.

    Args:
        model: any module.
        batches: tensors of inputs ``[batch, ...]``.
        on_output: called with the model's output for each batch.
    """
    layers = sparsifiable_weights(model)
    totals = {
        name: dict.fromkeys(("dense", "weights", "both", "active", "inputs"), 0.0)
        for name in layers
    }
    active: dict[str, list[float]] = {}
    duty: dict[str, tuple[Tensor, int]] = {}  # times each unit was active, of how many

    def count_layer(
        name: str,
        module: nn.Module,
        inputs: tuple[Any, ...],
        named: Mapping[str, Any],
        output: Any,
    ) -> None:
        read = (x.data if isinstance(x, PackedSequence) else x for x in inputs)
        tensors = [x for x in (*read, *named.values()) if isinstance(x, Tensor)]
        _count_layer(layers[name], tensors, output, totals[name])

    def count_activation(
        name: str, module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor
    ) -> None:
        entry = active.setdefault(name, [0.0, 0.0])
        entry[1] += output.numel()
        axis = _unit_axis(module, output)
        if axis is None:
            entry[0] += float(_nonzero_of(output).sum())
            return
        times = _nonzero_of(output).movedim(axis % output.dim() - 1, -1)
        times = times.flatten(0, -2).sum(0) if times.dim() > 1 else times
        entry[0] += float(times.sum())
        earlier, of = duty.get(name, (0, 0))
        duty[name] = times + earlier, of + output.numel() // len(times)

    examples = 0
    with ExitStack() as hooks, evaluating(model), torch.inference_mode():
        for name, layer in layers.items():
            hook = partial(count_layer, name)
            hooks.enter_context(layer.module.register_forward_hook(hook, with_kwargs=True))
        for name, module in model.named_modules():
            if isinstance(module, ACTIVATIONS):
                hooks.enter_context(module.register_forward_hook(partial(count_activation, name)))
        for x in batches:
            on_output(model(x))
            examples += len(x)

    counted = []
    for name, layer in layers.items():
        weight = layer.tensor
        sums = totals[name]
        counted.append(
            LayerCount(
                name=name,
                kind=type(layer.module).__name__,
                weights=weight.numel(),
                nonzero=int(torch.count_nonzero(weight)),
                input_density=sums["active"] / sums["inputs"] if sums["inputs"] else 0.0,
                macs_dense=sums["dense"] / max(examples, 1),
                macs_weights=sums["weights"] / max(examples, 1),
                macs_both=sums["both"] / max(examples, 1),
            )
        )
    parameters = list(model.parameters())
    unit_use = {name: UnitUse.of(times / of) for name, (times, of) in duty.items() if of}
    rounded = {id(layer.weight) for layer in quantized_layers(model).values()}
    units = sum(total for _, total in active.values())
    return Counts(
        layers=counted,
        activations={name: hits / total for name, (hits, total) in active.items()},
        active_share=sum(hits for hits, _ in active.values()) / units if units else 1.0,
        unit_use=unit_use,
        parameters=sum(p.numel() for p in parameters),
        parameters_nonzero=sum(int(torch.count_nonzero(p)) for p in parameters),
        bytes=sum(_stored_bytes(p, id(p) in rounded) for p in parameters),
    )


def _nonzero_of(x: Tensor) -> Tensor:
    """Count, for each entry of ``x`` ``[N, ...]``, the examples where it is not zero; float64."""
    # In the order of memory: with channels innermost, any other order takes five times as long.
    order = sorted(range(1, x.dim()), key=x.stride, reverse=True)
    present = (x.permute(0, *order) != 0).view(torch.uint8)
    # Sums of bytes, which hold up to 255, take less than half the time of sums of floats.
    parts = present.split(_MOST_IN_BYTE)  # type: ignore[no-untyped-call]
    sums = [part.sum(0, dtype=torch.uint8).double() for part in parts]
    return torch.stack(sums).sum(0).permute([order.index(d) for d in range(1, x.dim())])


def _unit_axis(module: nn.Module, output: Tensor) -> int | None:
    """Return the dimension of an activation's output that indexes units; None if unknown."""
    if isinstance(module, KWinners):
        return -1
    if isinstance(module, KWinners2d) or output.dim() in (2, 4):
        return 1
    return None  # a sequence's units may be in any


def _stored_bytes(parameter: Tensor, rounded: bool) -> int:
    each, steps = (1, _BYTES * len(parameter)) if rounded else (_BYTES, 0)
    sparse = each * int(torch.count_nonzero(parameter)) + math.ceil(parameter.numel() / 8)
    return steps + min(each * parameter.numel(), sparse)


def _count_layer(layer: Weight, inputs: list[Tensor], y: Any, sums: dict[str, float]) -> None:
    module, weight, x = layer.module, layer.tensor, inputs[0]
    if isinstance(module, nn.Conv1d | nn.Conv2d | nn.Conv3d):
        _count_convolution(module, weight, x, y, sums)
    elif isinstance(module, _ConvTransposeNd):
        # Each input meets the weights of its channel, those at the cut edges too.
        _count_rows(weight.flatten(1).t(), x.movedim(1, -1), sums)
    elif isinstance(module, nn.Linear) or layer.name in _READ_INPUTS:
        _count_rows(weight, x, sums)
    elif isinstance(module, nn.MultiheadAttention):
        parts = weight.chunk(3) if layer.name == "in_proj_weight" else [weight]
        first = max("qkv".find(layer.name[0]), 0)
        for part, read in zip(parts, inputs[first:], strict=False):
            _count_rows(part, read, sums)
    else:
        rows = x.numel() // x.shape[-1]
        _count_rows(weight.flatten(1), x.new_ones(rows, 1).expand(-1, weight[0].numel()), sums)


def _count_rows(weight: Tensor, x: Tensor, sums: dict[str, float]) -> None:
    """Count the rows of ``x`` times ``weight`` ``[outputs, inputs]``."""
    rows = x.numel() // weight.shape[1]
    # Each active input meets the non-zeros of its column.
    met = _nonzero_of(x.reshape(-1, weight.shape[1]))
    sums["active"] += float(met.sum())
    sums["inputs"] += x.numel()
    sums["dense"] += rows * weight.numel()
    sums["weights"] += rows * int(torch.count_nonzero(weight))
    sums["both"] += float(met @ torch.count_nonzero(weight, dim=0).double())


def _count_convolution(
    module: nn.Conv1d | nn.Conv2d | nn.Conv3d,
    weight: Tensor,
    x: Tensor,
    y: Tensor,
    sums: dict[str, float],
) -> None:
    nonzero = int(torch.count_nonzero(weight))
    present = (weight != 0).double()
    # Only the sum over all examples is wanted, and a convolution is linear.
    active = _nonzero_of(x)[None]
    sums["active"] += float(active.sum())
    sums["inputs"] += x.numel()
    positions = math.prod(y.shape[2:]) * len(x)
    sums["dense"] += positions * weight.numel()
    sums["weights"] += positions * nonzero
    # Non-zeros that meet an active input: the convolution of the indicators, with the
    # outputs of a group added up beforehand, since only the sum is wanted.
    grouped = present.reshape(module.groups, -1, *present.shape[1:]).sum(dim=1)
    convolve = getattr(functional, f"conv{x.dim() - 2}d")
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
    sums["both"] += float(met.sum())
