"""A transformer encoder of one's own for keyword spotting, to be trained and compressed.

    gossamer train keywords.npz --model examples/keyword_transformer.py:build --set epochs=30 \\
        --set optimizer=adamw --set learning_rate=0.002 --set batch_size=100 --out runs/encoder
    gossamer compress runs/encoder keywords.npz --trust --out runs/encoder-small

Any file with a function that returns a torch module can be named in this way. Tokens are the
spectrogram's frames, two by two (Berg et al. 2021, arXiv 2104.00769, take single ones), and the
mean over them is classified. ``keywords.npz`` holds pictures ``[N, bands, frames]``; see
``benchmarks/keyword_pictures.py``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn


class KeywordTransformer(nn.Module):
    """Logits ``[batch, classes]`` of spectrograms ``[batch, 1, bands, frames]``."""

    def __init__(
        self, bands: int, frames: int, classes: int, width: int, layers: int, together: int
    ) -> None:
        super().__init__()
        self.embed = nn.Conv1d(bands, width, together, together)
        self.position = nn.Parameter(0.02 * torch.randn(1, frames // together, width))
        layer = nn.TransformerEncoderLayer(
            width, width // 16, 4 * width, 0.0, batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, layers, enable_nested_tensor=False)
        self.norm = nn.LayerNorm(width)
        self.output = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.embed(x.squeeze(1)).transpose(1, 2) + self.position
        logits: Tensor = self.output(self.norm(self.encoder(tokens)).mean(dim=1))
        return logits


def build(
    classes: int = 12,
    input_shape: tuple[int, int, int] = (1, 40, 98),
    width: int = 64,
    layers: int = 4,
    together: int = 2,
) -> nn.Module:
    """The network; what follows ``input_shape`` are settings, as in ``--set width=96``.

    Args:
        classes: outputs.
        input_shape: one channel, bands and frames.
        width: numbers of a token, a multiple of 16.
        layers: of the encoder.
        together: frames of a token.
    """
    _, bands, frames = input_shape
    return KeywordTransformer(bands, frames, classes, width, layers, together)
