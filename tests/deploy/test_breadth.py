"""Common networks as torch exports them, by both of its exporters, against ONNX Runtime."""

from __future__ import annotations

import io
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer import models
from gossamer.deploy.torch_graph import TorchGraph
from gossamer.errors import UserError
from gossamer.nn import to_onnx
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

sys.path.insert(0, str(Path(__file__).parents[1] / "runtime"))
import networks


class Attention(nn.Module):
    """Queries, keys and values from one layer, by ``permute`` or by ``chunk``."""

    def __init__(self, chunks: bool) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.chunks = chunks

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        y = self.qkv(self.norm(x))
        if self.chunks:
            parts = [part.reshape(batch, tokens, 3, 8) for part in y.chunk(3, dim=-1)]
            q, k, v = (part.transpose(1, 2) for part in parts)
            mixed = ((q @ k.transpose(-1, -2)) / 8**0.5).softmax(dim=-1) @ v
        else:
            q, k, v = y.reshape(batch, tokens, 3, 3, 8).permute(2, 0, 3, 1, 4)
            mixed = functional.scaled_dot_product_attention(q, k, v)
        return x + self.out(mixed.transpose(1, 2).reshape(batch, tokens, width))


class Bert(nn.Module):
    """Token ids, a mask and token types into a small BERT-like encoder; a pooled class."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.words, self.places, self.types = (nn.Embedding(n, 24) for n in (50, 9, 2))
        self.norm, self.qkv, self.out = nn.LayerNorm(24), nn.Linear(24, 72), nn.Linear(24, 24)
        self.up, self.down, self.head = nn.Linear(24, 48), nn.Linear(48, 24), nn.Linear(24, 3)
        self.register_buffer("at", torch.arange(9)[None])
        self.fused = fused

    def forward(self, ids: Tensor, mask: Tensor, types: Tensor) -> Tensor:
        x = self.words(ids) + self.places(self.at.expand(ids.shape[0], -1)) + self.types(types)
        x = self.norm(x)
        parts = (
            p.reshape(x.shape[0], 9, 3, 8).transpose(1, 2) for p in self.qkv(x).chunk(3, dim=-1)
        )
        q, k, v = parts
        if self.fused:
            y = functional.scaled_dot_product_attention(q, k, v, mask[:, None, None, :].bool())
        else:
            low = (1.0 - mask[:, None, None, :].to(x.dtype)) * torch.finfo(x.dtype).min
            y = (q @ k.transpose(-1, -2) / 8**0.5 + low).softmax(dim=-1) @ v
        x = x + self.out(y.transpose(1, 2).reshape(x.shape))
        x = x + self.down(functional.gelu(self.up(x)))
        if not self.fused:
            return self.head(torch.tanh(x[:, 0]))
        weight = mask[:, :, None].to(x.dtype)
        return self.head((x * weight).sum(1) / weight.sum(1).clamp(min=1e-9))


class Sequences(nn.Module):
    """torch's own attention or encoder, its batch first or second inside; causal or not."""

    def __init__(self, inner: nn.Module, batch_first: bool, causal: bool = False) -> None:
        super().__init__()
        self.inner, self.batch_first = inner, batch_first
        mask = nn.Transformer.generate_square_subsequent_mask(7) if causal else None
        self.register_buffer("mask", mask)

    def forward(self, x: Tensor) -> Tensor:
        x = x if self.batch_first else x.transpose(0, 1)
        if isinstance(self.inner, nn.MultiheadAttention):
            y, _ = self.inner(x, x, x, attn_mask=self.mask, need_weights=self.mask is None)
        else:
            y = self.inner(x, self.mask, is_causal=self.mask is not None)
        return y if self.batch_first else y.transpose(0, 1)


