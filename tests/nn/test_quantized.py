"""8-bit layers: by hand, gradients, with sparsity, calibration, and what is exported."""

import copy

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import gossamer as gs
from gossamer.errors import UserError
from gossamer.nn import export, quantized_layers, to_onnx, unrounded
from gossamer.runtime import store_sparse


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 5),
        nn.BatchNorm2d(8),
        nn.MaxPool2d(2),
        gs.KWinners2d(8, 0.2),
        nn.Conv2d(8, 8, 3, padding=1, groups=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(8 * 6 * 6, 20),
        gs.KWinners(20, 0.3),
        nn.Linear(20, 4),
    )


def inputs(count: int = 64) -> torch.Tensor:
    return torch.randn(count, 1, 16, 16, generator=torch.Generator().manual_seed(1))


def by_onnxruntime(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"input": x.numpy()})[0]


def test_by_hand():
    layer = nn.Linear(2, 2, bias=False)
    layer.weight.data = torch.tensor([[1.27, 0.5], [0.0, -2.54]])
    gs.quantize(layer).eval()
    layer.low.fill_(-1.27)
    layer.high.fill_(0.3)
    assert layer.weight_codes().tolist() == [[127, 50], [0, -127]]
    # Steps of 0.01: 0.304 is 30, 0.005 a tie that goes to the even 0, -9 is cut off at -128.
    y = layer(torch.tensor([[0.304, 0.0], [0.0, 0.005], [-9.0, 0.0]]))
    np.testing.assert_allclose(
        y.detach().numpy(),
        [[0.3 * 1.27, 0.0], [0.0, 0.0], [-1.28 * 1.27, 0.0]],
        rtol=1e-5,
        atol=1e-7,
    )
    layer.low.fill_(0.0)
    layer.high.fill_(2.55)
    y = layer(torch.tensor([[-1.0, 0.0], [9.0, 0.0]]))
    np.testing.assert_allclose(y[:, 0].detach().numpy(), [0.0, 2.55 * 1.27], rtol=1e-5)


def test_the_gradient_passes_where_nothing_was_cut_off():
    layer = gs.quantize(nn.Linear(3, 2)).eval()
    layer.low.fill_(-1.0)
    layer.high.fill_(1.0)
    x = torch.tensor([[0.5, 3.0, -0.2]], requires_grad=True)
    layer(x).sum().backward()
    columns = layer.weight.detach().sum(dim=0)
    np.testing.assert_allclose(x.grad[0].numpy()[[0, 2]], columns[[0, 2]].numpy(), rtol=0.05)
    assert x.grad[0, 1] == 0
    assert layer.weight.grad.abs().min() > 0


@given(st.integers(0, 2**32 - 1), st.floats(0.01, 100.0), st.booleans())
def test_fitted_ranges_round_within_half_a_step(seed, scale, positive):
    x = torch.randn(200, 8, generator=torch.Generator().manual_seed(seed)) * scale
    x = x.relu() if positive else x
    layer = gs.quantize(nn.Linear(8, 1))
    layer.fit(x)
    step, low, high = layer.input_grid()
    assert (float(low), float(high)) == ((0, 255) if positive else (-128, 127))
    inside = (x / step).clamp(low, high).round() * step
    worst = float((inside - x).square().mean())
    layer.low.copy_(x.min())
    layer.high.copy_(x.max())
    step, low, high = layer.input_grid()
    whole = float(((x / step).clamp(low, high).round() * step - x).square().mean())
    assert worst <= whole * (1 + 1e-6)
    assert whole <= float(step) ** 2 / 4 * (1 + 1e-4)


@pytest.mark.parametrize("first", [True, False], ids=["before", "after"])
def test_masks_survive_training(first):
    model = network()
    if first:
        gs.quantize(model)
    sparsifier = gs.Sparsifier(model, density=0.3, rule=gs.sparsity.SET(), total_steps=20)
    if not first:
        gs.quantize(model)
    names = set(model.state_dict())
    assert {"0.low", "9.high", "0.weight"} <= names
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    x, y = inputs(), torch.arange(64) % 4
    losses = []
    for _ in range(20):
        loss = nn.functional.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        sparsifier.step(optimizer)
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, mask in sparsifier.masks.items():
        layer = model.get_submodule(name)
        assert not layer.weight_codes()[~mask].any()
    assert all(layer.calibrated for layer in quantized_layers(model).values())
    again = gs.quantize(copy.deepcopy(network()))
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(x), model.eval()(x))


def test_calibrated_the_network_computes_nearly_the_same():
    model, x = network().eval(), inputs()
    with torch.no_grad():
        wanted = model(x)
        assert gs.quantize(model, x) is model
        found = model(x)
        assert not model.training
        with unrounded(model):
            assert torch.equal(model(x), wanted)
    off = (found - wanted).abs() / wanted.abs().max()
    assert float(off.mean()) < 0.05, "a few other winners at most"
    assert float(off.max()) > 0


