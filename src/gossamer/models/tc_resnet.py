"""TC-ResNet, temporal convolutions for keyword spotting (Choi et al. 2019, arXiv 1904.03814)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.models.activation import channels, each
from gossamer.models.arguments import ImageWinners, checked
from gossamer.models.spectrogram import spectrogram

_STEM, _STAGES = 16, (24, 32, 48)
_KERNEL = 9
# Layers, the stem and the output among them -> blocks of a stage.
_BLOCKS = {8: 1, 14: 2}


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv1d:
    return nn.Conv1d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class TemporalResidual(nn.Module):
    """Two convolutions over time and a shortcut: ``[batch, inputs, frames]`` to outputs."""

    def __init__(
        self, inputs: int, outputs: int, stride: int, density: float, winners: ImageWinners
    ) -> None:
        super().__init__()
        self.body = nn.Sequential(
            OrderedDict(
                conv1=_conv(inputs, outputs, _KERNEL, stride),
                norm1=nn.BatchNorm1d(outputs),
                act1=channels(outputs, density, **winners),
                conv2=_conv(outputs, outputs, _KERNEL),
                norm2=nn.BatchNorm1d(outputs),
            )
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=_conv(inputs, outputs, 1, stride),
                    norm=nn.BatchNorm1d(outputs),
                    act=nn.ReLU(),
                )
            )
        self.act = channels(outputs, density, **winners)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


@checked
def tc_resnet(
    classes: int = 12,
    *,
    input_shape: tuple[int, int, int] = (1, 40, 98),
    layers: int = 8,
    width: float = 1.0,
    frames_first: bool = False,
    activation_density: float | Sequence[float] = 1.0,
    dropout: float = 0.0,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build TC-ResNet8 or TC-ResNet14: bands are channels, convolutions go over time only.

    Trainable parameters and running statistics on 40 bands with 12 classes: 65,836 (8 layers),
    145,260 (8, width 1.5), 136,940 (14) and 304,620 (14, width 1.5); published as 66, 145, 137 and
    305 thousand.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: channels, bands and frames of one example.
        layers: 8 or 14.
        width: multiplies the channels, 16 after the stem to 48 at the end.
        frames_first: whether examples are channels, frames and bands instead.
        activation_density: share of winners, one value or one for each of the three stages (the
            stem has the first one's); 1.0 means ReLU.
        dropout: before the output layer; 0.5 in the paper.
        winners: see :class:`gossamer.nn.KWinners2d`; ``local`` ones compete at each frame
            instead of over the whole clip.

    Raises:
        UserError: a value out of range.
    """
    if layers not in _BLOCKS:
        raise UserError(f"layers must be 8 or 14, not {layers}")
    densities = each(activation_density, len(_STAGES), "stages")

    def wide(outputs: int) -> int:
        return max(round(outputs * width), 1)

    model, (depth, bands, _) = spectrogram(input_shape, frames_first)
    inputs = wide(_STEM)
    model["bands"] = nn.Flatten(1, 2)
    model["conv"] = _conv(depth * bands, inputs, 3)
    model["norm"] = nn.BatchNorm1d(inputs)
    model["act"] = channels(inputs, densities[0], **winners)
    for stage, (outputs, density) in enumerate(zip(_STAGES, densities, strict=True), start=1):
        members = []
        for block in range(_BLOCKS[layers]):
            stride = 1 if block else 2
            members.append(TemporalResidual(inputs, wide(outputs), stride, density, winners))
            inputs = wide(outputs)
        model[f"stage{stage}"] = nn.Sequential(*members)
    model["average"] = nn.AdaptiveAvgPool1d(1)
    model["flatten"] = nn.Flatten()
    if dropout:
        model["dropout"] = nn.Dropout(dropout)
    model["output"] = nn.Linear(inputs, classes)
    return nn.Sequential(model)