class Windows(nn.Module):
    """Attention by angles within shifted windows of an image, as in Swin V2."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.head = nn.Linear(12, 36), nn.Linear(12, 3)
        self.register_buffer("mask", torch.randn(4, 16, 16))

    def forward(self, x: Tensor) -> Tensor:
        x = torch.roll(x.permute(0, 2, 3, 1), (-2, -1), (1, 2)).reshape(-1, 2, 4, 2, 4, 12)
        y = x.permute(0, 1, 3, 2, 4, 5).reshape(-1, 16, 12)
        q, k, v = self.qkv(y).chunk(3, dim=-1)
        angles = functional.normalize(q, dim=-1) @ functional.normalize(k, dim=-1).transpose(1, 2)
        y = (angles + self.mask.repeat(x.shape[0], 1, 1)).softmax(-1) @ v
        y = y.reshape(-1, 2, 2, 4, 4, 12).permute(0, 1, 3, 2, 4, 5).reshape(-1, 8, 8, 12)
        return self.head(torch.roll(y, (2, 1), (1, 2)).amin((1, 2)))


def encoder(batch_first: bool, **more: object) -> nn.Module:
    layer = nn.TransformerEncoderLayer(24, 3, 40, batch_first=batch_first, **more)
    return nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)


class MeanOfSteps(nn.Module):
    """A pooled class, out of steps first: the mean over them, and parts of them joined."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.head = encoder(False), nn.Linear(48, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = self.inner(x.transpose(0, 1))
        both = torch.cat([y[1:3].mean(0), y[-1]], dim=-1)
        return self.head(both)


def tokens(batch: int) -> tuple[Tensor, ...]:
    """Ids, mask (of different lengths) and types."""
    torch.manual_seed(batch)
    ids, types = torch.randint(0, 50, (batch, 9)), torch.randint(0, 2, (batch, 9))
    return ids, (torch.arange(9) < torch.randint(1, 10, (batch, 1))).long(), types


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("dynamo", [False, True])
def test_transformers_that_read_tokens(dynamo: bool, fused: bool) -> None:
    torch.manual_seed(0)
    model = Bert(fused).eval()
    given = tokens(2)
    file = to_onnx(model, given).SerializeToString() if dynamo else scripted(model, *given)
    graph = read(file)
    engine = Engine(graph, threads=1)
    for batch in (1, 3):
        arrays = [value.numpy() for value in tokens(batch)]
        wanted = model(*tokens(batch)).detach().numpy()
        np.testing.assert_allclose(networks.reference(file, *arrays), wanted, atol=2e-5)
        np.testing.assert_allclose(engine(*arrays), wanted, atol=2e-5)
        (found,) = TorchGraph(graph)(*tokens(batch))
        np.testing.assert_allclose(found.detach(), wanted, atol=2e-5)


def conv(*layers: nn.Module, channels: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, channels, 3, 2, 1), *layers)


NETWORKS = {
    "perceptron": (
        lambda: nn.Sequential(
            nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.SiLU(), nn.Linear(32, 8),
            nn.LogSoftmax(-1),
        ),
        (1, 8, 8),
    ),
    "1-d": (
        lambda: nn.Sequential(
            nn.Conv1d(3, 8, 5, padding=2), nn.BatchNorm1d(8), nn.ReLU(), nn.MaxPool1d(2),
            nn.ConvTranspose1d(8, 4, 3, stride=2, groups=2, output_padding=1),
        ),
        (3, 16),
    ),
    "1-d, weight norm": (
        lambda: nn.Sequential(
            nn.utils.parametrizations.weight_norm(nn.Conv1d(3, 8, 3, dilation=2)), nn.SELU(),
            nn.utils.parametrizations.weight_norm(nn.Conv1d(8, 4, 3, dilation=4)),
        ),
        (3, 16),
    ),
    "shifted windows": (Windows, (12, 8, 8)),
    "autoencoder, upsampling": (
        lambda: conv(nn.ReLU(), nn.Upsample(scale_factor=2), nn.Conv2d(4, 1, 3, 1, 1)),
        (1, 16, 16),
    ),
    "autoencoder, transposed": (
        lambda: conv(nn.ReLU(), nn.ConvTranspose2d(4, 1, (4, 3), 2, 1), nn.Sigmoid()),
        (1, 16, 16),
    ),
    "transposed into windows": (
        lambda: conv(
            nn.ConvTranspose2d(4, 6, (2, 3), (2, 3), groups=2), nn.BatchNorm2d(6), nn.ReLU(),
            nn.ConvTranspose2d(6, 2, 2, 2, bias=False), nn.Hardswish(),
        ),
        (1, 8, 8),
    ),
    "1-d, transposed into windows": (
        lambda: nn.Sequential(nn.ConvTranspose1d(3, 4, 5, 5), nn.BatchNorm1d(4), nn.GELU()),
        (3, 7),
    ),
    "pixel shuffle": (lambda: conv(nn.PixelShuffle(2), channels=8), (1, 8, 8)),
    "group norm": (
        lambda: conv(nn.GroupNorm(2, 4), nn.InstanceNorm2d(4), nn.Hardswish()), (1, 9, 9),
    ),
    "padded": (lambda: nn.Sequential(nn.ZeroPad2d((1, 0, 2, 1)), nn.Conv2d(1, 4, 3)), (1, 8, 8)),
    "attention by permute": (lambda: Attention(False), (7, 24)),
    "attention by chunk": (lambda: Attention(True), (7, 24)),
    "attention of torch, batch first": (
        lambda: Sequences(nn.MultiheadAttention(24, 3, batch_first=True), True), (7, 24),
    ),
    "attention of torch, causal": (
        lambda: Sequences(nn.MultiheadAttention(24, 3), False, causal=True), (7, 24),
    ),
    "encoder of torch": (lambda: Sequences(encoder(True), True), (7, 24)),
    "encoder of torch, batch second, causal": (
        lambda: Sequences(
            encoder(False, norm_first=True, activation="gelu"), False, causal=True
        ),
        (7, 24),
    ),
    "encoder of torch, pooled": (MeanOfSteps, (7, 24)),
    "ds_cnn": (lambda: models.ds_cnn(width=16, blocks=2, activation_density=0.25), (1, 32, 32)),
    "resnet": (lambda: models.resnet(blocks=(1, 1), width=8), (3, 16, 16)),
    "vit": (
        lambda: models.vit(width=32, layers=1, head_size=16, patch=8, activation_density=0.1),
        (3, 32, 32),
    ),
}  # fmt: skip


