"""Layers that store their non-zeros only, between changes of their masks.

For users such a layer is still an ``nn.Linear`` or ``nn.Conv2d``: ``weight`` returns a dense
tensor, and ``state_dict`` and copies have dense weights. But its parameter ``weight``, the same
object as before, has the values ``[entries, block]``, so that the cost of gradients, optimizer
state, clipping and weight decay is in proportion to the non-zeros.
"""

from __future__ import annotations

import copy
import copyreg
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.sparsity.sparse_weight import SparseWeight, apply_sparse


def plain_needed(x: Tensor) -> bool:
    """Return whether layers must be plain: the kernels cannot take ``x``, or torch is tracing."""
    return (
        torch.compiler.is_compiling()
        or torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
        or x.dtype != torch.float32
        or x.device.type != "cpu"
        or x.layout != torch.strided
        or x.numel() == 0
        or torch.is_autocast_enabled("cpu")
        or torch._C._functorch.maybe_current_level() is not None
    )


class _Packed(nn.Module):
    _sparse_weight: SparseWeight
    _active: bool  # whether only active inputs are visited
    _expand: Callable[[], None]

    @property
    def weight(self) -> Tensor:
        """The dense weight, computed at each access; differentiable."""
        values = self._parameters["weight"]
        assert values is not None
        return self._sparse_weight.scatter(values)

    def _save_to_state_dict(
        self, destination: dict[str, Any], prefix: str, keep_vars: bool
    ) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        weight = self.weight
        destination[prefix + "weight"] = weight if keep_vars else weight.detach()

    def _load_from_state_dict(self, *args: Any) -> None:
        # What is loaded may have other non-zeros.
        self._expand()
        self._load_from_state_dict(*args)

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Make copies plain layers, because no sparsifier applies masks to them."""
        state = {k: v for k, v in self.__dict__.items() if k not in _OWN}
        values = self._parameters["weight"]
        assert values is not None
        weight = nn.Parameter(self.weight.detach(), requires_grad=values.requires_grad)
        state["_parameters"] = {**self._parameters, "weight": weight}
        return copyreg.__newobj__, (PLAIN[type(self)],), state  # type: ignore[attr-defined]


# What a packed layer has in addition to the plain one.
_OWN = ("_sparse_weight", "_active", "_expand")


class PackedLinear(_Packed, nn.Linear):  # type: ignore[override]
    def forward(self, x: Tensor) -> Tensor:
        values = self._parameters["weight"]
        if plain_needed(x) or x.shape[-1] != self.in_features or values is None:
            return nn.functional.linear(x, self.weight, self.bias)
        rows = x.reshape(-1, self.in_features)
        y = apply_sparse(rows, values, self.bias, self._sparse_weight, active=self._active)
        return y.view(*x.shape[:-1], self.out_features)


class PackedConv2d(_Packed, nn.Conv2d):  # type: ignore[override]
    def forward(self, x: Tensor) -> Tensor:
        values = self._parameters["weight"]
        if plain_needed(x) or x.ndim != 4 or x.shape[1] != self.in_channels or values is None:
            y: Tensor = self._conv_forward(x, self.weight, self.bias)
            return y
        return apply_sparse(x, values, self.bias, self._sparse_weight, active=self._active)


PACKED: dict[type[nn.Module], type[_Packed]] = {
    nn.Linear: PackedLinear,
    nn.Conv2d: PackedConv2d,
}
PLAIN = {packed: plain for plain, packed in PACKED.items()}


def is_packed(layer: nn.Module) -> bool:
    return isinstance(layer, _Packed)


def plain_model(model: nn.Module) -> nn.Module:
    """Return the model, or a copy with plain layers if it has packed ones."""
    return copy.deepcopy(model) if any(map(is_packed, model.modules())) else model


def _replace(
    parameter: nn.Parameter, optimizer: torch.optim.Optimizer, change: Callable[[Tensor], Tensor]
) -> None:
    """Change the shapes of a parameter, its gradient and those tensors of its optimizer's state
    that have its shape; the parameter stays the same object."""
    for key, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.shape == parameter.shape:
            optimizer.state[parameter][key] = change(value)
    gradient, parameter.grad = parameter.grad, None
    data = change(parameter.data)
    # A graph that is still alive keeps the node that accumulates this parameter's gradient, and
    # the node the old shape. Another type in between makes torch forget it.
    parameter.data = data.new_empty(0, dtype=torch.float64)
    parameter.data = data
    parameter.grad = None if gradient is None else change(gradient)


@torch.no_grad()
def make_packed(
    layer: nn.Module,
    nonzeros: SparseWeight,
    optimizer: torch.optim.Optimizer,
    expand: Callable[[], None],
    active: bool,
) -> None:
    """Turn a plain layer into a packed one; ``expand`` must turn it back.

    ``active``: whether it visits active inputs only.
    """
    parameter = layer._parameters["weight"]
    assert parameter is not None
    _replace(parameter, optimizer, nonzeros.gather)
    layer.__dict__.update(_sparse_weight=nonzeros, _active=active, _expand=expand)
    layer.__class__ = PACKED[type(layer)]


@torch.no_grad()
def make_plain(layer: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Turn a packed layer into a plain one; weight, gradient and state have zeros where masked."""
    assert isinstance(layer, _Packed)
    parameter, nonzeros = layer._parameters["weight"], layer._sparse_weight
    assert parameter is not None
    _replace(parameter, optimizer, nonzeros.scatter)
    layer.__class__ = PLAIN[type(layer)]  # type: ignore[assignment]
    for name in _OWN:
        del layer.__dict__[name]
