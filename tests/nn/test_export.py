"""Export to ONNX, run by onnxruntime: what it computes and what the file holds."""

import copy
import os
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn

import gossamer.nn.onnx as module
from gossamer.errors import UserError
from gossamer.nn import KWinners, KWinners2d, export, k_winners_functions, to_onnx
from gossamer.runtime import Engine
from gossamer.training.loader import predict


def run(model: onnx.ModelProto, x: torch.Tensor) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return session.run(None, {"input": x.numpy()})[0]


class Branches(nn.Module):
    """All forms of k-winners side by side, each on the input itself."""

    def __init__(self) -> None:
        super().__init__()
        self.whole = KWinners2d(4, 0.25, boost_strength=1.0, inference_factor=1.5)
        self.local = KWinners2d(4, 0.5, local=True, boost_strength=2.0, relu=True)
        self.rows = KWinners(6, 0.3)
        self.all = KWinners2d(4, 1.0)
        for index, layer in enumerate((self.whole, self.local, self.rows), start=1):
            layer.duty_cycle.copy_(torch.arange(layer.units).remainder(index + 1) / 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.stack([self.whole(x), self.local(x), self.rows(x), self.all(x)], dim=1)


@pytest.fixture(scope="module")
def branches() -> tuple[Branches, onnx.ModelProto]:
    torch.manual_seed(0)
    model = Branches()
    return model, to_onnx(model, torch.randn(1, 4, 5, 6))


@pytest.mark.parametrize("batch", [1, 2, 5])
def test_onnxruntime_computes_the_same_with_ties(branches, batch):
    model, proto = branches
    x = torch.randn(batch, 4, 5, 6).mul(2).round()
    equal = torch.ones(batch, 4, 5, 6)
    reference = copy.deepcopy(model).eval()
    np.testing.assert_array_equal(run(proto, x), reference(x).numpy())
    np.testing.assert_array_equal(run(proto, equal), reference(equal).numpy())


def test_file_is_valid_and_its_batch_free(branches):
    _, proto = branches
    onnx.checker.check_model(proto, full_check=True)
    shape = proto.graph.input[0].type.tensor_type.shape.dim
    assert shape[0].dim_param
    assert [d.dim_value for d in shape[1:]] == [4, 5, 6]
    assert [i.name for i in proto.graph.input] == ["input"]
    assert [o.name for o in proto.graph.output] == ["output"]


def test_layers_are_functions_with_their_k(branches):
    _, proto = branches
    assert sorted(f.name for f in proto.functions) == ["KWinners", "KWinnersLocal"]
    calls = [
        (node.op_type, node.attribute[0].i)
        for node in proto.graph.node
        if node.domain == "gossamer"
    ]
    # 0.25 * 1.5 of 120, 0.5 of 4, 0.3 of 6; the layer in which all win is no layer at all.
    assert calls == [("KWinners", 45), ("KWinnersLocal", 2), ("KWinners", 2)]
    assert ("gossamer", 1) in {(o.domain, o.version) for o in proto.opset_import}


def test_nothing_of_this_machine_is_in_the_file(branches):
    _, proto = branches
    data = proto.SerializeToString()
    places = (Path(__file__).parents[2], Path(module.__file__).parent, sys.prefix, Path.home())
    for place in places:
        assert os.fsencode(str(place)) not in data
    assert b".py" not in data


def test_export_leaves_the_mode_and_the_buffers(branches):
    model, _ = branches
    assert model.training
    torch.testing.assert_close(model.state_dict(), Branches().state_dict(), rtol=0, atol=0)


def test_norms_frozen_in_evaluation_mode_stay_frozen(tmp_path):
    model = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).train()
    model[1].eval()
    export(model, torch.randn(2, 4), tmp_path / "model.onnx")
    predict(model, torch.randn(2, 4))
    assert [module.training for module in model.modules()] == [True, True, False]


def test_a_file_of_several_outputs_is_refused(tmp_path):
    class Two(nn.Module):
        def forward(self, x):
            return x + 1, x * 2

    with pytest.raises(UserError, match="Two returns tuple; return one tensor, or use to_onnx"):
        export(Two(), torch.randn(2, 4), tmp_path / "model.onnx")


