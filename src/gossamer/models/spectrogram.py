"""Reordering of spectrograms so that bands come before frames."""

from __future__ import annotations

from collections import OrderedDict

from torch import Tensor, nn


class BandsFirst(nn.Module):
    """Transpose ``[batch, channels, frames, bands]`` to ``[batch, channels, bands, frames]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(2, 3)


def spectrogram(
    shape: tuple[int, int, int], frames_first: bool
) -> tuple[OrderedDict[str, nn.Module], tuple[int, int, int]]:
    """Return a network's first layers and their output's shape (channels, bands, frames)."""
    if not frames_first:
        return OrderedDict(), shape
    channels, frames, bands = shape
    return OrderedDict(turn=BandsFirst()), (channels, bands, frames)