def test_a_layer_used_twice_has_one_range():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(4, 4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(10 * self.layer(x))

    model, x = Twice(), torch.ones(8, 4)
    gs.quantize(model, x)
    with torch.no_grad():
        inner = 10 * model.layer(x)
    assert float(model.layer.low) <= min(0.9, float(inner.min()) * 0.9)
    assert float(model.layer.high) >= 1.0


def test_exported_it_computes_the_same():
    model, x = network(), inputs()
    gs.Sparsifier(model, density=0.3, rule=gs.sparsity.Static())
    gs.quantize(model, x)
    model.eval()
    proto = to_onnx(model, x[:2])
    onnx.checker.check_model(proto, full_check=True)
    assert "weight_int8" not in dict(model.named_buffers())
    with torch.no_grad():
        wanted = model(x[:5]).numpy()
    found = by_onnxruntime(proto, x[:5])
    # The last bit of a float sum may turn a code, and a tie between winners.
    close = np.isclose(found, wanted, rtol=1e-3, atol=0.03 * np.abs(wanted).max())
    assert close.mean() > 0.9
    codes = [t for t in proto.graph.initializer if t.data_type == onnx.TensorProto.INT8 and t.dims]
    assert [list(t.dims) for t in codes] == [[8, 1, 5, 5], [8, 4, 3, 3], [20, 288], [4, 20]]
    assert [n.op_type for n in proto.graph.node].count("QuantizeLinear") == 4
    # Unsigned behind k-winners and ReLU, signed for the input.
    kinds = {t.name: t.data_type for t in proto.graph.initializer}
    zeros = [kinds[n.input[2]] for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    assert zeros[0] == onnx.TensorProto.INT8
    assert zeros[2] == onnx.TensorProto.UINT8
    np.testing.assert_array_equal(by_onnxruntime(store_sparse(proto), x[:5]), found)


def test_a_sparse_file_takes_two_bytes_for_a_weight(tmp_path):
    torch.manual_seed(0)
    model, x = nn.Sequential(nn.Linear(500, 400), nn.ReLU(), nn.Linear(400, 10)), torch.ones(9, 500)
    gs.Sparsifier(model, density=0.1, rule=gs.sparsity.Static())
    gs.quantize(model, x)
    size = export(model, x, tmp_path / "model.onnx").stat().st_size
    nonzero = 0.1 * 204_000
    assert 2 * nonzero < size < 2 * nonzero + 8000


@pytest.mark.parametrize(("density", "width"), [(1.0, 16), (0.05, 512)])
def test_a_file_of_8_bits_is_no_larger_than_one_of_floats(tmp_path, density, width):
    """Of small networks, where what is not weights counts most."""
    torch.manual_seed(0)
    layers = (nn.Linear(64, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Linear(width, 3))
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), *layers)
    x = torch.randn(16, 1, 6, 6)
    if density < 1:
        gs.Sparsifier(model, density=density, rule=gs.sparsity.Static())
    model(x)
    floats = export(model, x, tmp_path / "floats.onnx").stat().st_size
    gs.quantize(model, x)
    proto = to_onnx(model, x)
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}
    with torch.no_grad():
        wanted = model.eval()(x).numpy()
    np.testing.assert_allclose(by_onnxruntime(proto, x), wanted, rtol=1e-3, atol=1e-2)
    codes = export(model, x, tmp_path / "codes.onnx").stat().st_size
    assert codes <= floats, f"{codes} bytes against {floats}"


@pytest.mark.parametrize("density", [0.001, 0.004, 0.02])
@pytest.mark.parametrize("convolutions", [False, True])
def test_a_very_sparse_file_of_8_bits_is_no_larger(tmp_path, density, convolutions):
    """Where steps and nodes take more than the weights save, layers stay in 32 bits."""
    torch.manual_seed(0)
    shape, layers = (64,), [nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 10)]
    if convolutions:
        shape = (3, 8, 8)
        layers = [nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 24, 3),
                  nn.BatchNorm2d(24), nn.ReLU(), nn.Flatten(), nn.Linear(24 * 16, 10)]  # fmt: skip
    model, x = nn.Sequential(*layers), torch.randn(16, *shape)
    model(x)
    with torch.no_grad():
        for weight in (p for p in model.parameters() if p.dim() > 1):
            weight *= torch.rand(weight.shape) < density
    floats = export(model, x, tmp_path / "floats.onnx").stat().st_size
    with torch.no_grad():
        wanted = model.eval()(x).numpy()
    gs.quantize(model, x)
    file = export(model, x, tmp_path / "codes.onnx")
    assert file.stat().st_size <= floats
    found = gs.Engine(file)(x.numpy())
    np.testing.assert_allclose(found, wanted, atol=0.05 * np.abs(wanted).max())
    assert all(layer.rounding for layer in quantized_layers(model).values())