def test_wrapped_models_are_exported(tmp_path):
    inner, x = nn.Linear(4, 3), torch.randn(2, 4)
    for wrapped in (nn.DataParallel(inner), torch.compile(inner, backend="eager")):
        np.testing.assert_allclose(run(to_onnx(wrapped, x), x), inner(x).detach(), rtol=1e-5)


def test_export_writes_only_the_functions_in_use(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(8, 3, bias=False), nn.ReLU())
    example = torch.randn(1, 2, 4)
    target = export(model, example, tmp_path / "dense.onnx")
    assert target == tmp_path / "dense.onnx"
    proto = onnx.load(target)
    onnx.checker.check_model(proto, full_check=True)
    assert not proto.functions
    x = torch.randn(4, 2, 4)
    np.testing.assert_allclose(run(proto, x), model(x).detach().numpy(), rtol=1e-5, atol=1e-6)
    assert os.listdir(tmp_path) == ["dense.onnx"], "no temporary file may stay"


def test_functions_alone_are_valid():
    for function in k_winners_functions():
        assert function.domain == "gossamer"
        assert list(function.input) == ["X", "boost"]
        assert list(function.attribute) == ["k"]
        assert {node.domain for node in function.node} == {""}, "standard operators only"


# ---------------------------------------------------------------- mistakes


class Unexportable(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x if x.sum().item() > 0 else -x


def test_unexportable_model_is_a_user_error():
    model = Unexportable().train()
    with pytest.raises(UserError, match="torch cannot export Unexportable to ONNX: ") as caught:
        to_onnx(model, torch.ones(2, 3))
    assert "data-dependent" in str(caught.value)
    assert str(caught.value).isprintable()
    assert "\n" not in str(caught.value)
    assert model.training


@pytest.fixture
def identity(monkeypatch) -> onnx.ModelProto:
    """Stands in for torch's slow exporter where only the writing is looked at."""
    value = onnx.helper.make_tensor_value_info
    proto = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Identity", ["input"], ["output"])],
            "graph",
            [value("input", onnx.TensorProto.FLOAT, ["batch", 3])],
            [value("output", onnx.TensorProto.FLOAT, ["batch", 3])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 18)],
    )
    monkeypatch.setattr(module, "to_onnx", lambda model, example: proto)
    return proto


def test_missing_folder_is_a_user_error(tmp_path, identity):
    with pytest.raises(UserError, match=r"cannot write .*model.onnx.*choose a place"):
        export(nn.Identity(), torch.ones(2, 3), tmp_path / "missing" / "model.onnx")


def test_failed_write_keeps_the_older_file(tmp_path, identity, monkeypatch):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")

    class Full:
        def SerializeToString(self):
            raise OSError(28, "No space left on device")

    monkeypatch.setattr(module, "store_sparse", lambda proto: Full())
    with pytest.raises(UserError, match="No space left on device"):
        export(nn.Identity(), torch.ones(2, 3), target)
    assert target.read_bytes() == b"older"
    assert os.listdir(tmp_path) == ["model.onnx"]


def test_wrong_network_is_not_written(tmp_path, identity):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")
    with pytest.raises(UserError, match=r"differs from torch by up to 1;.*nothing was written"):
        export(nn.Threshold(5.0, 0.0), torch.ones(2, 3), target)
    assert target.read_bytes() == b"older"


