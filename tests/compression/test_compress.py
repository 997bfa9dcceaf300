"""From a trained network to a sparse one, for every kind of network and data."""

import json
import math
import os
from copy import deepcopy
from functools import partial

import numpy as np
import onnxruntime
import pytest
import torch
from safetensors.torch import save_file
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from gossamer.cli import main
from gossamer.compression import compress, modules
from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.search import Experiment, networks
from gossamer.training import load_network
from gossamer.training import trained as training

NAMED = ("net.py:build", "net.py:data")
QUICK = {"progress": False, "out": "out"}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--at-least", "accuracy"], "--at-least accuracy: write it as NAME=NUMBER"),
        (["--maximize", "speed"], "maximize: no metric 'speed'; did you mean 'speedup'"),
        (["--at-most", "accuracy=0.9"], "at_most accuracy: more is better; use at_least"),
        (["--set", "x"], "--set x: write it as name=value"),
        (["--weights", "none.safetensors"], "none.safetensors: cannot be read"),
        ([], "hardly more than by guessing: give its weights"),
    ],
)
def test_one_line_says_what_is_wrong(place, monkeypatch, capsys, arguments, message):
    monkeypatch.setattr("sys.argv", ["gossamer", "compress", *NAMED, *arguments, "--out", "out"])
    torch.manual_seed(1)  # of a network without weights
    with pytest.raises(SystemExit) as ended:
        main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert message in error
    assert error.count("\n") == 1
    assert not (place / "out").exists()


def test_a_run_does_not_lose_its_network(place):
    (place / "run").mkdir()
    (place / "run" / "config.toml").write_text("task")
    with pytest.raises(UserError, match=r"run is a run, whose model\.onnx would be lost; choose"):
        compress(*NAMED, progress=False, out="run")


def test_a_network_at_chance_level_is_warned_of(place, examples, monkeypatch):
    """From Python and from the command, of a module and of given weights."""
    torch.manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 3))
    with pytest.warns(UserWarning, match="Sequential answers .*hardly more than by guessing, so"):
        compress(model, examples, plan=True, out="module", progress=False)
    save_file(model.state_dict(), "untrained.safetensors")
    weights = ["--weights", "untrained.safetensors"]
    command = ["gossamer", "compress", *NAMED, *weights, "--plan", "--out", "out"]
    monkeypatch.setattr("sys.argv", command)
    with pytest.warns(
        UserWarning, match=r"net.py:build answers .*hardly more than by guessing, so"
    ):
        main()


def test_arguments_of_the_other_kind_of_network(trained):
    with pytest.raises(UserError, match="are for a torch module"):
        compress("mlp", "x.npz", evaluate=lambda model: 1.0)
    with pytest.raises(UserError, match="trials must be a whole number of at least 1, not 0"):
        compress("mlp", "x.npz", trials=0)
    with pytest.raises(UserError, match="a module has its own"):
        compress(trained, None, weights="x.safetensors")
    with pytest.raises(UserError, match="train needs evaluate"):
        compress(trained, None, train=lambda model, sparsifier: None)


@pytest.mark.slow
def test_a_plan_is_an_experiment_and_is_followed(place, monkeypatch, capsys):
    """The file is written once, may be changed, and is what the same command searches."""
    call = ["gossamer", "compress", *NAMED, "--weights", "weights.safetensors", "--out", "out"]
    monkeypatch.setattr("sys.argv", [*call, "--plan"])
    main()
    assert "out/experiment.toml: read and change it" in capsys.readouterr().out
    assert sorted(os.listdir("out")) == ["dense", "experiment.toml"]
    file = place / "out" / "experiment.toml"
    assert "# dense: speedup 1, accuracy" in file.read_text()
    file.write_text(file.read_text().replace("high = 0.7", "high = 0.6"))
    monkeypatch.setattr("sys.argv", [*call, "--trials", "2", "--json"])
    main()
    found = json.loads(capsys.readouterr().out)
    (bound,) = (p for p in Experiment.from_toml(file).parameters if p.name == "weight_density")
    assert bound.high == 0.6
    assert found["dense"]["accuracy"] > 0.9
    model, _, _ = load_network("out/sparse", trust=True)
    x = np.random.default_rng(0).standard_normal((4, 16)).astype(np.float32)
    wanted = model(torch.from_numpy(x)).detach().numpy()
    np.testing.assert_allclose(Engine("out/model.onnx", threads=1)(x), wanted, atol=1e-5)
    assert json.loads((place / "out" / "plan.json").read_text())["network"]
    with pytest.raises(UserError, match="has other goals than these"):
        compress(*NAMED, weights="weights.safetensors", maximize="throughput", **QUICK)
    with pytest.raises(UserError, match=r"is of task net.py:data, not toy.npz"):
        compress("net.py:build", "toy.npz", weights="weights.safetensors", **QUICK)


