"""The two reference networks of Ahmad & Scheinkman 2019 (arXiv 1903.11257).

Both are: [5x5 convolution without padding, max-pool 2, activation] for each entry of
``channels``, then a hidden linear layer with an activation, then the output layer. The speech
network has batch norms behind its convolutions and its hidden layer, the image network none.
The activation is k-winners where its density is below 1, else ReLU.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from functools import partial
from typing import Unpack

from torch import nn

from gossamer.errors import UserError
from gossamer.models import activation
from gossamer.models.arguments import ImageWinners, checked

_KERNEL = 5


def _cnn(
    classes: int,
    input_shape: tuple[int, int, int],
    channels: Sequence[int],
    hidden: int,
    activation_density: float | Sequence[float],
    dropout: float,
    winners: ImageWinners,
    *,
    norm: bool,
) -> nn.Sequential:
    densities = activation.each(
        activation_density, len(channels) + 1, "convolutions and the hidden layer"
    )
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    depth, height, width = input_shape
    for index, (out, density) in enumerate(zip(channels, densities[:-1], strict=True), start=1):
        height, width = (height - _KERNEL + 1) // 2, (width - _KERNEL + 1) // 2
        if min(height, width) < 1:
            raise UserError(
                f"the input {input_shape} is too small for {len(channels)} convolutions of "
                f"{_KERNEL}x{_KERNEL} and pooling: give fewer channels or larger examples"
            )
        # A bias would have no effect in front of batch norm.
        layers[f"conv{index}"] = nn.Conv2d(depth, out, _KERNEL, bias=not norm)
        if norm:
            layers[f"norm{index}"] = nn.BatchNorm2d(out, affine=False)
        layers[f"pool{index}"] = nn.MaxPool2d(2)
        layers[f"act{index}"] = activation.channels(out, density, **winners)
        depth = out
    layers["flatten"] = nn.Flatten()
    layers["linear1"] = nn.Linear(depth * height * width, hidden, bias=not norm)
    if norm:
        layers["norm_linear1"] = nn.BatchNorm1d(hidden, affine=False)
    layers["act_linear1"] = activation.units(hidden, densities[-1], **winners)
    if dropout:
        layers["dropout"] = nn.Dropout(dropout)
    layers["output"] = nn.Linear(hidden, classes)
    return nn.Sequential(layers)


@checked
def speech_cnn(
    classes: int = 12,
    *,
    input_shape: tuple[int, int, int] = (1, 32, 32),
    channels: Sequence[int] = (64, 64),
    hidden: int = 1000,
    activation_density: float | Sequence[float] = (1.0, 1.0, 1.0),
    dropout: float = 0.0,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build the keyword-spotting network (GSC CNN-2) for log-mel inputs ``[batch, 1, 32, 32]``.

    Weights of its four layers: 1,716,000 with 1,000 hidden units, 2,522,000 with 1,500.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: channels, height and width of one example.
        channels: outputs of each 5x5 convolution.
        hidden: units of the linear layer.
        activation_density: share of winners after each convolution and the hidden layer;
            1.0 means ReLU. The paper's sparse network has (0.095, 0.125, 0.10).
        dropout: before the output layer.
        winners: see :class:`gossamer.nn.KWinners2d`; ``local`` ones compete at each position
            instead of over the whole image.

    Raises:
        UserError: a value out of range, or an input too small for the convolutions.
    """
    return _cnn(
        classes, input_shape, channels, hidden, activation_density, dropout, winners, norm=True
    )


@partial(checked, boost_decay=0.85)
def image_cnn(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (1, 28, 28),
    channels: Sequence[int] = (30, 30),
    hidden: int = 1000,
    activation_density: float | Sequence[float] = (1.0, 1.0, 1.0),
    dropout: float = 0.0,
    norm: bool = False,
    **winners: Unpack[ImageWinners],
) -> nn.Sequential:
    """Build the MNIST network (CNN-2) for ``[batch, 1, 28, 28]``; arguments as :func:`speech_cnn`.

    The defaults are the paper's dense network, 513,250 weights in four layers. The paper's sparse
    network has 775,800: ``channels=(32, 64)``, ``hidden=700`` and activation densities (0.087,
    0.293, 0.143).

    Args:
        norm: batch norms as in :func:`speech_cnn`. The published networks have none: with them
            accuracy rises and robustness to noise falls.
    """
    return _cnn(
        classes, input_shape, channels, hidden, activation_density, dropout, winners, norm=norm
    )
