"""BC-ResNet, broadcasted residual learning for keywords (Kim et al. 2021, arXiv 2106.04140)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.models.activation import channels, each
from gossamer.models.arguments import ImageWinners, checked
from gossamer.models.spectrogram import spectrogram

# Of each stage: blocks, channels in those of the first stage, stride over the bands.
_STAGES = ((2, 1.0, 1), (2, 1.5, 2), (4, 2.0, 2), (4, 2.5, 1))
_HALVED = 8  # bands of one row before the output: the stem and two stages halve them


class SubSpectralNorm(nn.Module):
    """Batch norm of every channel in each of ``bands`` equal bands of rows.

    ``[batch, channels, rows, frames]``; Chang et al. 2021 (arXiv 2103.13620).
    """

    def __init__(self, channels: int, bands: int) -> None:
        super().__init__()
        self.bands = bands
        self.norm = nn.BatchNorm2d(channels * bands)

    def forward(self, x: Tensor) -> Tensor:
        _, count, rows, frames = x.shape
        split = x.reshape(-1, count * self.bands, rows // self.bands, frames)
        y: Tensor = self.norm(split)
        return y.reshape(-1, count, rows, frames)


class BroadcastedResidual(nn.Module):
    """A convolution over bands, plus a convolution over time of its mean over bands.

    Maps ``[batch, inputs, rows, frames]`` to ``[batch, outputs, rows / stride, frames]``. The
    input is added if it has as many channels.
    """

    def __init__(
        self,
        inputs: int,
        outputs: int,
        stride: int,
        dilation: int,
        bands: int,
        density: float,
        dropout: float,
        winners: ImageWinners,
    ) -> None:
        super().__init__()
        self.same = inputs == outputs
        self.transition = nn.Sequential()
        if not self.same:
            self.transition = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU()
            )
        self.over_bands = nn.Sequential(
            nn.Conv2d(outputs, outputs, (3, 1), (stride, 1), (1, 0), groups=outputs, bias=False),
            SubSpectralNorm(outputs, bands),
        )
        self.over_time = nn.Sequential(
            nn.Conv2d(
                outputs,
                outputs,
                (1, 3),
                padding=(0, dilation),
                dilation=(1, dilation),
                groups=outputs,
                bias=False,
            ),
            nn.BatchNorm2d(outputs),
            nn.SiLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False),
            nn.Dropout2d(dropout),
        )
        self.act = channels(outputs, density, **winners)

    def forward(self, x: Tensor) -> Tensor:
        bands = self.over_bands(self.transition(x))
        y = bands + self.over_time(bands.mean(dim=2, keepdim=True))
        out: Tensor = self.act(y + x if self.same else y)
        return out


@checked
def bc_resnet(
    classes: int = 12,
    *,
    input_shape: tuple[int, int, int] = (1, 40, 98),
    width: float = 1.0,
    frames_first: bool = False,
    activation_density: float | Sequence[float] = 1.0,
    dropout: float = 0.1,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build BC-ResNet of a width: 1, 1.5, 2, 3, 6 and 8 in the paper, 0.625 in SparkNet's.

    Trainable parameters with 12 classes: 4,585 (0.625), 9,232 (1) and 321,068 (8), published
    as 4,585, 9,232 and 321 thousand.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: channels, bands (a multiple of 8) and frames of one example.
        width: multiplies the channels, 16 after the stem, 8 to 20 in the stages, 32 at the end.
        frames_first: whether examples are channels, frames and bands instead.
        activation_density: share of winners after each block, one value or one for each of the
            four stages (the stem has the first one's, the head the last one's); 1.0 means ReLU.
        dropout: of whole channels, in each block.
        winners: see :class:`gossamer.nn.KWinners2d`; ``local`` ones compete at each position
            instead of over the whole clip.

    Raises:
        UserError: a value out of range, or a number of bands that does not divide by 8.
    """
    densities = each(activation_density, len(_STAGES), "stages")
    model, (depth, bands, _) = spectrogram(input_shape, frames_first)
    if bands % _HALVED:
        raise UserError(
            f"input_shape {input_shape}: {bands} bands are no multiple of {_HALVED}; "
            "use 40 as published, or frames_first where the bands come last"
        )
    base = max(int(8 * width), 1)
    # The number of sub-bands is that of the last layer's rows: 5 for the published 40 bands.
    rows = bands // _HALVED
    inputs = 2 * base
    model["conv"] = nn.Conv2d(depth, inputs, 5, (2, 1), 2, bias=False)
    model["norm"] = nn.BatchNorm2d(inputs)
    model["act"] = channels(inputs, densities[0], **winners)
    for stage, ((blocks, times, stride), density) in enumerate(
        zip(_STAGES, densities, strict=True)
    ):
        members = []
        outputs = int(times * base)
        for block in range(blocks):
            members.append(
                BroadcastedResidual(
                    inputs,
                    outputs,
                    1 if block else stride,
                    2**stage,
                    rows,
                    density,
                    dropout,
                    winners,
                )
            )
            inputs = outputs
        model[f"stage{stage + 1}"] = nn.Sequential(*members)
    model["depthwise"] = nn.Conv2d(
        inputs, inputs, (rows, 5), padding=(0, 2), groups=inputs, bias=False
    )
    model["pointwise"] = nn.Conv2d(inputs, 4 * base, 1, bias=False)
    model["norm_head"] = nn.BatchNorm2d(4 * base)
    model["act_head"] = channels(4 * base, densities[-1], **winners)
    model["average"] = nn.AdaptiveAvgPool2d(1)
    model["flatten"] = nn.Flatten()
    model["output"] = nn.Linear(4 * base, classes)
    return nn.Sequential(model)
