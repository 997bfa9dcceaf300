"""Residual, depthwise and transformer networks: sizes as published, and mistakes."""

import pytest
import torch
from torch import nn
from torch.nn import functional

from gossamer.errors import UserError
from gossamer.models import bc_resnet, bert, ds_cnn, mobilenet, resnet, tc_resnet, vit
from gossamer.models.bc_resnet import BroadcastedResidual, SubSpectralNorm
from gossamer.models.transformer import Attention


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    ("build", "published"),
    [
        # torchvision's counts.
        (lambda: resnet(1000, input_shape=(3, 224, 224)), 11_689_512),
        (
            lambda: resnet(1000, input_shape=(3, 224, 224), blocks=(3, 4, 6, 3), bottleneck=True),
            25_557_032,
        ),
        (lambda: mobilenet(), 4_231_976),
    ],
)
def test_as_many_parameters_as_published(build, published):
    with torch.device("meta"):
        assert parameters(build()) == published


@pytest.mark.parametrize(
    ("width", "published"),
    # Exact in arXiv 2406.06634, else in thousands: arXiv 2106.04140.
    [(0.625, 4_585), (1, 9_232), (8, 321_000)],
)
def test_parameters_of_bc_resnet(width, published):
    with torch.device("meta"):
        counted = parameters(bc_resnet(width=width))
    assert counted == published or round(counted, -3) == published


@pytest.mark.parametrize(
    ("layers", "width", "thousands"),
    # arXiv 1904.03814, the running statistics of batch norms counted.
    [(8, 1.0, 66), (8, 1.5, 145), (14, 1.0, 137), (14, 1.5, 305)],
)
def test_parameters_of_tc_resnet(layers, width, thousands):
    with torch.device("meta"):
        model = tc_resnet(layers=layers, width=width)
    counted = sum(value.numel() for value in model.state_dict().values() if value.dim())
    assert round(counted / 1000) == thousands


@pytest.mark.parametrize("build", [tc_resnet, bc_resnet])
def test_frames_first_is_the_same_network_turned(build):
    torch.manual_seed(0)
    model = build(3, input_shape=(1, 16, 10), width=0.5).eval()
    turned = build(3, input_shape=(1, 10, 16), width=0.5, frames_first=True).eval()
    turned.load_state_dict(model.state_dict())
    x = torch.randn(2, 1, 16, 10)
    torch.testing.assert_close(turned(x.transpose(2, 3)), model(x))


def test_sub_bands_have_norms_of_their_own():
    norm = SubSpectralNorm(3, 2).train()
    x = torch.randn(5, 3, 8, 7) + torch.arange(8.0).reshape(8, 1)
    y = norm(x)
    for channel in range(3):
        for rows in (slice(0, 4), slice(4, 8)):
            part, wanted = y[:, channel, rows], x[:, channel, rows]
            wanted = (wanted - wanted.mean()) / (wanted.var(correction=0) + 1e-5).sqrt()
            torch.testing.assert_close(part, wanted)


def test_time_is_broadcast_over_the_bands():
    block = BroadcastedResidual(4, 4, 1, 2, 2, 1.0, 0.1, {}).eval()
    x = torch.randn(2, 4, 6, 9)
    bands = block.over_bands(x)
    time = block.over_time(bands.mean(dim=2, keepdim=True))
    torch.testing.assert_close(block(x), torch.relu(x + bands + time))


def test_stems():
    with torch.device("meta"):
        small, large = resnet(), resnet(input_shape=(3, 96, 96))
        forced = resnet(input_shape=(3, 96, 96), stem="cifar")
    assert small.conv.kernel_size == forced.conv.kernel_size == (3, 3)
    assert large.conv.kernel_size == (7, 7)
    assert isinstance(large.pool, nn.MaxPool2d)
    assert not hasattr(small, "pool")


def test_blocks_begin_as_the_identity():
    model = resnet(3, input_shape=(3, 8, 8), width=4, blocks=(2,)).eval()
    x = torch.randn(2, 4, 8, 8)
    assert torch.equal(model.stage1(x), torch.relu(x))


