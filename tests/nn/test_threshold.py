"""Statistical top-k: measured densities, calibration in order, export."""

import math

import numpy as np
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from torch import nn

from gossamer.errors import UserError
from gossamer.models import mlp
from gossamer.nn import Threshold, calibrate, sparsify_activations, to_onnx


@given(
    x=hnp.arrays(
        np.float32,
        hnp.array_shapes(min_dims=2, max_dims=4, max_side=6),
        elements=st.floats(-8, 8, width=32),
    ),
    density=st.floats(0.01, 1.0),
)
def test_fitted_to_data_at_most_the_share_passes(x, density):
    layer, x = Threshold(density), torch.from_numpy(x)
    layer.fit(x)
    passing = int((x > layer.threshold).sum())
    wanted = round(density * x.numel())
    # Exactly so many, but for equal values at the border, which do not pass.
    assert passing <= wanted
    lowest = x.flatten().sort(descending=True).values[max(wanted - 1, 0)]
    if passing < wanted:
        assert int((x == lowest).sum()) > wanted - passing
    y = layer(x)
    assert torch.equal(y, torch.where(x > layer.threshold, x, 0.0))


def test_by_hand():
    layer = Threshold(0.5)
    x = torch.tensor([[3.0, -1.0, 2.0, 0.5]])
    assert layer(x).tolist() == [[3.0, 0.0, 2.0, 0.5]], "a ReLU until it is fitted"
    layer.fit(x)
    assert float(layer.threshold) == 1.25
    assert layer(x).tolist() == [[3.0, 0.0, 2.0, 0.0]]
    assert layer(torch.tensor([math.inf, -math.inf])).tolist() == [math.inf, 0.0]
    assert layer(torch.tensor([math.nan])).isnan().all()


def test_gradient_passes_where_the_value_does():
    layer = Threshold(0.5)
    layer.threshold.fill_(1.0)
    x = torch.tensor([0.5, 1.0, 1.5], requires_grad=True)
    layer(x).sum().backward()
    assert x.grad.tolist() == [0.0, 0.0, 1.0]


def network() -> nn.Module:
    torch.manual_seed(0)
    model = mlp(4, input_shape=(12,), hidden=200, layers=3, norm=False)
    return sparsify_activations(
        model, {"act1": 0.3, "act2": 0.1, "act3": 0.2}, example=torch.randn(1, 12), threshold=True
    )


def test_calibration_meets_each_density_through_the_layers_before():
    model, x = network(), torch.randn(300, 12)
    measured = calibrate(model, x)
    assert list(measured.values()) == pytest.approx([0.3, 0.1, 0.2], abs=1e-4)
    assert model.training
    # On data that it has not seen, about the same.
    fresh = {}
    for name in measured:
        model.get_submodule(name).register_forward_hook(
            lambda _, __, y, name=name: fresh.update({name: float((y != 0).float().mean())})
        )
    model.eval()(torch.randn(1000, 12))
    assert list(fresh.values()) == pytest.approx([0.3, 0.1, 0.2], abs=0.02)


def test_more_than_is_positive_is_no_more_than_that():
    model = nn.Sequential(nn.Linear(12, 50), nn.ReLU())
    x = torch.randn(100, 12)
    natural = float((model(x) > 0).float().mean())
    sparse = sparsify_activations(model, 0.95, example=x[:1], threshold=True)
    (measured,) = calibrate(sparse, x).values()
    assert measured == pytest.approx(natural)


def test_export_keeps_the_same_units():
    model, x = network().eval(), torch.randn(64, 12)
    calibrate(model, x)
    proto = to_onnx(model, x[:2])
    assert not proto.functions, "standard operators alone"
    assert not {"TopK", "Where"} & {node.op_type for node in proto.graph.node}
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, model(x).detach().numpy(), rtol=1e-4, atol=1e-5)


def test_export_at_the_threshold_itself_and_at_infinity():
    layer = Threshold(0.5)
    layer.threshold.fill_(0.1)
    x = np.array([[0.1, -math.inf, math.inf, 0.0]], np.float32)
    x = np.concatenate([x, np.nextafter(x, np.float32(math.inf))], axis=1)
    tensor = torch.from_numpy(x)
    session = onnxruntime.InferenceSession(to_onnx(layer, tensor).SerializeToString())
    (found,) = session.run(None, {"input": x})
    np.testing.assert_allclose(found, layer(tensor).numpy(), rtol=1e-6)
    np.testing.assert_array_equal(found != 0, layer(tensor).numpy() != 0)


def test_mistakes():
    with pytest.raises(UserError, match="density must be above 0"):
        Threshold(0.0)
    with pytest.raises(UserError, match=r"no threshold layers.*sparsify_activations"):
        calibrate(nn.Linear(2, 2), torch.randn(1, 2))
    layer = Threshold(0.5)
    with pytest.raises(UserError, match="used more than once"):
        calibrate(nn.Sequential(layer, layer), torch.randn(3, 2))