def test_only_the_layers_that_save_nothing_stay_in_32_bits(tmp_path):
    """One dense layer, and many without a weight, whose steps alone outweigh what it saves."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(64, 16), *(nn.Linear(16, 16) for _ in range(12)))
    for layer in list(model)[1:]:
        layer.weight.data = torch.eye(16)
    x = torch.randn(16, 64)
    floats = export(model, x, tmp_path / "floats.onnx").stat().st_size
    gs.quantize(model, x)
    file = export(model, x, tmp_path / "codes.onnx")
    assert file.stat().st_size <= floats
    kinds = [tensor.data_type for tensor in onnx.load(file).graph.initializer if tensor.dims]
    assert onnx.TensorProto.INT8 in kinds


@pytest.mark.parametrize(
    ("build", "shape", "settings"),
    [
        (gs.models.ds_cnn, (1, 8, 8), {"width": 8, "blocks": 1}),
        (gs.models.vit, (1, 8, 8), {"width": 8, "layers": 1, "head_size": 4}),
        pytest.param(*(gs.models.bc_resnet, (1, 40, 32), {"width": 1.0}), marks=pytest.mark.slow),
        pytest.param(
            *(gs.models.resnet, (1, 8, 8), {"blocks": (1, 1), "width": 4}), marks=pytest.mark.slow
        ),
    ],
)
def test_the_smallest_reference_networks_are_no_larger_in_8_bits(build, shape, settings):
    torch.manual_seed(0)
    model = build(4, input_shape=shape, **settings)
    x = torch.rand(8, *shape)
    for norm in model.modules():
        if isinstance(norm, nn.BatchNorm2d):  # as training leaves them: equal ones are stored once
            for values in (norm.weight, norm.bias, norm.running_mean, norm.running_var):
                nn.init.uniform_(values, 0.5, 1.5)
    gs.Sparsifier(model, density=0.5, rule=gs.sparsity.Static())
    floats = store_sparse(to_onnx(model, x))
    codes = store_sparse(to_onnx(gs.quantize(model, x), x))
    assert codes.ByteSize() <= floats.ByteSize()
    assert not any(part.metadata_props for part in (*codes.graph.node, *codes.graph.input))
    with torch.no_grad():
        wanted = model.eval()(x).numpy()
    # The last bit of a float sum may turn a code.
    atol = 0.05 * np.abs(wanted).max()
    np.testing.assert_allclose(by_onnxruntime(codes, x), wanted, rtol=1e-3, atol=atol)


def test_wrong_use_is_an_error():
    with pytest.raises(UserError, match="nothing to give 8 bits"):
        gs.quantize(nn.ReLU())
    with pytest.raises(UserError, match="no sparsifiable layer 'zero'"):
        gs.quantize(network(), exclude=["zero"])
    model = gs.quantize(network(), exclude=["first", "last"])
    assert list(quantized_layers(model)) == ["4", "7"]
    with pytest.raises(UserError, match="seen no data"):
        model.eval()(inputs())
    with pytest.raises(UserError, match="seen no data"):
        to_onnx(model, inputs())
    for batch, message in (
        (torch.full((2, 1, 16, 16), torch.inf), "finite"),
        (torch.zeros(2, 1, 16, 16), "all zero"),
        (torch.ones(0, 1, 16, 16), "empty"),
    ):
        with pytest.raises(UserError, match=message):
            gs.quantize(network(), batch)
    broken = network()
    nn.init.constant_(broken[4].bias, torch.nan)
    with pytest.raises(UserError, match="layer '7': its inputs hold NaN"):
        gs.quantize(broken, inputs())
    with pytest.raises(UserError, match="VariationalLinear"):
        gs.quantize(gs.nn.to_variational(nn.Sequential(nn.Linear(2, 2))))


def test_attention_stays_in_32_bits():
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    model, x = nn.Sequential(layer, nn.Flatten(), nn.Linear(32, 3)), torch.randn(64, 4, 8)
    with torch.no_grad():
        floats = model.eval()(x).numpy()
        gs.quantize(model, x)
        wanted = model(x).numpy()
    assert list(quantized_layers(model)) == ["0.linear1", "0.linear2", "2"]
    np.testing.assert_allclose(wanted, floats, atol=0.05)
    found = by_onnxruntime(to_onnx(model, x), x)
    np.testing.assert_allclose(found, wanted, rtol=1e-3, atol=0.02)
