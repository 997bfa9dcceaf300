"""Tests that every network of the table must pass; new ones are included without a change here."""

import numpy as np
import onnxruntime
import pytest
import torch
from torch import nn
from torch.nn import functional

import gossamer as gs
from gossamer.errors import UserError
from gossamer.models import MODELS, reference
from gossamer.nn import KWinners, KWinners2d, to_onnx
from gossamer.sparsity import mu_parametrize, sparsifiable_weights

# Settings that make a network small, and its input. The rest is small enough.
SMALL = {
    "resnet18": ({"width": 4, "blocks": (1, 1)}, (2, 12, 12)),
    "resnet20": ({"width": 4, "blocks": (1, 1)}, (2, 12, 12)),
    "resnet50": ({"width": 4, "blocks": (1, 1)}, (2, 12, 12)),
    "ds_cnn": ({"width": 12, "blocks": 2}, (1, 16, 12)),
    "mobilenet": ({"width": 0.125}, (3, 32, 32)),
    "tc_resnet": ({"width": 0.5}, (1, 8, 16)),
    "bc_resnet": ({"width": 0.5}, (1, 16, 10)),
    "vit": ({"width": 16, "head_size": 8, "layers": 2}, (1, 8, 12)),
    "bert": ({"width": 16, "head_size": 8, "vocabulary": 30}, (9,)),
    "mlp": ({"hidden": 24}, (2, 8, 8)),
}
CNN = ({"channels": (4, 6), "hidden": 20, "activation_density": (1.0, 1.0, 1.0)}, (1, 20, 20))
# Widths that a network can be made wider by, for SµPar.
WIDER = {"mobilenet": {"width": 0.25}, "mlp": {"hidden": 48}}
WIDER |= {name: {"width": 2 * SMALL[name][0]["width"]} for name in SMALL if name not in WIDER}
# Exported in the quick suite; the others take longer.
QUICK = ("resnet18", "ds_cnn", "bert")


def made(name: str, **changes) -> tuple[nn.Module, torch.Tensor]:
    ref = reference(name)
    small, shape = SMALL.get(name, CNN)
    known = {k: v for k, v in ref.settings.items() if k in ("blocks", "bottleneck")}
    torch.manual_seed(0)
    model = ref.build(classes=3, input_shape=shape, **{**known, **small, **changes})
    x = torch.randint(0, 30, (6, *shape)) if name == "bert" else torch.randn(6, *shape)
    return model, x.float()


def sparse(name: str, density: float) -> tuple[nn.Module, torch.Tensor]:
    stages = len(SMALL.get(name, CNN)[0].get("activation_density", ())) or None
    return made(name, activation_density=(density,) * stages if stages else density)


EACH = pytest.mark.parametrize("name", MODELS)


@EACH
def test_logits_and_gradients(name):
    for model, x in (made(name), sparse(name, 0.25)):
        for mode in (True, False):
            assert model.train(mode)(x).shape == (6, 3)
        model.train()(x).square().sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@EACH
def test_activation_density(name):
    model, x = sparse(name, 0.25)
    layers = [m for m in model.modules() if isinstance(m, KWinners | KWinners2d)]
    assert layers
    assert not any(isinstance(m, KWinners | KWinners2d) for m in made(name)[0].modules())
    shares = []
    for layer in layers:
        layer.register_forward_hook(lambda _, __, y: shares.append(float((y != 0).float().mean())))
    model.eval()(x)
    assert len(shares) == len(layers)
    # As near to it as whole units allow.
    assert all(share <= 0.25 + 1 / 6 for share in shares)
    with pytest.raises(UserError, match="density must be above 0 and at most 1"):
        sparse(name, 1.5)
    with pytest.raises(UserError, match=r"activation_density needs .*not 50"):
        made(name, activation_density=(0.5,) * 50)


@EACH
def test_masks_of_any_density(name):
    model, x = made(name)
    sparsifier = gs.Sparsifier(model, 0.5, rule=gs.sparsity.Static())
    assert set(sparsifier.masks) <= set(sparsifiable_weights(model))
    assert model(x).isfinite().all()


@EACH
def test_activations_of_a_dense_one_become_sparse(name):
    model, x = made(name)
    model = gs.sparsify_activations(model, 0.25, example=x[:1])
    assert any(isinstance(module, KWinners | KWinners2d) for module in model.modules())
    sparsifier = gs.Sparsifier(model, 0.3, rule=gs.sparsity.Static())
    model(x).square().sum().backward()
    assert all(weight.tensor.grad.isfinite().all() for weight in sparsifier.weights.values())


@EACH
def test_learns(name):
    """Six examples by heart, with sparse weights and activations."""
    model, x = sparse(name, 0.5)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    gs.Sparsifier(model, 0.7, rule=gs.sparsity.Static()).attach(optimizer)
    y = torch.tensor([0, 1, 2, 0, 1, 2])
    first = None
    for _ in range(40):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        first = first if first is not None else float(loss.detach())
    assert float(loss.detach()) < 0.5 * first


def exported(name, density):
    """Compare the exported network with ONNX Runtime and the engine."""
    model, x = made(name) if density == 1.0 else sparse(name, density)
    # Norms as after a training, so that folding them is looked at too.
    model.train()(x)
    model.eval()
    proto = to_onnx(model, x[:2])
    expected = model(x).detach().numpy()
    session = onnxruntime.InferenceSession(proto.SerializeToString())
    (found,) = session.run(None, {"input": x.numpy()})
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    engine = gs.Engine(proto.SerializeToString())
    np.testing.assert_allclose(engine(x.numpy()), expected, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", QUICK)
def test_exported_quickly(name):
    exported(name, 0.25)


@EACH
@pytest.mark.parametrize("density", [0.25, 1.0])
@pytest.mark.slow
def test_exported_and_in_the_engine(name, density):
    exported(name, density)


@EACH
def test_supar_scales_it(name):
    wider = WIDER.get(name, {"channels": (8, 12), "hidden": 40})
    model, base = made(name, **wider)[0], made(name)[0]
    scaling = mu_parametrize(model, base)
    assert set(scaling.scales) == {n for n, _ in model.named_parameters()}
    output = next(n for n in reversed(scaling.scales) if n.endswith("output.weight"))
    assert scaling.scales[output].learning_rate == 0.5
    assert {s.learning_rate for n, s in scaling.scales.items() if n.endswith("bias")} <= {1.0}
