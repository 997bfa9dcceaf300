"""Residual networks (He et al. 2016, arXiv 1512.03385), with either stem and k-winners."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from gossamer.errors import UserError, nearest
from gossamer.models.activation import channels, each
from gossamer.models.arguments import ImageWinners, checked

# Kernel and stride of the first convolution, and whether max-pool follows.
STEMS = {"cifar": (3, 1, False), "imagenet": (7, 2, True)}
# Smallest image side for which the stem of "auto" halves twice.
_LARGE = 96


def _conv(inputs: int, outputs: int, kernel: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False)


class Residual(nn.Module):
    """[convolution, norm, activation]..., the input added before the last activation.

    Two 3x3 convolutions, or with ``bottleneck`` 1x1, 3x3 and 1x1 with four times the outputs.
    """

    def __init__(
        self,
        inputs: int,
        width: int,
        stride: int,
        *,
        bottleneck: bool,
        density: float,
        winners: ImageWinners,
    ) -> None:
        super().__init__()
        self.outputs = 4 * width if bottleneck else width
        layers: OrderedDict[str, nn.Module] = OrderedDict()
        shapes = (
            [(inputs, width, 1, 1), (width, width, 3, stride), (width, self.outputs, 1, 1)]
            if bottleneck
            else [(inputs, width, 3, stride), (width, width, 3, 1)]
        )
        for index, shape in enumerate(shapes, start=1):
            layers[f"conv{index}"] = _conv(*shape)
            layers[f"norm{index}"] = nn.BatchNorm2d(shape[1])
            if index < len(shapes):
                layers[f"act{index}"] = channels(shape[1], density, **winners)
        self.body = nn.Sequential(layers)
        # A block begins as the identity (Goyal et al. 2017, arXiv 1706.02677).
        nn.init.zeros_(layers[f"norm{len(shapes)}"].weight)  # type: ignore[arg-type]
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or inputs != self.outputs:
            self.shortcut = nn.Sequential(
                OrderedDict(
                    conv=_conv(inputs, self.outputs, 1, stride), norm=nn.BatchNorm2d(self.outputs)
                )
            )
        self.act = channels(self.outputs, density, **winners)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.act(self.body(x) + self.shortcut(x))
        return y


@checked
def resnet(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    blocks: Sequence[int] = (2, 2, 2, 2),
    width: int = 64,
    bottleneck: bool = False,
    stem: str = "auto",
    activation_density: float | Sequence[float] = 1.0,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build a residual network: stem, stages of blocks, average over the image, output layer.

    ``blocks=(2, 2, 2, 2)`` is ResNet-18, ``(3, 4, 6, 3)`` ResNet-34 and with ``bottleneck``
    ResNet-50; ``(3, 3, 3)`` of ``width`` 16 is ResNet-20 for CIFAR-10, with 1x1 convolutions in its
    shortcuts. Each stage after the first halves the image and doubles the channels.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: channels, height and width of one example.
        blocks: in each stage.
        width: channels of the first stage.
        bottleneck: blocks of 1x1, 3x3 and 1x1 convolutions, the last four times as wide.
        stem: ``cifar`` (3x3), ``imagenet`` (7x7 and max-pool, each halving the image), or
            ``auto``, which takes the latter for images of 96 pixels and more.
        activation_density: share of winners, one value or one for each stage (the stem has the
            first one's); 1.0 means ReLU.
        winners: see :class:`gossamer.nn.KWinners2d`; ``local`` ones compete at each position
            instead of over the whole image.

    Raises:
        UserError: a value out of range.
    """
    if stem == "auto":
        stem = "imagenet" if min(input_shape[1:]) >= _LARGE else "cifar"
    if stem not in STEMS:
        raise UserError(f"stem: no '{stem}'; {nearest(stem, (*STEMS, 'auto'))}")
    densities = each(activation_density, len(blocks), "stages")
    kernel, stride, pool = STEMS[stem]
    layers: OrderedDict[str, nn.Module] = OrderedDict(
        conv=_conv(input_shape[0], width, kernel, stride),
        norm=nn.BatchNorm2d(width),
        act=channels(width, densities[0], **winners),
    )
    if pool:
        layers["pool"] = nn.MaxPool2d(3, 2, padding=1)
    inputs = width
    for stage, (count, density) in enumerate(zip(blocks, densities, strict=True)):
        members = []
        for index in range(count):
            stride = 2 if stage and not index else 1
            block = Residual(
                inputs,
                width * 2**stage,
                stride,
                bottleneck=bottleneck,
                density=density,
                winners=winners,
            )
            members.append(block)
            inputs = block.outputs
        layers[f"stage{stage + 1}"] = nn.Sequential(*members)
    layers["average"] = nn.AdaptiveAvgPool2d(1)
    layers["flatten"] = nn.Flatten()
    layers["output"] = nn.Linear(inputs, classes)
    return nn.Sequential(layers)
