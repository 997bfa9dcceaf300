"""Layers with 8-bit weights and activations.

Weights are symmetric with a step for each output, so that zero stays zero and masks survive;
activations have one step for a layer, unsigned where none is negative (behind ReLU and, mostly,
k-winners). In training, the gradient passes through rounding unchanged, except for clipped values
(the straight-through estimator: Bengio et al. 2013, arXiv 1308.3432; for whole networks Jacob
et al. 2018, arXiv 1712.05877). On export, layers become ONNX's QuantizeLinear and
DequantizeLinear around the plain operator, with bit-identical results.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Collection, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.linear import NonDynamicallyQuantizableLinear

from gossamer.errors import UserError
from gossamer.nn.module_tools import Float32Buffers, exporting
from gossamer.runtime.operators.int8 import LARGEST
from gossamer.sparsity.layers import PLAIN_LAYERS, choose_weights, unwrap
from gossamer.sparsity.modes import evaluating

# Share of a training batch's range in the running range.
_NEW = 0.05
# Shares of the largest value among which calibration chooses where to cut off.
_CUTS = [1.0 - 0.05 * i for i in range(15)]


class _Round(torch.autograd.Function):
    """Round to the nearest multiple of ``step`` (ties to even) between two codes."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
        codes = torch.round(x / step)
        ctx.save_for_backward((codes >= low) & (codes <= high))
        return codes.clamp(low, high) * step

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None, None]:
        (inside,) = ctx.saved_tensors
        return grads[0] * inside, None, None, None


def _rounded(x: Tensor, step: Tensor, low: Tensor, high: Tensor) -> Tensor:
    return cast(Tensor, _Round.apply(x, step, low, high))  # type: ignore[no-untyped-call]


def _by_output(steps: Tensor, weight: Tensor) -> Tensor:
    """Reshape ``[outputs]`` to multiply a weight ``[outputs, ...]``."""
    return steps.view(-1, *[1] * (weight.dim() - 1))


class Quantized(Float32Buffers):
    """Base class of the 8-bit layers: the range of their inputs, and rounding.

    ``low`` and ``high`` are that range: a running average over training batches, or fitted to
    data by :func:`quantize`. They are buffers, saved with the network.
    """

    weight: nn.Parameter
    low: Tensor
    high: Tensor
    rounding = True

    @abstractmethod
    def _apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        """Apply the layer's linear map to ``x`` with the given weight."""

    def _begin(self) -> None:
        """Initialize the state of an 8-bit layer after a plain layer's class was changed."""
        device = self.weight.device
        self.register_buffer("low", torch.tensor(torch.inf, device=device))
        self.register_buffer("high", torch.tensor(-torch.inf, device=device))

    def weight_step(self) -> Tensor:
        """Return the weights' steps ``[outputs]``."""
        largest = self.weight.detach().abs().flatten(1).amax(dim=1).float()
        return torch.where(largest > 0, largest / LARGEST, 1.0)

    def weight_codes(self) -> Tensor:
        """Return the weights' codes as int8, in the weights' shape."""
        step = _by_output(self.weight_step(), self.weight)
        return torch.round(self.weight.detach() / step).to(torch.int8)

    def input_grid(self) -> tuple[Tensor, Tensor, Tensor]:
        """Return the inputs' step, and their smallest and largest code (0, 255 or -128, 127)."""
        unsigned = self.low >= 0
        step = torch.where(unsigned, self.high / 255, torch.maximum(self.high, -self.low) / LARGEST)
        return (
            torch.where(step > 0, step, 1.0),
            torch.where(unsigned, 0.0, -128.0),
            torch.where(unsigned, 255.0, 127.0),
        )

    @property
    def calibrated(self) -> bool:
        """Whether the range of the inputs is known."""
        return bool(self.low <= self.high)

    def require_range(self) -> None:
        """Raise `UserError` if the range of the inputs is not known yet."""
        if not self.calibrated:
            raise UserError(
                "an 8-bit layer has seen no data yet: train the network, or give quantize() a "
                "batch of inputs"
            )

    @torch.no_grad()
    def _observe(self, x: Tensor) -> None:
        if not x.numel():
            return
        low, high = (edge.float() for edge in x.detach().aminmax())
        first = self.low > self.high
        self.low.copy_(torch.where(first, low, torch.lerp(self.low, low, _NEW)))
        self.high.copy_(torch.where(first, high, torch.lerp(self.high, high, _NEW)))

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the inputs' range to the one with the least squared error of rounding ``x``."""
        low, high = (edge.float() for edge in x.detach().aminmax())
        if not bool(torch.isfinite(low) & torch.isfinite(high)):
            raise UserError("its inputs hold NaN or infinity; 8 bits need finite ones")

        def loss(share: float) -> float:
            self.low.copy_(low * share)
            self.high.copy_(high * share)
            return float((_rounded(x, *self.input_grid()) - x).square().mean())

        loss(min(_CUTS, key=loss))

    def forward(self, x: Tensor) -> Tensor:
        if not self.rounding:
            return self._apply_weight(x, self.weight)
        if exporting(self):
            x = torch.ops.gossamer.round_to_8_bits(x, self.input_step, self.input_zero)
            weight = torch.ops.gossamer.from_8_bits(self.weight_int8, self.weight_int8_step)
            return self._apply_weight(x, weight)
        if self.training:
            self._observe(x)
        else:
            self.require_range()
        step = _by_output(self.weight_step(), self.weight)
        bound = torch.full((), float(LARGEST), device=step.device)
        weight = _rounded(self.weight, step.to(self.weight.dtype), -bound, bound)
        return self._apply_weight(_rounded(x, *self.input_grid()), weight)


