"""True sparse training gives what masked dense training gives, in the same loops."""

import copy
import io

import pytest
import torch
from tests.sparsity.fixed import fixed
from torch import nn

import gossamer as gs
from gossamer.errors import UserError
from gossamer.sparsity import SET, Magnitude, RigL, Static, TopK, Unstructured, sparsifiable_layers
from gossamer.sparsity.packed_layers import is_packed


class Network(nn.Module):
    """Convolutions, a layer used twice, tokens, a part without gradients, groups."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 16, 3, stride=2, padding=1)
        self.grouped = nn.Conv2d(16, 16, 3, padding=1, groups=2)
        self.twice = nn.Conv2d(16, 16, (1, 3), padding=(0, 2), dilation=(1, 2), bias=False)
        self.tokens = nn.Linear(16, 24)
        self.last = nn.Linear(24, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.first(x).relu()
        x = self.grouped(x).relu()
        x = self.twice(self.twice(x).relu()).relu()
        # [batch, tokens, features], not contiguous.
        return self.last(self.tokens(x.flatten(2).transpose(1, 2)).tanh()).mean(1)


ALL = ("first", "twice", "tokens", "last")


def make(
    optimizer=torch.optim.SGD, rule=None, layers=ALL, accelerate=True, attach=False, **options
):
    torch.manual_seed(3)
    model = Network()
    sparsifier = fixed(model, 0.25, rule=rule or Static(), total_steps=60)
    options = options or {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01}
    optimizer = optimizer(model.parameters(), **options)
    if attach:
        sparsifier.attach(optimizer)
    accelerator = None
    if accelerate:
        accelerator = gs.accelerate_sparse(model, sparsifier, optimizer, layers=layers)
    return model, sparsifier, optimizer, accelerator


def data(seed: int):
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(12, 2, 9, 7, generator=generator)
    return x, torch.randint(0, 5, (12,), generator=generator)


def train(model, sparsifier, optimizer, steps, first=0, parts=1, clip=None):
    losses = []
    for step in range(first, first + steps):
        optimizer.zero_grad()
        for part in range(parts):
            x, y = data(step * parts + part)
            loss = nn.functional.cross_entropy(model(x), y)
            loss.backward()
            losses.append(float(loss.detach()))
        if clip:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        optimizer.step()
        if sparsifier is not None:
            sparsifier.step()
    return losses


def same(one, two):
    assert set(one) == set(two)
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("optimizer", "options"),
    [
        (torch.optim.SGD, {"lr": 0.05, "momentum": 0.9, "weight_decay": 0.01, "nesterov": True}),
        (torch.optim.AdamW, {"lr": 0.01, "weight_decay": 0.1}),
        (torch.optim.Adam, {"lr": 0.01, "amsgrad": True}),
        (torch.optim.RMSprop, {"lr": 0.001, "foreach": False}),
    ],
)
def test_losses_and_weights_are_those_of_masked_dense_training(optimizer, options):
    ours = make(optimizer, **options)
    masked = make(optimizer, accelerate=False, **options)
    losses = train(*ours[:3], steps=15)
    assert {n for n, layer in sparsifiable_layers(ours[0]).items() if is_packed(layer)} == set(ALL)
    torch.testing.assert_close(losses, train(*masked[:3], steps=15), rtol=1e-4, atol=1e-5)
    same(ours[0].state_dict(), masked[0].state_dict())


def test_another_phase_of_training_is_accelerated_again():
    """The earlier accelerator is closed: its optimizer is not the one that trains the layers."""
    ours, masked = make(), make(accelerate=False)
    for model, sparsifier, optimizer, accelerator in (ours, masked):
        train(model, sparsifier, optimizer, steps=6)
        second = torch.optim.Adam(model.parameters(), lr=0.01)
        if accelerator:
            assert is_packed(model.tokens)
            gs.accelerate_sparse(model, sparsifier, second, layers=ALL)
            assert not is_packed(model.tokens)
            assert len(sparsifier.observers) == 1
        train(model, sparsifier, second, steps=6, first=6)
        if accelerator:
            assert is_packed(model.tokens)
            accelerator.close()  # as a ``finally`` of the first phase might: of no effect any more
            assert is_packed(model.tokens)
    same(ours[0].state_dict(), masked[0].state_dict())


def test_gradient_accumulation_and_an_attached_sparsifier():
    ours, masked = make(attach=True), make(attach=True, accelerate=False)
    for run in (ours, masked):
        train(run[0], None, run[2], steps=8, parts=3)
    assert ours[1].steps == 8
    assert is_packed(ours[0].twice)
    same(ours[0].state_dict(), masked[0].state_dict())


@pytest.mark.parametrize(
    "rule",
    [RigL(interval=20), SET(interval=20), Magnitude(interval=20)],
    ids=repr,
)
def test_rules_see_dense_weights_and_gradients(rule):
    ours = make(rule=rule, attach=True)
    masked = make(rule=rule, attach=True, accelerate=False)
    packed = []
    for step in range(45):
        loss = train(ours[0], None, ours[2], steps=1, first=step)
        expected = train(masked[0], None, masked[2], steps=1, first=step)
        torch.testing.assert_close(loss, expected, rtol=1e-3, atol=1e-4)
        packed.append(is_packed(ours[0].tokens))
        for name, mask in ours[1].masks.items():
            assert torch.equal(mask, masked[1].masks[name])
            weight = sparsifiable_layers(ours[0])[name].weight
            assert not weight[~mask].any()
    same(ours[0].state_dict(), masked[0].state_dict())
    # Dense in the steps 20 and 40, at whose ends the masks change.
    assert packed == [step not in (18, 38) for step in range(45)]


def test_masks_that_never_hold_still_are_never_packed():
    model, sparsifier, optimizer, accelerator = make(rule=TopK())
    train(model, sparsifier, optimizer, steps=4)
    assert not any(is_packed(layer) for layer in model.modules())
    assert accelerator.choices == {}


@pytest.mark.parametrize("steps", [96, 128, 256])
def test_short_trainings_are_packed_most_of_the_time(steps):
    torch.manual_seed(0)
    model = nn.Linear(16, 16)
    sparsifier = fixed(model, 0.25, rule=RigL(), total_steps=steps)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    gs.accelerate_sparse(model, sparsifier, optimizer, layers=[""])
    packed = 0
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(4, 16)).square().sum().backward()
        optimizer.step()
        sparsifier.step()
        packed += bool(sparsifier.packed)
    assert packed > steps / 2


def test_clipping_counts_the_weights_that_exist():
    model, sparsifier, optimizer, _ = make()
    train(model, sparsifier, optimizer, steps=3, clip=0.01)
    x, y = data(9)
    optimizer.zero_grad()
    nn.functional.cross_entropy(model(x), y).backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    plain = copy.deepcopy(model)
    nn.functional.cross_entropy(plain(x), y).backward()
    squares = 0.0
    for name, parameter in plain.named_parameters():
        mask = sparsifier.masks.get(name.removesuffix(".weight"))
        gradient = parameter.grad
        if mask is not None and name.endswith("weight"):
            gradient = gradient[mask]
        # The grouped convolution has no kernel and keeps its dense gradient.
        squares += float((parameter.grad if "grouped" in name else gradient).square().sum())
    assert float(norm) == pytest.approx(squares**0.5, rel=1e-4)


def test_the_layer_is_still_the_users_layer():
    model, sparsifier, optimizer, accelerator = make()
    parameters = dict(model.named_parameters())
    train(model, sparsifier, optimizer, steps=2)
    layer = model.tokens
    assert is_packed(layer)
    assert isinstance(layer, nn.Linear)
    assert dict(model.named_parameters()).keys() == parameters.keys()
    assert all(parameters[name] is p for name, p in model.named_parameters())
    assert layer.weight.shape == (24, 16)
    assert int((layer.weight != 0).sum()) == int(sparsifier.masks["tokens"].sum())
    assert layer._parameters["weight"].ndim == 2
    # A penalty on the dense weight reaches the values.
    optimizer.zero_grad()
    layer.weight.square().sum().backward()
    values = layer._parameters["weight"]
    torch.testing.assert_close(values.grad, 2 * values.detach())
    # Copies, saved states and whatever is loaded elsewhere are plain.
    x, _ = data(0)
    expected = model.eval()(x)
    for plain in (copy.deepcopy(model), Network()):
        plain.load_state_dict(model.state_dict())
        assert not any(is_packed(m) for m in plain.modules())
        torch.testing.assert_close(plain(x), expected, rtol=1e-4, atol=1e-5)
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    with torch.no_grad():
        torch.testing.assert_close(model(x), expected)
    with torch.inference_mode():
        torch.testing.assert_close(model(x), expected)
    with accelerator.plain():
        assert type(layer) is nn.Linear
        assert parameters["tokens.weight"].shape == (24, 16)
        torch.testing.assert_close(model(x), expected, rtol=1e-4, atol=1e-5)
    assert is_packed(layer)
    accelerator.close()
    assert not any(is_packed(m) for m in model.modules())
    train(model, sparsifier, optimizer, steps=2)
    assert not any(is_packed(m) for m in model.modules())


def test_other_types_devices_and_transforms_are_computed_densely():
    model, sparsifier, optimizer, _ = make()
    train(model, sparsifier, optimizer, steps=2)
    x, _ = data(0)
    expected = model(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert model.tokens(torch.randn(3, 16)).dtype == torch.bfloat16
    exported = torch.export.export(model, (x,)).module()
    torch.testing.assert_close(exported(x), expected, rtol=1e-4, atol=1e-5)
    each = torch.func.vmap(model)(x[:, None]).squeeze(1)
    torch.testing.assert_close(each, expected, rtol=1e-4, atol=1e-5)
    assert model(x[:0]).shape == (0, 5)
    single = model.first(x[0])
    torch.testing.assert_close(single, model.first(x)[0], rtol=1e-4, atol=1e-5)
    with pytest.raises(RuntimeError, match="shape"):
        model.tokens(torch.randn(3, 15))
    torch.testing.assert_close(
        copy.deepcopy(model).double()(x.double()).float(), expected, rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize(
    ("rule", "optimizer"),
    [(None, torch.optim.AdamW), (RigL(interval=20), torch.optim.AdamW)],
    ids=["static", "rigl"],
)
def test_saved_in_the_middle_and_resumed(rule, optimizer):
    options = {"optimizer": optimizer, "lr": 0.01}
    whole = make(rule=rule, attach=True, **options)
    train(whole[0], None, whole[2], steps=12)
    saved = [copy.deepcopy(part.state_dict()) for part in whole[:3]]
    shapes = {tuple(p.shape) for p in Network().parameters()}
    assert all(tuple(s["exp_avg"].shape) in shapes for s in saved[2]["state"].values())
    train(whole[0], None, whole[2], steps=14, first=12)
    resumed = make(rule=rule, attach=True, **options)
    train(resumed[0], None, resumed[2], steps=3, first=50)  # has been elsewhere, and is packed
    for part, state in zip(resumed[:3], saved, strict=True):
        part.load_state_dict(state)
    train(resumed[0], None, resumed[2], steps=14, first=12)
    same(resumed[0].state_dict(), whole[0].state_dict())
    for name, mask in whole[1].masks.items():
        assert torch.equal(mask, resumed[1].masks[name])


def test_layers_are_chosen_by_measurement():
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 8))
    sparsifier = fixed(model, 0.02)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = gs.accelerate_sparse(model, sparsifier, optimizer)
    for _ in range(2):
        model(torch.randn(256, 512)).square().mean().backward()
        optimizer.step()
        sparsifier.step()
    assert set(accelerator.choices) == {"0", "2"}
    for name, choice in accelerator.choices.items():
        assert choice.input_shape == (256, model[int(name)].in_features)
        assert choice.nonzeros == int(sparsifier.masks[name].sum())
        assert not choice.active
        assert choice.sparse == (choice.seconds < choice.dense_seconds)
        assert is_packed(model[int(name)]) == choice.sparse


class Winners(nn.Module):
    """Sparse layers behind k-winners, behind pooled ones, behind ReLU and behind neither."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3)
        self.begin = gs.nn.KWinners2d(16, 0.1, boost_strength=0.5)
        self.second = nn.Conv2d(16, 16, 3, padding=1, bias=False)
        self.spread = gs.nn.KWinners2d(16, 0.1, boost_strength=0.5)
        self.hidden = nn.Linear(16 * 5 * 5, 128)
        self.few = gs.nn.KWinners(128, 0.1, relu=True)
        self.tokens = nn.Linear(32, 32)
        self.last = nn.Linear(128, 16)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.second(self.begin(self.first(x)))
        x = nn.functional.max_pool2d(self.spread(x), 2)
        x = self.few(self.hidden(x.flatten(1)))
        return self.last(x + self.tokens(x.unflatten(1, (4, 32))).flatten(1))


