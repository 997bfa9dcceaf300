"""Schedules of the learning rate and of the penalty's weight."""

from __future__ import annotations

import math

from gossamer.training.config import TrainingConfig


def learning_rate(settings: TrainingConfig, step: int, steps: int, epoch: int) -> float:
    """Return the learning rate of optimizer step ``step`` of ``steps``, without any state.

    ``one_cycle`` (Smith & Topin 2017, arXiv 1708.07120) rises from a 50th of the highest rate and
    falls to nearly zero, both along cosines.
    """
    peak = settings.learning_rate
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "step":
        return peak * settings.learning_rate_decay**epoch
    if settings.schedule == "phases":
        first = settings.penalty_warmup_start * settings.epochs
        last = settings.penalty_warmup_end * settings.epochs
        return float(
            peak
            * settings.learning_rate_decay_before ** min(epoch, first)
            * settings.learning_rate_decay_during ** min(max(epoch - first, 0.0), last - first)
            * settings.learning_rate_decay_after ** max(epoch - last, 0.0)
        )
    rise = settings.warmup * steps
    if step < rise:
        low, high, share = peak / 50.0, peak, step / rise
    else:
        low, high, share = peak, peak / 5e4, (step - rise) / max(steps - rise, 1.0)
    return high + (low - high) * (1.0 + math.cos(math.pi * share)) / 2.0


def penalty_factor(settings: TrainingConfig, share: float) -> float:
    """Return the factor of the penalty after a ``share`` (0 to 1) of the training."""
    first, last = settings.penalty_warmup_start, settings.penalty_warmup_end
    risen = (share - first) / (last - first) if last > first else float(share >= first)
    start, end = settings.penalty_start, settings.penalty_end
    return start + (end - start) * min(max(risen, 0.0), 1.0)