def test_a_density_for_each_stage():
    model = resnet(input_shape=(3, 8, 8), width=4, blocks=(1, 1), activation_density=(0.1, 1.0))
    assert model.act.density == model.stage1[0].act.density == 0.1
    assert isinstance(model.stage2[0].act, nn.ReLU)


def test_depthwise_shapes():
    model = ds_cnn(width=8, blocks=3, activation_density=0.5)
    assert [model.get_submodule(f"block{i}.depthwise").groups for i in (1, 2, 3)] == [8, 8, 8]
    assert model[:-3](torch.randn(1, 1, 32, 32)).shape == (1, 8, 16, 16)
    model = mobilenet(10, input_shape=(3, 224, 224), width=0.125).eval()
    assert model[:-3](torch.randn(1, 3, 224, 224)).shape == (1, 128, 7, 7)


def test_attention_against_torchs():
    ours, theirs = Attention(12, 4), nn.MultiheadAttention(12, 3, batch_first=True)
    with torch.no_grad():
        parts = (ours.query, ours.key, ours.value)
        theirs.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        theirs.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        theirs.out_proj.weight.copy_(ours.output.weight)
        theirs.out_proj.bias.copy_(ours.output.bias)
    x = torch.randn(2, 5, 12)
    torch.testing.assert_close(ours(x), theirs(x, x, x)[0])


def test_dense_transformers_pass_gelu():
    x = torch.randn(2, 3, 8, 8)
    model = vit(3, input_shape=(3, 8, 8), width=16, head_size=8, layers=1).eval()
    sparse = vit(
        3, input_shape=(3, 8, 8), width=16, head_size=8, layers=1, activation_density=1 - 1e-9
    ).eval()
    sparse.load_state_dict(model.state_dict(), strict=False)
    torch.testing.assert_close(sparse(x), model(x))
    hidden = []
    model.blocks[0].act.register_forward_hook(lambda _, x, y: hidden.append((x[0], y)))
    model(x)
    torch.testing.assert_close(hidden[0][1], functional.gelu(hidden[0][0]))


def test_tokens_of_any_type():
    model = bert(3, input_shape=(5,), vocabulary=11, width=64).eval()
    tokens = torch.randint(0, 11, (2, 5))
    torch.testing.assert_close(model(tokens.float()), model(tokens))


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: resnet(stem="imagnet"), "no 'imagnet'; did you mean 'imagenet'"),
        (lambda: resnet(blocks=()), "blocks is empty; give at least one number"),
        (lambda: resnet(blocks=(1, 0)), "blocks must be a whole number of at least 1"),
        (lambda: ds_cnn(width=0), "width must be a whole number of at least 1"),
        (lambda: vit(width=40, head_size=32), "no multiple of head_size 32: use 32"),
        (lambda: vit(patch=5), "32x32 does not divide into patches of 5: use patch = 32"),
        (lambda: tc_resnet(layers=9), "layers must be 8 or 14, not 9"),
        (lambda: bc_resnet(input_shape=(1, 98, 40), width=1), "98 bands are no multiple of 8"),
        (lambda: bert(vocabulary=0), "vocabulary must be a whole number of at least 1"),
    ],
)
def test_mistakes(build, message):
    with pytest.raises(UserError, match=message):
        build()


@pytest.mark.parametrize(("width", "counted"), [(1, 2_482_156), (0.625, 1_246_580)])
def test_multiply_adds_of_bc_resnet(width, counted):
    """Of the convolutions and the output layer, as docs/reference/models.md has them."""
    macs = 0

    def count(layer, _, y):
        nonlocal macs
        macs += y[0].numel() * layer.weight[0].numel()

    with torch.device("meta"):
        model = bc_resnet(width=width, input_shape=(1, 40, 101))
        for layer in model.modules():
            if isinstance(layer, nn.Conv2d | nn.Linear):
                layer.register_forward_hook(count)
        model(torch.empty(1, 1, 40, 101))
    assert macs == counted