def scripted(model: nn.Module, *example: Tensor) -> bytes:
    """What torch's older exporter writes, which cannot write torch's fast path of attention."""
    file, names = io.BytesIO(), [f"x{i}" for i in range(len(example))]
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            torch.onnx.export(
                model, example, file, dynamo=False, opset_version=17, input_names=names,
                dynamic_axes={name: {0: "batch"} for name in names},
            )  # fmt: skip
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)
    return file.getvalue()


def check(model: bytes, shape: tuple[int, ...], batches: tuple[int, ...] = (1, 3)) -> None:
    graph = read(model)
    engine = Engine(graph, threads=1)
    for batch in batches:
        x = np.random.default_rng(batch).standard_normal((batch, *shape)).astype(np.float32)
        wanted = networks.reference(model, x)
        scale = max(1.0, float(np.abs(wanted).max()))
        np.testing.assert_allclose(engine(x), wanted, rtol=1e-3, atol=2e-5 * scale)
        (found,) = TorchGraph(graph)(torch.from_numpy(x))
        np.testing.assert_allclose(found.detach(), wanted, rtol=1e-3, atol=2e-5 * scale)


@pytest.mark.parametrize("name", NETWORKS)
def test_networks_of_the_dynamo_exporter(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    model = make().eval()
    check(to_onnx(model, torch.randn(2, *shape)).SerializeToString(), shape)


@pytest.mark.parametrize("name", [n for n in NETWORKS if n not in ("ds_cnn", "vit")])
def test_networks_of_the_script_exporter(name: str) -> None:
    torch.manual_seed(0)
    make, shape = NETWORKS[name]
    check(scripted(make().eval(), torch.randn(2, *shape)), shape)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: models.resnet(1000, input_shape=(3, 224, 224), blocks=(3, 4, 6, 3),
                               bottleneck=True), (3, 224, 224)),
        (lambda: models.mobilenet(width=0.5, input_shape=(3, 96, 96)), (3, 96, 96)),
        (lambda: models.ds_cnn(), (1, 32, 32)),
        (lambda: models.vit(activation_density=0.1), (3, 32, 32)),
    ],
    ids=["resnet50", "mobilenet", "ds_cnn", "vit"],
)  # fmt: skip
def test_whole_size_networks_pruned_by_magnitude(make, shape) -> None:
    torch.manual_seed(0)
    model = make().eval()
    for layer in model.modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            weight = layer.weight.data
            weight *= weight.abs() > weight.abs().quantile(0.9) if weight.numel() < 1e6 else 1
    check(to_onnx(model, torch.randn(2, *shape)).SerializeToString(), shape, (1, 2))


@pytest.mark.parametrize(
    ("model", "shape", "told"),
    [
        (
            nn.ConvTranspose3d(1, 1, 2),
            (1, 4, 4, 4),
            r"\(ConvTranspose\): .*1-d and 2-d images only",
        ),
    ],
)
def test_what_cannot_run_is_named(model: nn.Module, shape: tuple[int, ...], told: str) -> None:
    with pytest.raises(UserError, match=told):
        read(to_onnx(model.eval(), torch.randn(2, *shape)).SerializeToString())
