"""Variational dropout: the noise and its divergence against their definitions, and pruning."""

import copy
import itertools
import math

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate
from torch import nn

from gossamer.errors import UserError
from gossamer.models import speech_cnn
from gossamer.nn import (
    VariationalConv2d,
    VariationalLinear,
    penalties,
    to_deterministic,
    to_onnx,
    to_variational,
)
from gossamer.training import count


def quiet(layer, level=-10.0):
    with torch.no_grad():
        layer.log_variance.fill_(level)
    return layer


def small() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(2, 6, 3, stride=2, padding=1, groups=2, padding_mode="circular"),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(6 * 16, 5, bias=False),
    )


# ---------------------------------------------------------------- the noise


@pytest.mark.parametrize("kind", ["linear", "conv"])
def test_outputs_have_the_mean_and_variance_of_noisy_weights(kind):
    """Against weights drawn one by one: theta + sqrt(alpha) |theta| epsilon."""
    torch.manual_seed(0)
    layer = VariationalLinear(6, 3) if kind == "linear" else VariationalConv2d(2, 3, 2)
    x = torch.randn(1, 6) if kind == "linear" else torch.randn(1, 2, 3, 3)
    nn.init.uniform_(layer.log_variance, -3.0, 1.0)
    layer.train()
    with torch.no_grad():
        ours = torch.cat([layer(x) for _ in range(6000)])
        spread = (layer.log_alpha().exp() * layer.weight.square()).sqrt()
        theirs = torch.cat(
            [
                layer._apply_weight(x, layer.weight + spread * torch.randn_like(spread), layer.bias)
                for _ in range(6000)
            ]
        )
    error = 5 * theirs.std(dim=0) / math.sqrt(6000)
    assert ((ours.mean(dim=0) - theirs.mean(dim=0)).abs() < 2 * error).all()
    torch.testing.assert_close(ours.std(dim=0), theirs.std(dim=0), rtol=0.08, atol=0.01)


@settings(max_examples=25)
@given(
    batch=st.integers(1, 3),
    inputs=st.integers(1, 9),
    outputs=st.integers(1, 9),
    tokens=st.integers(0, 3),
)
def test_quiet_linear_is_torchs(batch, inputs, outputs, tokens):
    layer = quiet(VariationalLinear(inputs, outputs), -30.0)
    x = torch.randn(batch, *([tokens] if tokens else []), inputs)
    plain = nn.functional.linear(x, layer.weight, layer.bias)
    torch.testing.assert_close(layer.train()(x), plain, rtol=0.05, atol=0.3)
    layer.threshold = 9.0  # log alpha is clipped at 8: nothing is pruned
    torch.testing.assert_close(layer.eval()(x), plain)


@settings(max_examples=25)
@given(
    channels=st.integers(1, 4),
    outputs=st.integers(1, 4),
    kernel=st.integers(1, 3),
    stride=st.integers(1, 2),
    padding=st.integers(0, 1),
)
def test_quiet_convolution_is_torchs(channels, outputs, kernel, stride, padding):
    layer = VariationalConv2d(channels, outputs, kernel, stride=stride, padding=padding)
    layer.threshold = 9.0
    x = torch.randn(2, channels, 5, 6)
    plain = nn.functional.conv2d(x, layer.weight, layer.bias, stride, padding)
    torch.testing.assert_close(layer.eval()(x), plain)


def test_gradients_reach_means_and_variances():
    layer = VariationalLinear(4, 3).double()
    nn.init.uniform_(layer.log_variance, -4.0, 2.0)
    x = torch.randn(2, 4, dtype=torch.double)

    def loss(weight, log_variance):
        torch.manual_seed(7)
        y = torch.func.functional_call(
            layer, {"weight": weight, "log_variance": log_variance}, (x,)
        )
        return y.square().sum()

    arguments = (layer.weight, layer.log_variance)
    torch.manual_seed(0)
    assert torch.autograd.gradcheck(loss, arguments)


# ---------------------------------------------------------------- the divergence


@pytest.mark.parametrize("log_alpha", [-6.0, -2.0, 0.0, 2.0, 6.0])
def test_penalty_is_the_divergence_from_the_log_uniform_prior(log_alpha):
    """Up to its constant: E log|1 + sqrt(alpha) eps| - log(alpha) / 2, integrated numerically."""

    def divergence(value: float) -> float:
        root = math.exp(value / 2)

        def inner(e: float) -> float:
            density = math.exp(-e * e / 2) / math.sqrt(2 * math.pi)
            return density * math.log(abs(1 + root * e) + 1e-300)

        pole = -1 / root
        ends = sorted({-12.0, min(max(pole, -12.0), 12.0), 12.0})
        parts = (integrate.quad(inner, a, b, limit=200)[0] for a, b in itertools.pairwise(ends))
        return sum(parts) - value / 2

    layer = VariationalLinear(1, 1)
    with torch.no_grad():
        layer.weight.fill_(1.0)
        layer.log_variance.fill_(log_alpha)
        found = float(layer.penalty())
        layer.log_variance.fill_(8.0)
        noisiest = float(layer.penalty())
    assert found - noisiest == pytest.approx(divergence(log_alpha) - divergence(8.0), abs=0.02)


