"""Variational dropout: each weight learns its own noise, and noisy weights are pruned.

Molchanov, Ashukha & Vetrov, "Variational Dropout Sparsifies Deep Neural Networks", ICML 2017,
arXiv 1701.05369; additive noise parametrization and local reparametrization as there.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Collection
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.errors import UserError, nearest
from gossamer.nn.module_tools import exporting, replace
from gossamer.numbers import finite
from gossamer.sparsity.layers import Weight, check_weight

# The approximation of the Kullback-Leibler divergence, equation 14 of the paper.
_K1, _K2, _K3 = 0.63576, 1.87320, 1.48695
# Beyond these, log alpha has no effect that single precision would show.
_CLIP = 8.0
_TINY = 1e-8
# Above it a weight is noise: a dropout rate of more than 95 %.
THRESHOLD = 3.0
# Of log sigma^2 at first: hardly any noise.
_QUIET = -10.0


class Variational(nn.Module, ABC):
    """Base class of both layers; ``weight`` is the means of the weights."""

    weight: Tensor
    log_variance: nn.Parameter
    threshold: float

    def _make_noise(self, threshold: float) -> None:
        self.log_variance = nn.Parameter(torch.full_like(self.weight, _QUIET))
        self.threshold = finite(threshold, "threshold", -1e6, 1e6)

    def log_alpha(self) -> Tensor:
        """The log of variance / squared mean of each weight, clamped to -8 to 8."""
        alpha = self.log_variance - torch.log(self.weight.square() + _TINY)
        return alpha.clamp(-_CLIP, _CLIP)

    def penalty(self) -> Tensor:
        """Return the Kullback-Leibler divergence from the prior, summed over weights: a scalar.

        Add it to the loss, divided by the number of training examples.
        """
        alpha = self.log_alpha()
        gained = _K1 * torch.sigmoid(_K2 + _K3 * alpha) - 0.5 * functional.softplus(-alpha) - _K1
        return -gained.sum()

    def significant(self) -> Tensor:
        """Return a boolean mask of the weight's shape, true for weights that are not noise."""
        return self.log_alpha() < self.threshold

    def hard_weight(self) -> Tensor:
        """Return the weights of evaluation mode: means, exactly zero where pruned."""
        return self.weight.masked_fill(~self.significant(), 0.0)

    @abstractmethod
    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Apply the layer's linear map to ``x`` with the given weight and bias."""

    def forward(self, x: Tensor) -> Tensor:
        if exporting(self):
            raise UserError(
                "call gossamer.nn.to_deterministic(model) before exporting: it prunes for good"
            )
        bias = cast("Tensor | None", self.bias)
        if not self.training:
            return self._apply_weight(x, self.hard_weight(), bias)
        mean = self._apply_weight(x, self.weight, bias)
        # Noise for each output instead of each weight: the same distribution, far less variance.
        variance = self._apply_weight(
            x.square(), self.log_alpha().exp() * self.weight.square(), None
        )
        return mean + (variance + _TINY).sqrt() * torch.randn_like(mean)


class VariationalLinear(Variational, nn.Linear):
    """``nn.Linear`` with a learned noise for each weight.

    Args:
        in_features, out_features, bias: as for ``nn.Linear``.
        threshold: weights whose log alpha is at least this are zero in evaluation mode.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        bias: bool = True,
        *,
        threshold: float = THRESHOLD,
        **factory: Any,
    ) -> None:
        nn.Linear.__init__(self, in_features, out_features, bias, **factory)
        self._make_noise(threshold)

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        return functional.linear(x, weight, bias)


class VariationalConv2d(Variational, nn.Conv2d):
    """``nn.Conv2d`` with a learned noise for each weight; takes its arguments and ``threshold``.

    See :class:`VariationalLinear`.
    """

    def __init__(self, *args: Any, threshold: float = THRESHOLD, **kwargs: Any) -> None:
        nn.Conv2d.__init__(self, *args, **kwargs)
        self._make_noise(threshold)

    def _apply_weight(self, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        y: Tensor = self._conv_forward(x, weight, bias)
        return y


_PLAIN: dict[type[nn.Module], type[Any]] = {
    VariationalLinear: nn.Linear,
    VariationalConv2d: nn.Conv2d,
}
_NOISY = {plain: noisy for noisy, plain in _PLAIN.items()}


def _arguments(layer: nn.Module) -> dict[str, Any]:
    """Return the constructor arguments of ``layer``."""
    weight = cast(Tensor, layer.weight)
    made: dict[str, Any] = {
        "bias": layer.bias is not None,
        "device": weight.device,
        "dtype": weight.dtype,
    }
    if isinstance(layer, nn.Linear):
        names = ["in_features", "out_features"]
    else:
        names = ["in_channels", "out_channels", "kernel_size", "stride", "padding", "dilation"]
        names += ["groups", "padding_mode"]
    return made | {name: getattr(layer, name) for name in names}


def to_variational(
    model: nn.Module, *, exclude: Collection[str] = (), threshold: float = THRESHOLD
) -> nn.Module:
    """Turn the ``Linear`` and ``Conv2d`` layers of ``model`` into variational ones, in place.

    Their weights become the means. Add :func:`penalties` to the loss while training
    (:func:`gossamer.training.fit` does), and turn it back with :func:`to_deterministic` when done.

    Args:
        model: any network.
        exclude: names of layers that are not converted.
        threshold: see :class:`VariationalLinear`.

    Returns:
        ``model``, or its replacement if ``model`` is itself such a layer.

    Raises:
        UserError: an unknown name, no layer to convert, or a weight that is computed from others.
    """
    layers = {name: m for name, m in model.named_modules() if type(m) in _NOISY}
    for name in exclude:
        if name not in layers:
            raise UserError(f"exclude: no such layer '{name}': {nearest(name, layers)}")
    chosen = {name: layer for name, layer in layers.items() if name not in exclude}
    if not chosen:
        raise UserError(f"{type(model).__name__} has no Linear or Conv2d layer to make variational")
    made: dict[str, nn.Module] = {}
    for name, layer in chosen.items():
        check_weight(name, Weight(layer))
        noisy = _NOISY[type(layer)](**_arguments(layer), threshold=threshold)
        noisy.weight, noisy.bias = layer.weight, layer.bias
        made[name] = noisy.train(layer.training)
    return replace(model, made)


def to_deterministic(model: nn.Module) -> nn.Module:
    """Turn variational layers into plain ones with exact zeros, in place.

    The network then computes the same as before in evaluation mode, and it can be exported and
    its non-zeros counted. A network without variational layers does not change.

    Returns:
        ``model``, or its replacement if ``model`` is itself such a layer.
    """
    made: dict[str, nn.Module] = {}
    for name, layer in model.named_modules():
        if type(layer) in _PLAIN:
            noisy = cast(Variational, layer)
            plain = _PLAIN[type(layer)](**_arguments(layer))
            plain.weight = nn.Parameter(noisy.hard_weight().detach().clone())
            plain.bias = cast("nn.Parameter | None", noisy.bias)
            made[name] = plain.train(layer.training)
    return replace(model, made)


def penalties(model: nn.Module) -> Tensor | None:
    """Return the sum of the penalties of all modules of ``model``; None if no module has one."""
    asked = [getattr(module, "penalty", None) for module in model.modules()]
    asked_for = [cast(Tensor, penalty()) for penalty in asked if callable(penalty)]
    return torch.stack(asked_for).sum() if asked_for else None