@pytest.mark.slow
def test_a_reference_network_and_then_its_run(place):
    """A name without weights is trained first; the run that is left can be compressed too."""
    settings = {"hidden": 16, "epochs": 2, "batch_size": 16}
    first = compress("mlp", "toy.npz", settings=settings, trials=1, **QUICK)
    assert first.trial is not None
    assert first.dense["accuracy"] > 0.8
    again = compress("out/dense", "toy.npz", trials=1, progress=False, out="again")
    assert again.dense["accuracy"] == first.dense["accuracy"]
    assert again.dense["weights"]["nonzero"] == first.dense["weights"]["nonzero"]


@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
@pytest.mark.parametrize("named", [True, False])
def test_the_test_split_is_read_at_the_end_alone(place, monkeypatch, trained, examples, named):
    """The dense network's and the chosen one's answers, once each; the data are read once."""
    events = []
    evaluate, tell, load = modules.evaluate, Experiment.tell, networks.load

    def evaluated(model, task, split="test", **options):
        events.append(split)
        return evaluate(model, task, split, **options)

    def noted(self, *arguments, **named):
        events.append("trial")
        return tell(self, *arguments, **named)

    def loaded(*arguments, **named):
        events.append("data")
        return load(*arguments, **named)

    for module in (training, modules):
        monkeypatch.setattr(module, "evaluate", evaluated)
    monkeypatch.setattr(Experiment, "tell", noted)
    monkeypatch.setattr(networks, "load", loaded)
    if named:
        compress(*NAMED, weights="weights.safetensors", trials=2, **QUICK)
    else:
        loader = DataLoader(TensorDataset(*map(torch.from_numpy, examples)), batch_size=32)
        compress(trained, {"train": loader, "test": loader}, trials=2, **QUICK)
    trials = ["validation", "trial"] * 2
    assert events == [*(["data"] if named else []), "validation", *trials, "test", "test"]


@pytest.mark.slow
def test_ctrl_c_ends_with_the_best_so_far_and_the_same_call_goes_on(place, monkeypatch):
    ends = []
    tell = Experiment.tell

    def interrupt(self, *arguments, **named):
        found = tell(self, *arguments, **named)
        ends.append(found.number)
        if len(ends) == 2:
            raise KeyboardInterrupt
        return found

    monkeypatch.setattr(Experiment, "tell", interrupt)
    call = {"weights": "weights.safetensors", "trials": 3, **QUICK}
    stopped = compress(*NAMED, **call)
    assert stopped.interrupted
    assert stopped.trial.number in (0, 1)
    assert (place / "out" / "model.onnx").is_file()
    done = compress(*NAMED, **call)
    assert not done.interrupted
    assert ends == [0, 1, 2]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
def test_a_module_and_its_loaders(trained, examples, tmp_path):
    x, y = map(torch.from_numpy, examples)
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    before = {name: value.clone() for name, value in trained.state_dict().items()}
    found = compress(
        trained,
        {"train": loader, "test": loader},
        at_least={"accuracy": 0.5},
        at_most={"density": 0.6},
        trials=1,
        out=tmp_path / "out",
        progress=False,
    )
    assert found.feasible
    assert found.sparse["accuracy"] >= 0.5
    assert all(torch.equal(value, before[name]) for name, value in trained.state_dict().items())
    weight = found.model[0].weight
    kept = weight != 0
    assert 0 < kept.sum() < weight.numel()
    assert torch.equal(weight[kept], before["0.weight"][kept])  # pruned at once
    session = onnxruntime.InferenceSession(tmp_path / "out" / "model.onnx")
    (given,) = session.run(None, {session.get_inputs()[0].name: examples[0][:4]})
    np.testing.assert_allclose(given, found.model(x[:4]).detach(), atol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("answer", "found"),
    [
        (lambda x: x.flatten(1)[:, :1], r"\[2, 1\]"),
        (lambda x: x.flatten(1)[:, 0], r"\[2\]"),
        (lambda x: (x.flatten(1), x), "tuple"),
        (lambda x: {"logits": x.flatten(1)}, "dict"),
    ],
)
def test_a_module_that_does_not_answer_with_classes(tmp_path, answer, found):
    class Answers(nn.Module):
        def forward(self, x):
            return answer(x)

    x, y = np.ones((60, 8), np.float32), np.arange(60) % 3
    with pytest.raises(UserError, match=rf"returns {found} for 2 examples; .*\[batch, 3\]"):
        compress(Answers(), (x, y), out=tmp_path)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("wrap", [nn.DataParallel, partial(torch.compile, backend="eager")])
