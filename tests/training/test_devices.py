"""What a network learns on a GPU serves on the CPU as well."""

import pytest
import torch

from gossamer.training import Recipe, load_network, train

NETWORK = {"channels": [4], "hidden": 24, "epochs": 4, "batch_size": 20, "augment": False}
WINNERS = {"activation_density": [0.25, 0.25], "boost_strength": 1.0}
KINDS = {
    "dense": {"activation_density": [1.0, 1.0]},
    "masks and winners": {**WINNERS, "weight_density.linear1": 0.2, "rule": "granet"},
    "8 bits": {**WINNERS, "int8": True},
    "variational": {
        "activation_density": [1.0, 1.0],
        "variational": True,
        "optimizer": "adam",
        "learning_rate": 0.01,
        "penalty_end": 0.5,
    },
}


CUDA = [pytest.param(kind, "cuda", marks=pytest.mark.cuda) for kind in KINDS]
CPU = [
    pytest.param(kind, "cpu", marks=[] if kind == "masks and winners" else pytest.mark.slow)
    for kind in KINDS
]


@pytest.mark.parametrize(("kind", "device"), CPU + CUDA)
def test_trained_saved_resumed_and_read_on_the_cpu(kind, device, toy, interrupted, tmp_path):
    recipe = Recipe("toy", "speech_cnn", {**NETWORK, **KINDS[kind], "device": device})
    trained = train(recipe, toy, checkpoint=interrupted(recipe))
    assert next(trained.model.parameters()).device.type == device
    assert [epoch.epoch for epoch in trained.history.epochs] == [1, 2, 3, 4]
    evaluation = trained.evaluate(noise=False)
    assert evaluation.accuracy > 0.5
    trained.save(tmp_path / "run", evaluation)
    model, _, shape = load_network(tmp_path / "run")
    x = torch.rand(8, *shape)
    here = model(x)
    there = trained.model.eval()(x.to(device)).cpu()
    torch.testing.assert_close(here, there, rtol=1e-2, atol=1e-2)