class QuantizedLinear(Quantized, nn.Linear):  # type: ignore[misc]
    """An ``nn.Linear`` with 8-bit weights and inputs."""

    def _apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return functional.linear(x, weight, self.bias)


class _QuantizedConv(Quantized):
    _conv_forward: Callable[[Tensor, Tensor, Tensor | None], Tensor]
    bias: Tensor | None

    def _apply_weight(self, x: Tensor, weight: Tensor) -> Tensor:
        return self._conv_forward(x, weight, self.bias)


class QuantizedConv1d(_QuantizedConv, nn.Conv1d):  # type: ignore[misc]
    """An ``nn.Conv1d`` with 8-bit weights and inputs."""


class QuantizedConv2d(_QuantizedConv, nn.Conv2d):  # type: ignore[misc]
    """An ``nn.Conv2d`` with 8-bit weights and inputs."""


_QUANTIZED: dict[type[nn.Module], type[Quantized]] = {
    nn.Linear: QuantizedLinear,
    nn.Conv1d: QuantizedConv1d,
    nn.Conv2d: QuantizedConv2d,
}


def quantized_layers(model: nn.Module) -> dict[str, Quantized]:
    """Return the 8-bit layers of ``model`` by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, Quantized)}


def quantize(
    model: nn.Module, x: Any = None, *, exclude: Collection[str] = (), include: Collection[str] = ()
) -> nn.Module:
    """Change ``Linear``, ``Conv1d`` and ``Conv2d`` layers to 8-bit weights and inputs, in place.

    Names, parameters, masks and hooks do not change; a sparsifier or optimizer may be made before
    or after. Without ``x`` the inputs' ranges are learned in training. With ``x`` they are fitted
    now, layer by layer, each to its inputs from the 8-bit layers before. ``nn.MultiheadAttention``
    stays in 32 bits.

    Args:
        model: any network with such layers.
        x: a batch of inputs to calibrate on, some hundred representative examples.
        exclude: layers that stay in 32 bits: names, patterns with ``*``, or rules
            (``first``, ``last``, ``depthwise``).
        include: layers to change that stay in 32 bits by default: embeddings.

    Returns:
        ``model``.

    Raises:
        UserError: an unknown name, a layer whose weight is computed from others, no layer at
            all, or inputs that are not finite or all zero.
    """
    inner = unwrap(model)
    if not any(isinstance(module, PLAIN_LAYERS) for module in inner.modules()):
        raise UserError(
            f"{type(inner).__name__} has no Linear, Conv1d or Conv2d layer: there is nothing to "
            "give 8 bits"
        )
    include = ["depthwise", "frozen", *include]
    chosen = choose_weights(inner, exclude=exclude, include=include, kinds=PLAIN_LAYERS)
    for name, weight in chosen.items():
        layer, kind = weight.module, type(weight.module)
        if kind in _QUANTIZED:
            layer.__class__ = _QUANTIZED[kind]
            cast(Quantized, layer)._begin()
        elif kind is NonDynamicallyQuantizableLinear:
            continue  # attention reads its weight and does not call it
        elif not isinstance(layer, Quantized):
            raise UserError(
                f"layer '{name}' is a {kind.__name__}: 8 bits are for plain Linear, Conv1d and "
                "Conv2d; call to_deterministic() on a variational network first, end sparse "
                "acceleration, or exclude it"
            )
    if x is not None:
        _calibrate(inner, x)
    return model


def _check_calibration(x: Any) -> None:
    """Raise `UserError` for inputs that show no range."""
    if not isinstance(x, Tensor):
        return
    if not x.numel():
        raise UserError("calibration: the batch is empty; give some hundred examples")
    if not bool(torch.isfinite(x).all()):
        raise UserError("calibration: the inputs hold NaN or infinity; give finite ones")
    if not bool(x.any()):
        raise UserError("calibration: the inputs are all zero and show no range; give typical ones")


def _calibrate(model: nn.Module, x: Any) -> None:
    for part in x if isinstance(x, tuple) else (x,):
        _check_calibration(part)
    layers = quantized_layers(model)
    seen: dict[str, tuple[Tensor, Tensor]] = {}

    def fit(name: str, layer: Quantized, inputs: tuple[Tensor, ...]) -> None:
        earlier = seen.get(name)
        try:
            layer.fit(inputs[0])
        except UserError as error:
            raise UserError(f"calibration: layer '{name}': {error}") from None
        if earlier is not None:  # used more than once: one range for all
            layer.low.copy_(torch.minimum(layer.low, earlier[0]))
            layer.high.copy_(torch.maximum(layer.high, earlier[1]))
        seen[name] = (layer.low.clone(), layer.high.clone())

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(partial(fit, name)))
        model(*(x if isinstance(x, tuple) else (x,)))
    missing = [name for name in layers if name not in seen]
    if missing:
        raise UserError(f"calibration: '{missing[0]}' was not reached by these inputs; exclude it")


@contextmanager
def unrounded(model: nn.Module, names: Collection[str] | None = None) -> Iterator[None]:
    """Make 8-bit layers compute in 32 bits, like plain layers, within a ``with`` block.

    Of ``names``, or all.
    """
    layers = [m for name, m in quantized_layers(model).items() if names is None or name in names]
    before = [layer.rounding for layer in layers]
    try:
        for layer in layers:
            layer.rounding = False
        yield
    finally:
        for layer, rounding in zip(layers, before, strict=True):
            layer.rounding = rounding


@contextmanager
def exportable(model: nn.Module) -> Iterator[None]:
    """Store the codes and steps for an exported file in 8-bit layers, within a ``with`` block."""
    names = ("weight_int8", "weight_int8_step", "input_step", "input_zero")
    layers = list(quantized_layers(model).values())
    for layer in layers:
        layer.require_range()
        step, low, _ = layer.input_grid()
        zero = torch.zeros((), dtype=torch.int8 if low < 0 else torch.uint8, device=step.device)
        values = (layer.weight_codes(), layer.weight_step(), step, zero)
        for name, value in zip(names, values, strict=True):
            layer.register_buffer(name, value, persistent=False)
    try:
        yield
    finally:
        for layer in layers:
            for name in names:
                delattr(layer, name)


@torch.library.custom_op("gossamer::round_to_8_bits", mutates_args=())
def _round_to_8_bits(x: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    """Apply QuantizeLinear, then DequantizeLinear; codes have the type of ``zero``."""
    limits = torch.iinfo(zero.dtype)
    return torch.round(x / step).clamp(limits.min, limits.max) * step


@_round_to_8_bits.register_fake
def _(x: Tensor, step: Tensor, zero: Tensor) -> Tensor:
    return torch.empty_like(x)


@torch.library.custom_op("gossamer::from_8_bits", mutates_args=())
def _from_8_bits(codes: Tensor, steps: Tensor) -> Tensor:
    """Apply DequantizeLinear along the first dimension."""
    return codes.to(torch.float32) * _by_output(steps, codes)


@_from_8_bits.register_fake
def _(codes: Tensor, steps: Tensor) -> Tensor:
    return torch.empty_like(codes, dtype=torch.float32)
