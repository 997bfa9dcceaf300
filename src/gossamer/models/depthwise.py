"""Networks of depthwise separable convolutions: for keyword spotting, and for images."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import nn

from gossamer.models.activation import channels, each
from gossamer.models.arguments import ImageWinners, checked

# MobileNet's thirteen blocks: outputs and stride (Howard et al. 2017, arXiv 1704.04861).
_MOBILENET = (
    *((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)),
    *((512, 1),) * 5,
    *((1024, 2), (1024, 1)),
)


def _network(
    classes: int,
    inputs: int,
    stem: tuple[int, int, int],
    blocks: Sequence[tuple[int, int]],
    activation_density: float | Sequence[float],
    winners: ImageWinners,
) -> nn.Sequential:
    """Stem (outputs, kernel, stride), blocks (outputs, stride), average, output layer."""
    densities = each(activation_density, len(blocks) + 1, "blocks and the stem")
    outputs, kernel, stride = stem
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        norm=nn.BatchNorm2d(outputs),
        act=channels(outputs, densities[0], **winners),
    )
    for index, ((wide, stride), density) in enumerate(
        zip(blocks, densities[1:], strict=True), start=1
    ):
        layers[f"block{index}"] = nn.Sequential(
            OrderedDict(
                depthwise=nn.Conv2d(
                    outputs, outputs, 3, stride, padding=1, groups=outputs, bias=False
                ),
                norm1=nn.BatchNorm2d(outputs),
                # Sparse after the pointwise convolution, which holds the work; a depthwise one
                # has a single input channel for each output.
                act1=nn.ReLU(),
                pointwise=nn.Conv2d(outputs, wide, 1, bias=False),
                norm2=nn.BatchNorm2d(wide),
                act2=channels(wide, density, **winners),
            )
        )
        outputs = wide
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(outputs, classes)
    return nn.Sequential(layers)


@checked
def ds_cnn(
    classes: int = 12,
    *,
    input_shape: tuple[int, int, int] = (1, 32, 32),
    width: int = 64,
    blocks: int = 4,
    activation_density: float | Sequence[float] = 1.0,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build DS-CNN for keyword spotting (Zhang et al. 2017, "Hello Edge", arXiv 1711.07128).

    A 5x5 convolution that halves the spectrogram, then ``blocks`` of [3x3 depthwise, pointwise]
    convolutions of the same width. The paper's small, medium and large networks have widths 64,
    172 and 276 and 4, 4 and 5 blocks.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: channels, height and width of one example.
        width: channels throughout.
        blocks: depthwise separable convolutions.
        activation_density: share of winners after the stem and after each block's pointwise
            convolution, one value or one for each; 1.0 means ReLU.
        winners: see :class:`gossamer.nn.KWinners2d`; ``local`` ones compete at each position
            instead of over the whole image.

    Raises:
        UserError: a value out of range.
    """
    stem, body = (width, 5, 2), ((width, 1),) * blocks
    return _network(classes, input_shape[0], stem, body, activation_density, winners)


@checked
def mobilenet(
    classes: int = 1000,
    *,
    input_shape: tuple[int, int, int] = (3, 224, 224),
    width: float = 1.0,
    activation_density: float | Sequence[float] = 1.0,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build MobileNet (Howard et al. 2017, arXiv 1704.04861); arguments as of :func:`ds_cnn`.

    ``width`` multiplies the channels, 32 after the stem to 1,024 at the end. The stem halves
    images of 64 pixels and more, but not smaller ones.
    """

    def wide(outputs: int) -> int:
        return max(round(outputs * width), 1)

    stem = (wide(32), 3, 2 if min(input_shape[1:]) >= 64 else 1)
    body = [(wide(outputs), stride) for outputs, stride in _MOBILENET]
    return _network(classes, input_shape[0], stem, body, activation_density, winners)
