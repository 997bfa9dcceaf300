"""Transformer encoders for classification of images (ViT) and of tokens (BERT).

Pre-norm blocks (Xiong et al. 2020, arXiv 2002.04745) of attention and a feed-forward part whose
hidden units are the k-winners. Heads have a fixed size, so that more width means more heads, as
SµPar requires.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial
from typing import Unpack

import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.errors import UserError
from gossamer.models.activation import each
from gossamer.models.arguments import Winners, checked
from gossamer.nn import KWinners, SparseActivation


class Attention(nn.Module):
    """Scaled dot-product attention of every token to every other: ``[batch, tokens, width]``."""

    def __init__(self, width: int, head_size: int) -> None:
        super().__init__()
        self.heads = width // head_size
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.output = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        tokens, width = x.shape[1], x.shape[2]

        def split(y: Tensor) -> Tensor:
            return y.reshape(-1, tokens, self.heads, width // self.heads).transpose(1, 2)

        mixed = functional.scaled_dot_product_attention(
            split(self.query(x)), split(self.key(x)), split(self.value(x))
        )
        y: Tensor = self.output(mixed.transpose(1, 2).reshape(-1, tokens, width))
        return y


class Block(nn.Module):
    """Attention and feed-forward part, each applied to the norm of its input and added to it."""

    def __init__(
        self,
        width: int,
        hidden: int,
        head_size: int,
        density: float,
        dropout: float,
        winners: Winners,
    ) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, head_size)
        self.norm2 = nn.LayerNorm(width)
        self.linear1 = nn.Linear(width, hidden)
        self.act: nn.Module = nn.GELU()
        if density != 1.0:
            self.act = SparseActivation(functional.gelu, KWinners(hidden, density, **winners))
        self.linear2 = nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.dropout(self.attention(self.norm1(x)))
        y: Tensor = self.dropout(self.linear2(self.act(self.linear1(self.norm2(x)))))
        return x + y


class Transformer(nn.Module):
    """Embedding, added positions, blocks, the mean over tokens, output layer.

    ``embed`` returns ``[batch, tokens, width]``, or an image ``[batch, width, rows, columns]``.
    """

    def __init__(
        self, embed: nn.Module, tokens: int, width: int, blocks: nn.Sequential, classes: int
    ) -> None:
        super().__init__()
        self.embed = embed
        self.position = nn.Parameter(torch.randn(1, tokens, width) * 0.02)
        self.blocks = blocks
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x)
        if x.dim() == 4:
            x = x.flatten(2).transpose(1, 2)
        x = self.blocks(x + self.position)
        y: Tensor = self.output(self.norm(x).transpose(1, 2).mean(dim=2))
        return y


class Tokens(nn.Embedding):
    """Embedding of token numbers ``[batch, tokens]`` of any type in ``[batch, tokens, width]``."""

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = super().forward(x.to(torch.int64))
        return y


def _encoder(
    embed: nn.Module,
    tokens: int,
    classes: int,
    width: int,
    layers: int,
    head_size: int,
    expansion: float,
    activation_density: float | Sequence[float],
    dropout: float,
    winners: Winners,
) -> Transformer:
    if width % head_size:
        raise UserError(
            f"width {width} is no multiple of head_size {head_size}: use "
            f"{max(width // head_size, 1) * head_size}, or another head_size"
        )
    hidden = max(round(expansion * width), 1)
    densities = each(activation_density, layers, "layers")
    blocks = (Block(width, hidden, head_size, d, dropout, winners) for d in densities)
    return Transformer(embed, tokens, width, nn.Sequential(*blocks), classes)


@partial(checked, boost_strength=1.0)
def vit(
    classes: int = 10,
    *,
    input_shape: tuple[int, int, int] = (3, 32, 32),
    patch: int = 4,
    width: int = 128,
    layers: int = 4,
    head_size: int = 32,
    expansion: float = 4.0,
    activation_density: float | Sequence[float] = 1.0,
    dropout: float = 0.0,
    **winners: Unpack[Winners],
) -> Transformer:
    """Build a vision transformer (Dosovitskiy et al. 2021, arXiv 2010.11929), mean over tokens.

    Args:
        classes: outputs, ``[batch, classes]`` logits.
        input_shape: channels, height and width of one example; spectrograms are images too.
        patch: side of the square that becomes one token.
        width: size of a token's vector, a multiple of ``head_size``.
        layers: blocks of attention and feed-forward part.
        head_size: size of a head's vectors.
        expansion: hidden units of the feed-forward part, as a multiple of ``width``.
        activation_density: share of those units that stay active, one value or one for each
            layer; 1.0 means GELU alone, otherwise k-winners follow GELU.
        dropout: after attention and feed-forward part.
        winners: see :class:`gossamer.nn.KWinners`.

    Raises:
        UserError: a value out of range, or an image that does not divide into patches.
    """
    inputs, height, wide = input_shape
    if height % patch or wide % patch:
        raise UserError(
            f"an image of {height}x{wide} does not divide into patches of {patch}: use patch = "
            f"{math.gcd(height, wide)} or one of its divisors"
        )
    return _encoder(
        nn.Conv2d(inputs, width, patch, patch),
        (height // patch) * (wide // patch),
        *(classes, width, layers, head_size, expansion, activation_density, dropout, winners),
    )


@partial(checked, boost_strength=1.0)
def bert(
    classes: int = 2,
    *,
    input_shape: tuple[int] = (128,),
    vocabulary: int = 30522,
    width: int = 128,
    layers: int = 2,
    head_size: int = 64,
    expansion: float = 4.0,
    activation_density: float | Sequence[float] = 1.0,
    dropout: float = 0.0,
    **winners: Unpack[Winners],
) -> Transformer:
    """Build a transformer like BERT's encoder, for integer tokens ``[batch, length]``.

    The defaults have BERT-tiny's size (Turc et al. 2019, arXiv 1908.08962). ``input_shape`` is
    the length of a text and ``vocabulary`` the number of different tokens; for the other
    arguments see :func:`vit`.
    """
    return _encoder(
        Tokens(vocabulary, width),
        input_shape[0],
        *(classes, width, layers, head_size, expansion, activation_density, dropout, winners),
    )