def train_winners(accelerate, block, steps=12):
    torch.manual_seed(1)
    model = Winners()
    pattern = gs.Block(block) if block > 1 else Unstructured()
    rule = RigL(interval=5) if block == 1 else Static()
    sparsifier = fixed(model, 0.3, pattern=pattern, rule=rule, total_steps=steps)
    optimizer = torch.optim.SGD(model.parameters(), 0.05, momentum=0.9)
    sparsifier.attach(optimizer)
    accelerator = None
    if accelerate:
        names = [n for n in ("second", "hidden", "tokens", "last") if n in sparsifier.masks]
        accelerator = gs.accelerate_sparse(model, sparsifier, optimizer, layers=names)
    losses, active = [], set()
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        x = torch.randn(9, 1, 12, 12, generator=generator)
        y = torch.randint(0, 16, (9,), generator=generator)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
        active |= {n for n, m in model.named_modules() if is_packed(m) and m._active}
    if accelerator is not None:
        accelerator.close()
    return losses, model.state_dict(), active


@pytest.mark.parametrize("block", [1, 8, 16])
def test_active_inputs_alone_give_what_masked_dense_training_gives(block, monkeypatch):
    monkeypatch.setattr("gossamer.sparsity.accelerate.STEPS_TO_HOLD", 2)
    monkeypatch.setattr("gossamer.sparsity.accelerate.lists_pay", lambda *_: True)
    losses, state, active = train_winners(True, block)
    expected, wanted, _ = train_winners(False, block)
    assert active == {"second", "hidden", "tokens", "last"}
    torch.testing.assert_close(losses, expected, rtol=1e-4, atol=1e-5)
    same(state, wanted)