def test_weights_that_are_nan_are_refused(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    nn.init.constant_(model[1].bias, float("nan"))
    with pytest.raises(UserError, match=r"'1\.bias' holds NaN"):
        export(model, torch.ones(2, 3), tmp_path / "model.onnx")
    assert not (tmp_path / "model.onnx").exists()


def test_written_file_replaces_the_older_one(tmp_path, identity):
    target = tmp_path / "model.onnx"
    target.write_bytes(b"older")
    export(nn.Identity(), torch.ones(2, 3), str(target))
    assert onnx.load(target) == identity


@pytest.mark.parametrize("nonlinearity", ["tanh", "relu"])
@pytest.mark.parametrize(
    "options",
    [{"batch_first": True}, {"num_layers": 2, "bidirectional": True, "batch_first": True},
     {"bias": False}],
    ids=["one", "both directions", "sequences first"],
)  # fmt: skip
def test_a_plain_rnn(tmp_path, nonlinearity, options):
    class Network(nn.Module):
        def __init__(self):
            super().__init__()
            self.rnn = nn.RNN(4, 6, nonlinearity=nonlinearity, **options)

        def forward(self, x):
            y, last = self.rnn(x if self.rnn.batch_first else x.transpose(0, 1))
            y = y if self.rnn.batch_first else y.transpose(0, 1)
            return torch.cat([y.flatten(1), last.transpose(0, 1).flatten(1)], 1)

    torch.manual_seed(0)
    model, x = Network().eval(), torch.randn(3, 5, 4)
    path = export(model, x, tmp_path / "rnn.onnx")
    assert {node.op_type for node in onnx.load(path).graph.node} >= {"RNN"}
    for outputs in (Engine(path)(x.numpy()), run(onnx.load(path), x)):
        np.testing.assert_allclose(outputs, model(x).detach(), atol=1e-5)


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("groups", [2, 4])
def test_transposed_convolutions_in_groups(tmp_path, groups, bias):
    """ONNX's reference implementation, by which files are checked, fails at them."""
    torch.manual_seed(0)
    options = {"stride": 2, "padding": 1, "output_padding": 1, "groups": groups, "bias": bias}
    layer = nn.ConvTranspose2d(4, 8, 3, **options)
    x = torch.randn(2, 4, 5, 6)
    export(layer, x, tmp_path / "model.onnx")
    with torch.no_grad():
        expected = layer(x).numpy()
    assert np.allclose(run(onnx.load(tmp_path / "model.onnx"), x), expected, atol=1e-5)
    assert np.allclose(Engine(tmp_path / "model.onnx", threads=1)(x.numpy()), expected, atol=1e-5)


def test_an_export_that_cannot_be_checked_is_refused(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise RuntimeError("no such operator")

    monkeypatch.setattr(module, "ReferenceEvaluator", fail)
    with pytest.raises(UserError, match=r"cannot be checked.*no such operator.*to_onnx"):
        export(nn.Linear(2, 2), torch.randn(2, 2), tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_a_projection_of_an_lstm_is_refused():
    """Torch would write a file without it, which computes something else."""
    model = nn.Sequential(nn.LSTM(3, 4, proj_size=2, batch_first=True))
    with pytest.raises(UserError, match=r"torch drops that of '0' \(proj_size\)"):
        to_onnx(model, torch.zeros(2, 5, 3))


def test_weights_without_numbers_cannot_be_exported(tmp_path):
    x = torch.randn(2, 4)
    with torch.device("meta"):
        absent = nn.Linear(4, 2)
    for model, fault in ((absent, "on the meta device"), (nn.LazyLinear(2), r"\(lazy\); run one")):
        with pytest.raises(UserError, match=f"'weight' .*{fault}"):
            export(model, x, tmp_path / "x.onnx")
        with pytest.raises(UserError, match=f"'weight' .*{fault}"):
            to_onnx(model, x)


def test_numbers_that_numpy_does_not_have(tmp_path):
    model = nn.Linear(4, 2).to(torch.bfloat16)
    with pytest.raises(UserError, match=r"checked in torch.bfloat16.*model.float\(\)"):
        export(model, torch.randn(2, 4, dtype=torch.bfloat16), tmp_path / "x.onnx")
    assert not list(tmp_path.iterdir())


def test_weights_of_16_bits_are_half_as_many_bytes(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 36, 64)
    ).eval()
    x = torch.randn(2, 1, 8, 8)
    plain = export(model, x, tmp_path / "plain.onnx")
    short = export(model, x, tmp_path / "short.onnx", float16=True)
    assert short.stat().st_size < 0.55 * plain.stat().st_size
    found = run(onnx.load(short), x)
    assert 0 < np.abs(found - model(x).detach().numpy()).max() < 0.01
    np.testing.assert_allclose(Engine(short, threads=1)(x.numpy()), found, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        model[4].weight[0, 0] = 1e6
    with pytest.raises(UserError, match="export in 32 bits"):
        export(model, x, short, float16=True)
    np.testing.assert_array_equal(run(onnx.load(short), x), found)  # the old file stays
