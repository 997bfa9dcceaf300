"""Robustness curves: what is counted, that networks meet the same, and bad input."""

import numpy as np
import pytest
import torch

from gossamer.errors import UserError
from gossamer.training import Curve, Unfinished, predict, robustness


def test_counts_what_the_network_answers(toy, network):
    model, _ = network()
    told = []
    curves = robustness(
        model, toy, kinds=["contrast", "contrast"], examples=20, on_curve=told.append
    )
    assert told == curves
    assert [(c.name, c.unit, c.levels, c.of) for c in curves] == [
        ("contrast", "severity", (1.0, 2.0, 3.0, 4.0, 5.0), 20)
    ]
    # Contrast is no random matter, so it can be done again by hand.
    low, high = toy.train.x.min(), toy.train.x.max()
    # Twenty of them, evenly spread: the toy's classes are not in order, but those of others are.
    chosen = np.arange(20) * len(toy.test) // 20
    x = (toy.test.x[chosen] - low) / (high - low)
    for kept, correct in zip((0.4, 0.3, 0.2, 0.1, 0.05), curves[0].correct, strict=True):
        mean = np.clip(x, 0, 1).mean(axis=(1, 2), keepdims=True)
        changed = ((np.clip(x, 0, 1) - mean) * kept + mean) * (high - low) + low
        logits = predict(model, torch.from_numpy(toy.features(changed.astype(np.float32))))
        assert correct == int((logits.argmax(dim=1).numpy() == toy.test.y[chosen]).sum())


def test_every_network_meets_the_same_and_each_call_repeats(toy, network):
    seen = []

    class Watch(torch.nn.Module):
        def forward(self, x):
            seen.append(x.clone())
            return torch.zeros(len(x), 3)

    first = robustness(Watch(), toy, kinds=["gaussian_noise", "shot_noise"])
    half = len(seen)
    # The order of the disturbances does not change what any of them does.
    second = robustness(Watch(), toy, kinds=["shot_noise", "gaussian_noise"])
    assert [c.correct for c in first] == [c.correct for c in reversed(second)]
    again = [*seen[half + half // 2 :], *seen[half : half + half // 2]]
    for one, other in zip(seen[:half], again, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=0)


def test_all_corruptions_by_default(toy, network):
    names = [curve.name for curve in robustness(network()[0], toy, examples=4)]
    assert len(names) == 8
    assert names == list(dict.fromkeys(names))


def test_unfinished_curves_are_those_of_the_same_measurement(tmp_path):
    path = tmp_path / "unfinished.json"
    curves = [Curve(name, "dB", (0.0, 5.0), (3, 4), 10) for name in ("hum", "babble")]
    same = Unfinished(path, {"network": "a", "examples": None})
    assert same.read() == {}
    for curve in curves:
        same.add(curve)
    assert same.read() == {"hum": curves[0], "babble": curves[1]}
    assert Unfinished(path, {"network": "a", "examples": 9}).read() == {}
    assert Unfinished(path, {"network": "b", "examples": None}).read() == {}
    for damaged in (path.read_text()[:-9], "[]", "{}", '{"of": {}, "curves": 1}', "\0"):
        path.write_text(damaged)
        assert same.read() == {}
        assert Unfinished(path, {}).read() == {}
    path.write_bytes(b"\xff")
    assert same.read() == {}
    same.add(curves[0])
    assert same.read() == {"hum": curves[0]}
    same.finish()
    assert not path.exists()


def test_known_curves_are_not_measured_again(toy, network, tmp_path):
    model, _ = network()
    told = []
    unfinished = Unfinished(tmp_path / "unfinished.json", {})
    known = Curve("contrast", "severity", (1.0, 2.0, 3.0, 4.0, 5.0), (1, 2, 3, 4, 5), 20)
    unfinished.add(known)
    kinds = ["shot_noise", "contrast"]
    curves = robustness(
        model, toy, kinds=kinds, examples=20, on_curve=told.append, unfinished=unfinished
    )
    assert told == curves == [*robustness(model, toy, kinds=kinds[:1], examples=20), known]
    assert list(unfinished.read()) == ["contrast", "shot_noise"]


def test_bad_input(toy, network):
    model, _ = network()
    with pytest.raises(UserError, match="did you mean 'gaussian_blur'"):
        robustness(model, toy, kinds=["gausian_blur"])
    with pytest.raises(UserError, match="no split 'tset'"):
        robustness(model, toy, "tset")