def test_wrapped_modules_and_other_widths(trained, examples, tmp_path, dtype, wrap):
    """The module inside is compressed, in the width that the engine computes in."""
    network = modules.ModuleNetwork(wrap(deepcopy(trained).to(dtype)), examples, tmp_path)
    assert type(network.model) is nn.Sequential
    assert {p.dtype for p in network.model.parameters()} == {torch.float32}


@pytest.mark.filterwarnings("ignore:.* examples are (training|validation) examples too")
def test_two_workers_compress_one_network(trained, examples, tmp_path):
    """Each in a process of its own, measuring by turns; the best is published here."""
    x, y = map(torch.from_numpy, examples)
    loader = DataLoader(TensorDataset(x, y), batch_size=32)
    data = {"train": loader, "test": loader}
    out = tmp_path / "out"
    result = compress(
        trained, data, trials=3, workers=2, threads=1, out=out, progress=False, maximize="accuracy"
    )
    trials = result.experiment.trials()
    assert [trial.state for trial in trials] == ["complete"] * 3
    assert len({trial.values["nonzero"] for trial in trials}) > 1
    assert (out / "model.onnx").read_bytes() == (out / "sparse" / "model.onnx").read_bytes()
    again = compress(
        trained, data, trials=3, workers=2, threads=1, out=out, progress=False, maximize="accuracy"
    )
    assert [t.number for t in again.experiment.trials()] == [0, 1, 2]  # nothing is left to do


@pytest.mark.slow
def test_a_regression_with_ones_own_training(tmp_path):
    """No classes anywhere: the metric and the loop are the user's."""
    torch.manual_seed(0)
    x = torch.randn(256, 16)
    y = x[:, :1] * 2 - x[:, 1:2]
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))
    trainings = []

    def train(network, sparsifier, steps=60):
        optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
        for _ in range(steps):
            optimizer.zero_grad()
            nn.functional.mse_loss(network(x), y).backward()
            optimizer.step()
            if sparsifier is not None:
                sparsifier.step()
        trainings.append(steps)

    def evaluate(network):
        with torch.no_grad():
            return {"error": float(nn.functional.mse_loss(network(x), y))}

    train(model, None, 200)
    found = compress(
        model,
        x,
        evaluate=evaluate,
        train=train,
        at_most={"error": 10.0, "density": 0.7},
        minimize=["error"],
        trials=6,
        out=tmp_path,
        progress=False,
    )
    assert found.feasible
    trials = found.experiment.trials()
    assert {trial.parameters["epochs"] for trial in trials} == {0, 1}
    # The dense one's, and each trial's that trains; a round trains for as long as all before it.
    rounds = [trial.continued for trial in trials if trial.parameters["epochs"]]
    assert len(trainings) == 1 + sum(2 ** max(done - 1, 0) for done in rounds)
    assert math.isfinite(found.trial.values["error"])
    assert found.trial.values["error"] == pytest.approx(evaluate(found.model)["error"], rel=1e-4)


def test_a_training_that_ignores_the_masks_gives_no_dense_network(tmp_path):
    x = torch.randn(64, 16)
    model = nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 1))

    def train(network, sparsifier):
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01)
        network(x).square().mean().backward()
        optimizer.step()

    own = {"evaluate": lambda network: 1.0, "train": train, "at_most": {"density": 0.7}}
    with pytest.warns(UserWarning, match=r"train has changed masked weights of layer '0'.*attach"):
        done = compress(model, x, **own, trials=4, out=tmp_path, progress=False)
    trials = done.experiment.trials()
    assert any(trial.parameters["epochs"] for trial in trials)
    assert all(trial.values["density"] < 0.7 for trial in trials)


def test_batches_in_an_unknown_form(trained, tmp_path):
    batches = [{"pixels": torch.zeros(4, 16), "labels": torch.zeros(4)}]
    with pytest.raises(
        UserError, match=r"a batch of train is not a pair .* but dict; .*collate_fn"
    ):
        compress(trained, iter(batches), out=tmp_path, progress=False)
    own = {"evaluate": lambda network: 1.0, "train": lambda network, sparsifier: None}
    with pytest.raises(UserError, match=r"the first batch is dict, not a tensor of inputs"):
        compress(trained, batches, **own, out=tmp_path, progress=False)


@pytest.mark.parametrize("answer", [None, float("nan"), "0.9", torch.ones(3), {"error": None}])
def test_what_evaluate_returns_must_be_numbers(trained, examples, tmp_path, answer):
    own = {"evaluate": lambda model: answer, "train": lambda model, sparsifier: None}
    with pytest.raises(UserError, match=r"evaluate returned .* as '(score|error)'; return a"):
        compress(trained, torch.from_numpy(examples[0]), out=tmp_path / "out", **own)


def test_numbers_of_torch_and_numpy_are_scores():
    for score in (torch.tensor(0.5), torch.tensor([0.5]), np.float32(0.5), 0.5):
        assert modules._checked(score) == {"score": 0.5}
