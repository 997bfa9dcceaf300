"""Statistical top-k: a threshold that a chosen share of the units passes on average."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial

import torch
from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.nn.module_tools import exporting
from gossamer.numbers import positive_share
from gossamer.sparsity.modes import evaluating

# Turns any difference that single precision can show at ordinary sizes into one above 1.
_STEEP = 1e38


class Threshold(nn.Module):
    """Pass ``x`` where it is above a threshold, and zero elsewhere. NaN passes.

    This replaces k-winners without sorting: :func:`calibrate` fits the threshold to data so that
    the *mean* share of active units is ``density``; single examples may have more or fewer.
    Exported, it is six standard operators of one pass each.

    Args:
        density: mean share of units that pass, above 0 and at most 1.

    Raises:
        UserError: a density out of range.
    """

    threshold: Tensor

    def __init__(self, density: float) -> None:
        super().__init__()
        self.density = positive_share(density, "Threshold: density")
        # Until it is calibrated it is a ReLU.
        self.register_buffer("threshold", torch.tensor(0.0))

    def forward(self, x: Tensor) -> Tensor:
        if exporting(self):
            # No comparison and no product with x: runtimes know these, and infinities stay.
            above = x - self.threshold
            passes = (above * _STEEP).clamp(0.0, 1.0)
            return torch.relu(above) + self.threshold * passes
        return x.masked_fill(x <= self.threshold, 0.0)

    @torch.no_grad()
    def fit(self, x: Tensor) -> None:
        """Set the threshold so that a share ``density`` of the entries of ``x`` is above it.

        It is midway between two entries, so that other rounding cannot move one across.
        """
        values = x.detach().float().flatten()
        if not values.numel():
            raise UserError("calibrate: the batch is empty; give some hundred examples")
        if not values.isfinite().all():
            raise UserError("calibrate: the inputs of a threshold layer hold NaN or infinity")
        passing = round(self.density * values.numel())
        if passing == 0:
            self.threshold.fill_(float(values.max()))
        elif passing >= values.numel():
            # Lower than the lowest, but finite: it goes into the exported file.
            self.threshold.fill_(float(values.min()) - 1.0)
        else:
            below = values.numel() - passing
            loser, winner = (values.kthvalue(k).values for k in (below, below + 1))
            # Of two neighbors in single precision the lower one is its own middle.
            self.threshold.copy_(torch.minimum((loser + winner) / 2, winner.nextafter(loser)))

    def extra_repr(self) -> str:
        return f"density={self.density}, threshold={float(self.threshold):.4g}"


def calibrate(model: nn.Module, x: Tensor) -> dict[str, float]:
    """Fit every :class:`Threshold` of ``model`` to the examples ``x``.

    This is one pass in evaluation mode: each layer is fitted to its inputs after the layers before
    it have been fitted.

    Args:
        model: any network with threshold layers.
        x: a batch of inputs, a few hundred representative examples.

    Returns:
        The measured share of active units on ``x``, by layer name. It is lower than ``density``
        only if fewer units are above zero.

    Raises:
        UserError: no threshold layer, or one that is used more than once.
    """
    layers = {name: m for name, m in model.named_modules() if isinstance(m, Threshold)}
    if not layers:
        raise UserError(
            f"{type(model).__name__} has no threshold layers to calibrate; make them with "
            "sparsify_activations(model, density, threshold=True)"
        )
    measured: dict[str, float] = {}

    def fit(name: str, layer: Threshold, inputs: tuple[Tensor, ...]) -> None:
        if name in measured:
            raise UserError(f"'{name}' is used more than once: give each place a layer of its own")
        measured[name] = 0.0
        layer.fit(inputs[0])

    def measure(name: str, layer: Threshold, inputs: tuple[Tensor, ...], y: Tensor) -> None:
        measured[name] = float(torch.count_nonzero(y)) / y.numel()

    with ExitStack() as hooks, evaluating(model), torch.no_grad():
        for name, layer in layers.items():
            hooks.enter_context(layer.register_forward_pre_hook(partial(fit, name)))
            hooks.enter_context(layer.register_forward_hook(partial(measure, name)))
        model(x)
    return measured