def test_penalty_falls_with_noise_and_log_alpha_is_clipped():
    layer = VariationalLinear(5, 4)
    found = []
    for level in (-20.0, -10.0, -5.0, 0.0, 5.0, 30.0):
        found.append(float(quiet(layer, level).penalty().detach()))
    assert found == sorted(found, reverse=True)
    assert float(layer.log_alpha().detach().max()) == 8.0
    assert float(quiet(layer, -60.0).log_alpha().detach().min()) == -8.0


def test_penalties_of_a_model_are_the_sum():
    model = to_variational(small())
    total = penalties(model)
    torch.testing.assert_close(total, model[0].penalty() + model[3].penalty())
    assert penalties(small()) is None


# ---------------------------------------------------------------- pruning


def prune_half(model: nn.Module) -> dict[str, int]:
    """Make every other weight noise; the number of those that stay, by layer."""
    kept = {}
    for name, layer in model.named_modules():
        if isinstance(layer, VariationalLinear | VariationalConv2d):
            with torch.no_grad():
                noisy = torch.arange(layer.weight.numel()).view(layer.weight.shape) % 2 == 0
                # Means far from zero, so that the noise alone decides.
                layer.weight.copy_(torch.sign(layer.weight) * (layer.weight.abs() + 0.1))
                layer.log_variance.masked_fill_(noisy, 6.0)
            kept[name] = int((~noisy).sum())
    return kept


def test_hardening_is_what_evaluation_computed():
    model = to_variational(small())
    kept = prune_half(model)
    model.eval()
    x = torch.randn(3, 2, 8, 8)
    expected = model(x)
    hard = to_deterministic(model)
    assert hard is model
    assert [type(m) for m in model] == [nn.Conv2d, nn.ReLU, nn.Flatten, nn.Linear]
    assert not model.training
    torch.testing.assert_close(model(x), expected, rtol=0, atol=0)
    counts = count(model, [x])
    assert {layer.name: layer.nonzero for layer in counts.layers} == kept


def test_conversion_keeps_weights_options_and_names():
    plain = small()
    before = {n: p.detach().clone() for n, p in plain.named_parameters()}
    model = to_variational(plain, exclude=["3"])
    assert model is plain
    assert isinstance(model[0], VariationalConv2d)
    assert type(model[3]) is nn.Linear
    assert (model[0].stride, model[0].groups, model[0].padding_mode) == ((2, 2), 2, "circular")
    state = model.state_dict()
    assert set(state) == set(before) | {"0.log_variance"}
    for name, value in before.items():
        assert torch.equal(state[name], value)
    hard = to_deterministic(copy.deepcopy(model)).state_dict()
    assert set(hard) == set(before)


def test_a_single_layer_is_replaced_itself():
    layer = to_variational(nn.Linear(4, 2))
    assert isinstance(layer, VariationalLinear)
    assert type(to_deterministic(layer)) is nn.Linear


def test_a_hardened_network_runs_under_onnxruntime():
    model = to_variational(speech_cnn(4, channels=(4, 4), hidden=8))
    prune_half(model)
    model = to_deterministic(model).eval()
    x = torch.randn(3, 1, 32, 32)
    session = onnxruntime.InferenceSession(to_onnx(model, x[:1]).SerializeToString())
    (found,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------- mistakes


def test_exporting_before_hardening_names_the_remedy():
    with pytest.raises(UserError, match="to_deterministic"):
        to_onnx(to_variational(nn.Sequential(nn.Linear(4, 2))), torch.randn(1, 4))


def test_nothing_to_convert_and_unknown_names():
    with pytest.raises(UserError, match="no Linear or Conv2d layer"):
        to_variational(nn.Sequential(nn.ReLU()))
    with pytest.raises(UserError, match="no such layer 'outptu': did you mean 'output'"):
        to_variational(speech_cnn(), exclude=["outptu"])


@pytest.mark.filterwarnings("ignore:.*weight_norm.* is deprecated:FutureWarning")
def test_a_weight_that_a_norm_computes_is_refused():
    network = nn.Sequential(nn.utils.weight_norm(nn.Linear(4, 3)), nn.Linear(3, 2))
    with pytest.raises(UserError, match="layer '0': its weight is computed from other parameters"):
        to_variational(network)
    to_variational(network, exclude=["0"])
    assert [type(layer) for layer in network] == [nn.Linear, VariationalLinear]
