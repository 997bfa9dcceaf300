"""k-winners: only the k most active units of a layer pass on their value.

Algorithm: Ahmad & Scheinkman, "How Can We Be So Dense? The Benefits of Using Highly
Sparse Representations", arXiv 1903.11257, 2019.
"""

from __future__ import annotations

import math
from collections import deque

import torch
from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.nn.module_tools import Float32Buffers, exporting
from gossamer.nn.winners import pick, pickable
from gossamer.numbers import positive_share, real, share, whole
from gossamer.sparsity.topk import top_k

#: Forward passes whose boosts are remembered until their backward passes.
REMEMBERED = 64


def winner_mask(x: Tensor, k: int) -> Tensor:
    """Mark the ``k`` largest entries along the last dimension; ties go to the lowest index.

    Args:
        x: ``[..., n]``.
        k: number of winners, an integer of at least 0.

    Returns:
        Boolean ``[..., n]`` with exactly ``min(k, n)`` entries true along the last
        dimension. NaN counts as infinity.
    """
    return top_k(x, whole(k, 0, "winner_mask: k"))


def _sample_mask(x: Tensor, k: int, whole_sample: bool) -> Tensor:
    """Mark the winners of ``[batch, units, ...]`` in each whole sample, or along dimension 1."""
    if whole_sample:
        return winner_mask(x.flatten(1), k).view(x.shape)
    return winner_mask(x.movedim(1, -1), k).movedim(-1, 1)


