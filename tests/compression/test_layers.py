"""Every kind of layer that can be compressed, from end to end."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gossamer.compression import compress
from gossamer.sparsity import sparsifiable_weights

EXAMPLES, CHANNELS, STEPS = 64, 8, 12


class Conv1d(nn.Sequential):
    def __init__(self):
        super().__init__(
            nn.Conv1d(CHANNELS, 16, 3, padding=1),
            nn.BatchNorm1d(16),
            nn.ReLU(),
            nn.Conv1d(16, 16, 3),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(160, 3),
        )


class Depthwise(nn.Sequential):
    """The depthwise convolution stays dense."""

    def __init__(self):
        super().__init__(
            nn.Conv1d(CHANNELS, CHANNELS, 3, groups=CHANNELS),
            nn.ReLU(),
            nn.Conv1d(CHANNELS, 16, 1),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(160, 3),
        )


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.layer = kind(CHANNELS, 16, batch_first=True)
        self.output = nn.Linear(16, 3)

    def forward(self, x):
        return self.output(self.layer(x.transpose(1, 2))[0][:, -1])


class Encoder(nn.Module):
    """Attention and a table of positions, which stays dense."""

    def __init__(self):
        super().__init__()
        self.position = nn.Parameter(0.1 * torch.randn(STEPS, CHANNELS))
        self.layer = nn.TransformerEncoderLayer(CHANNELS, 2, 16, batch_first=True)
        self.output = nn.Linear(CHANNELS, 3)

    def forward(self, x):
        return self.output(self.layer(x.transpose(1, 2) + self.position).mean(dim=1))


NETWORKS = {
    "conv1d": (Conv1d, {"0", "3", "6"}, set()),
    "depthwise": (Depthwise, {"2", "5"}, {"0.weight"}),
    "lstm": (lambda: Recurrent(nn.LSTM), {"layer.weight_ih_l0", "layer.weight_hh_l0"}, set()),
    "gru": (lambda: Recurrent(nn.GRU), {"layer.weight_ih_l0", "layer.weight_hh_l0"}, set()),
    "encoder": (
        Encoder,
        {"layer.self_attn.in_proj_weight", "layer.self_attn.out_proj", "layer.linear1"},
        {"position"},
    ),
}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
def test_a_network_of_every_kind_of_layer(kind, tmp_path):
    """The weights are masked, the file computes what the module does, dense ones are listed."""
    build, sparse, dense = NETWORKS[kind]
    torch.manual_seed(0)
    x, y = torch.randn(EXAMPLES, CHANNELS, STEPS), torch.arange(EXAMPLES) % 3
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    found = compress(
        build().eval(),
        {"train": loader, "test": loader},
        at_least={"accuracy": 0.0},
        at_most={"density": 0.6},
        trials=2,
        out=tmp_path,
        progress=False,
    )
    trials = found.experiment.trials()
    assert [trial.state for trial in trials] == ["complete", "complete"]
    weights = sparsifiable_weights(found.model)
    assert sparse <= set(weights)
    for name in sparse:
        assert 0 < torch.count_nonzero(weights[name].parameter) < weights[name].parameter.numel()
    nonzero = sum(int(torch.count_nonzero(w.parameter)) for w in weights.values())
    assert nonzero == found.sparse["weights"]["nonzero"]
    for name in dense:
        assert any(line.startswith(f"stays dense: {name}, ") for line in found.look)
        assert next(line for line in found.look if name in line).endswith("%")
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    (given,) = session.run(None, {session.get_inputs()[0].name: x[:4].numpy()})
    np.testing.assert_allclose(given, found.model(x[:4]).detach(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*hardly more than by guessing")
@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
def test_an_encoder_is_tuned_with_fewer_active_units(tmp_path):
    """Trained further with k-winners in place of its activation, and learning from itself."""
    torch.manual_seed(0)
    x, y = torch.randn(EXAMPLES, CHANNELS, STEPS), torch.arange(EXAMPLES) % 3
    loader = DataLoader(TensorDataset(x, y), batch_size=16)
    found = compress(
        Encoder().eval(),
        {"train": loader, "test": loader},
        at_least={"accuracy": 0.0},
        at_most={"density": 0.05, "activation_density": 0.25},
        trials=3,
        out=tmp_path,
        progress=False,
    )
    trained = found.experiment.trials()[2]  # two patterns are pruned at once before
    assert trained.state == "complete"
    assert trained.parameters["epochs"] > 0
    assert trained.parameters["teacher_share"] == 0.9
    assert trained.values["activation_density"] <= 0.25
    assert trained.noise["speedup"] >= 0.0
