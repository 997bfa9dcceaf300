"""A network that hears loudness, and sounds for it."""

import numpy as np
import torch
from torch import nn

from gossamer.data.audio import RATE

CLASSES = ["loud", "silence"]


class Loudness(nn.Module):
    """Logits of "loud" and "silence": the mean level over the window."""

    def forward(self, x):
        level = x.mean(dim=(2, 3))
        return torch.cat([level, -level], dim=1)


def bursts(*seconds, length=10):
    """Silence with a second of noise from each of the given seconds on."""
    sound = np.zeros(length * RATE, np.float32)
    rng = np.random.default_rng(0)
    for second in seconds:
        start = int(second * RATE)
        sound[start : start + RATE] = 0.3 * rng.standard_normal(RATE)
    return sound.clip(-1, 1)