class _KWinnersBase(Float32Buffers):
    """Base class: boosting and duty cycles."""

    duty_cycle: Tensor
    boost_strength: Tensor
    samples_seen: Tensor

    def __init__(
        self,
        units: int,
        density: float,
        *,
        boost_strength: float = 1.0,
        boost_decay: float = 0.9,
        inference_factor: float = 1.0,
        duty_cycle_period: int = 1000,
        relu: bool = False,
    ) -> None:
        super().__init__()
        name = type(self).__name__
        if not 0.0 <= real(boost_strength) < math.inf:
            raise UserError(
                f"{name}: boost_strength must be finite and at least 0, not {boost_strength!r}"
            )
        if not 0.0 < real(inference_factor) < math.inf:
            raise UserError(
                f"{name}: inference_factor must be finite and above 0, not {inference_factor!r}"
            )
        self.units = units = whole(units, 1, f"{name}: the number of units", 2**31 - 1)
        meaning = "; it is the share of units that stay active"
        self.density = positive_share(density, f"{name}: density", meaning)
        self.boost_decay = share(boost_decay, f"{name}: boost_decay")
        self.inference_factor = real(inference_factor)
        self.duty_cycle_period = whole(
            duty_cycle_period, 1, f"{name}: duty_cycle_period (in samples)"
        )
        self.relu = relu
        # Buffers, not numbers: saved with the model, and changing them needs no recompilation.
        self.register_buffer("duty_cycle", torch.zeros(units, dtype=torch.float32))
        strength = torch.tensor(float(boost_strength), dtype=torch.float32)
        self.register_buffer("boost_strength", strength)
        self.register_buffer("samples_seen", torch.tensor(0, dtype=torch.int64))
        # Of each forward pass in training: a few of its inputs, and the boost.
        self._remembered: deque[tuple[Tensor, Tensor]] = deque(maxlen=REMEMBERED)

    def winners(self, n: int) -> int:
        """Return k for ``n`` competing units in the current mode (training or inference)."""
        density = self.density if self.training else self.density * self.inference_factor
        return min(max(round(n * density), 1), n)

    def boost(self, n: int) -> Tensor:
        """Return ``exp(boost_strength * (k / n - duty_cycle))``, the boost factors ``[units]``."""
        return torch.exp(self.boost_strength * (self.winners(n) / n - self.duty_cycle))

    def _boost_for(self, x: Tensor, n: int) -> tuple[Tensor, bool]:
        """Return the boost for the input, and whether duty cycles are to be updated.

        Activation checkpointing (``torch.utils.checkpoint``) computes the layer again during the
        backward pass. The duty cycle has moved by then; the winners must be those of the first
        time, or gradients would be those of another network.

        Raises:
            UserError: a forward pass during a backward pass that repeats none before it.
        """
        if not self.training or torch.compiler.is_compiling() or not x.numel():
            return self.boost(n), self.training
        some = tuple(slice(None, None, max(size // 4, 1)) for size in x.shape)
        few = x.detach()[some].nan_to_num()  # flattened, an input with channels last is copied
        if torch._C._current_graph_task_id() == -1:  # no backward pass is running
            boost = self.boost(n)
            if torch._C._functorch.maybe_current_level() is None:
                self._remembered.append((few, boost))
            return boost, True
        for seen, boost in reversed(self._remembered):
            if (seen.device, seen.dtype) == (few.device, few.dtype) and torch.equal(seen, few):
                return boost, False
        raise UserError(
            f"{type(self).__name__}: activation checkpointing repeats a forward pass that is none "
            f"of the last {REMEMBERED}, so its winners are not known; leave this layer out of the "
            "checkpointed part"
        )

    @torch.no_grad()
    def _update_duty_cycle(self, x: Tensor, y: Tensor, active: Tensor | None) -> None:
        """Update how often each unit wins; samples with NaN do not count.

        Args:
            x, y: the layer's input and output as ``[samples, units, positions]``.
            active: how often each unit won with a positive value, summed over the batch and
                averaged over positions; None to count it here.
        """
        if active is not None:
            batch = torch.tensor(len(x))
        else:
            clean = ~x.isnan().flatten(1).any(dim=1)
            batch = clean.sum()
            won = (y > 0) & clean.view(-1, 1, 1)
            active = won.to(torch.float32).sum(dim=(0, 2)) / max(x.shape[2], 1)
        self.samples_seen += batch
        # A batch larger than the period replaces the average instead of over-correcting it.
        period = self.samples_seen.clamp(max=self.duty_cycle_period).maximum(batch).clamp(min=1)
        self.duty_cycle.copy_((self.duty_cycle * (period - batch) + active) / period)

    def extra_repr(self) -> str:
        return (
            f"{self.units}, density={self.density}, boost_decay={self.boost_decay}, "
            f"inference_factor={self.inference_factor}"
        )


class KWinners(_KWinnersBase):
    """Pass on the k largest of n units; set all others to zero.

    Winners are the largest *boosted* values ``x * exp(boost_strength * (k/n - duty_cycle))``, but
    their unboosted values are passed on. Only winners have a gradient. Boosting raises units that
    seldom win, so that all take part.

    Input and output: ``[batch, ..., units]``; the units of the last dimension compete.

    Args:
        units: n, the size of the last dimension.
        density: share of units that win, ``k = round(n * density)``, at least one unit.
        boost_strength: strength of boosting; 0 switches it off.
        boost_decay: factor on ``boost_strength`` at each :func:`decay_boost` (once an epoch).
        inference_factor: factor on k in evaluation mode (1.0 to 1.5 in the paper).
        duty_cycle_period: number of samples over which the duty cycle is averaged.
        relu: whether negative winners become zero as well.

    Raises:
        UserError: a value outside its range, or an input whose last dimension is not ``units``.
    """

    def forward(self, x: Tensor) -> Tensor:
        if x.shape[-1:] != (self.units,):
            raise UserError(
                f"KWinners: made for {self.units} units, but the input's last dimension is "
                f"{x.shape[-1] if x.dim() else 'missing'} (input shape {tuple(x.shape)})"
            )
        k = self.winners(self.units)
        if exporting(self) and k < self.units:
            # The exported function lets a whole sample compete: each row becomes one.
            rows = x if x.dim() == 2 else x.reshape(-1, self.units)
            y = torch.ops.gossamer.k_winners(rows, self.boost(self.units), k, True)
            y = y if x.dim() == 2 else y.reshape(x.shape)
            return torch.relu(y) if self.relu else y
        active = None
        boost, update = self._boost_for(x, self.units)
        if pickable(x, k, self.units):
            y, active = pick(x, boost, k)
        else:
            y = x.masked_fill(~winner_mask((x * boost).detach(), k), 0.0)
        if self.relu:
            y = torch.relu(y)
        if update:
            shape = (-1, self.units, 1)
            self._update_duty_cycle(x.reshape(shape), y.reshape(shape), active)
        return y


class KWinners2d(_KWinnersBase):
    """k-winners for images ``[batch, channels, height, width]`` (or ``[batch, channels, length]``).

    By default all ``channels * height * width`` units of a sample compete; with ``local``, the
    channels of each position. Duty cycles are those of channels, averaged over positions. The
    other arguments are those of :class:`KWinners`, with ``channels`` in place of ``units``.

    Raises:
        UserError: a value outside its range, or an input with another number of channels.
    """

    def __init__(
        self,
        channels: int,
        density: float,
        *,
        local: bool = False,
        boost_strength: float = 1.0,
        boost_decay: float = 0.9,
        inference_factor: float = 1.0,
        duty_cycle_period: int = 1000,
        relu: bool = False,
    ) -> None:
        super().__init__(
            channels,
            density,
            boost_strength=boost_strength,
            boost_decay=boost_decay,
            inference_factor=inference_factor,
            duty_cycle_period=duty_cycle_period,
            relu=relu,
        )
        self.local = local

    def forward(self, x: Tensor) -> Tensor:
        if x.dim() < 3 or x.shape[1] != self.units:
            raise UserError(
                f"KWinners2d: made for input [batch, {self.units}, ...positions], "
                f"but the input has shape {tuple(x.shape)}"
            )
        positions = math.prod(x.shape[2:])
        if not positions:
            raise UserError(f"KWinners2d: the input has shape {tuple(x.shape)}, no position")
        n = self.units if self.local else self.units * positions
        k = self.winners(n)
        shape = (-1, *(1,) * (x.dim() - 2))
        if exporting(self) and k < n:
            boost = self.boost(n).reshape(shape)
            y = torch.ops.gossamer.k_winners(x, boost, k, not self.local)
            return torch.relu(y) if self.relu else y
        boost, update = self._boost_for(x, n)
        picked = self._pick(x, boost, n, k)
        y, active = picked or (self._select(x, boost.reshape(shape), k), None)
        if self.relu:
            y = torch.relu(y)
        if update:
            self._update_duty_cycle(x.flatten(2), y.flatten(2), active)
        return y

    def _pick(
        self, x: Tensor, boost: Tensor, n: int, k: int
    ) -> tuple[Tensor, Tensor | None] | None:
        """Compute winners by the kernel, and how often each channel won; None if it cannot."""
        if not pickable(x, k, n):
            return None
        positions = math.prod(x.shape[2:])
        first = x.is_contiguous()  # channels outermost in memory
        if self.local and first and positions > 1:
            # Rows must lie one after the other: two copies cost less than torch's selection.
            y, active = pick(x.flatten(2).transpose(1, 2).contiguous(), boost, k)
            y = y.transpose(1, 2).contiguous().view(x.shape)
        elif self.local:
            y, active = pick(x, boost, k)
        elif first:
            y, active = pick(x, boost.repeat_interleave(positions), k)
            active = None if active is None else active.view(self.units, -1).sum(dim=1)
        else:
            y, active = pick(x, boost.repeat(positions), k, self.units)
        return y, None if active is None else active.view(-1, self.units).sum(dim=0) / positions

    def _select(self, x: Tensor, boost: Tensor, k: int) -> Tensor:
        mask = _sample_mask((x * boost).detach(), k, not self.local)
        if x.dim() == 4 and x.is_contiguous(memory_format=torch.channels_last):
            # Flattening made the mask row-major; what follows is faster in the input's order.
            mask = mask.contiguous(memory_format=torch.channels_last)
        # Unlike masked_fill, keeps the input's order.
        return torch.where(mask, x, 0.0)

    def extra_repr(self) -> str:
        return super().extra_repr() + (", local=True" if self.local else "")


@torch.library.custom_op("gossamer::k_winners", mutates_args=())
def _k_winners(x: Tensor, boost: Tensor, k: int, whole_sample: bool) -> Tensor:
    """The k-winners of an exported layer, as one operator that exporters can map.

    ``whole_sample``: all units of a sample compete; otherwise those along dimension 1.
    """
    return x.masked_fill(~_sample_mask(x * boost, k, whole_sample), 0.0)


@_k_winners.register_fake
def _(x: Tensor, boost: Tensor, k: int, whole_sample: bool) -> Tensor:
    return torch.empty_like(x)


def decay_boost(model: nn.Module) -> None:
    """Multiply the boost strength of every k-winners layer by its decay; call once an epoch."""
    for module in model.modules():
        if isinstance(module, _KWinnersBase):
            module.boost_strength.mul_(module.boost_decay)