def test_layers_behind_winners_are_measured_at_active_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Linear(256, 1024), gs.nn.KWinners(1024, 0.05), nn.Linear(1024, 1024, bias=False)
    )
    sparsifier = fixed(model, 0.05, pattern=gs.Block(16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = gs.accelerate_sparse(model, sparsifier, optimizer)
    for _ in range(2):
        model(torch.randn(64, 256)).square().mean().backward()
        optimizer.step()
        sparsifier.step()
    first, last = accelerator.choices["0"], accelerator.choices["2"]
    assert first.input_density == 1.0
    assert first.active_seconds is None
    assert last.input_density == pytest.approx(0.05, abs=0.001)
    assert last.active == (last.active_seconds < last.seconds)
    assert model[2]._active == last.active
    with accelerator.plain():
        assert not is_packed(model[2])
    assert model[2]._active == last.active


def test_convolutions_behind_winners_are_measured_at_active_inputs():
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(1, 16, 3), gs.nn.KWinners2d(16, 0.05), nn.Conv2d(16, 32, 3, bias=False)
    )
    sparsifier = fixed(model, 0.1, pattern=gs.Block(16), exclude=["first"])
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    accelerator = gs.accelerate_sparse(model, sparsifier, optimizer)
    model(torch.randn(16, 1, 12, 12)).square().mean().backward()
    optimizer.step()
    sparsifier.step()
    choice = accelerator.choices["2"]
    assert choice.input_density == pytest.approx(0.05, abs=0.001)
    assert choice.active == (choice.active_seconds < choice.seconds)


def test_frozen_layers_and_shared_weights():
    model = nn.Sequential(nn.Linear(16, 16), nn.Tanh(), nn.Linear(16, 16), nn.Linear(16, 16))
    model[2].weight = model[0].weight
    sparsifier = fixed(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="layer '0' has no kernel"):
        gs.accelerate_sparse(model, sparsifier, optimizer, layers=["0"])
    with pytest.raises(UserError, match="no sparse layer '7'"):
        gs.accelerate_sparse(model, sparsifier, optimizer, layers=["7"])
    gs.accelerate_sparse(model, sparsifier, optimizer, layers=["3"])
    model(torch.randn(4, 16)).sum().backward()
    optimizer.step()
    sparsifier.step()
    assert is_packed(model[3])
    assert not is_packed(model[0])
    # Frozen from now on: no gradient is made, the layer still works.
    model[3].requires_grad_(False)
    optimizer.zero_grad()
    model(torch.randn(4, 16)).sum().backward()
    assert model[3]._parameters["weight"].grad is None
    assert model[0].weight.grad is not None


def test_nothing_to_accelerate():
    model = nn.Sequential(nn.Conv1d(3, 4, 3))
    sparsifier = fixed(model, 0.5)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with pytest.raises(UserError, match="no sparse layer of this model can be accelerated"):
        gs.accelerate_sparse(model, sparsifier, optimizer)


def test_wrapped_models_are_refused():
    model, sparsifier, optimizer, _ = make(accelerate=False)
    with pytest.raises(UserError, match="takes the plain model"):
        gs.accelerate_sparse(nn.DataParallel(model), sparsifier, optimizer)


def test_export_while_layers_wait_to_be_packed():
    model = make()[0]
    assert not any(map(is_packed, model.modules()))
    proto = gs.nn.to_onnx(model, torch.randn(2, 2, 9, 7))
    assert "Conv" in {node.op_type for node in proto.graph.node}


def test_export_holds_dense_weights():
    model, sparsifier, optimizer, _ = make()
    train(model, sparsifier, optimizer, steps=2)
    proto = gs.nn.to_onnx(model.tokens, torch.randn(2, 16))
    assert is_packed(model.tokens)
    assert (24, 16) in {tuple(i.dims)[::sign] for i in proto.graph.initializer for sign in (1, -1)}
    assert {node.op_type for node in proto.graph.node} <= {"Gemm", "MatMul", "Add", "Transpose"}
