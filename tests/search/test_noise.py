"""Values with a standard deviation, and repeats of a point."""

import json
import math
import sys

import numpy as np
import pytest
import torch
from sklearn.gaussian_process import GaussianProcessRegressor
from sklearn.gaussian_process.kernels import ConstantKernel, Matern
from tests.search.experiments import PARAMETERS, make

from gossamer.errors import UserError
from gossamer.search import Command, Experiment, Maximize, export_trials, import_trials
from gossamer.search.samplers import gaussian_process
from gossamer.search.samplers.gaussian_process import GaussianProcess, fit
from gossamer.search.samplers.history import History
from gossamer.search.samplers.margin import Slack
from gossamer.search.samplers.suggester import Suggester
from gossamer.search.space.features import Features
from gossamer.search.space.space import Space

POINT = {"rate": 0.01, "width": 8}


def test_a_value_comes_with_its_deviation(storage):
    experiment = make(storage=storage)
    experiment.run(
        lambda trial: {"accuracy": (np.float32(0.5), 0.25), "density": [torch.tensor(0.5), 0]},
        trials=1,
        progress=False,
    )
    (record,) = experiment.trials()
    assert record.values == {"accuracy": 0.5, "density": 0.5}
    assert record.noise == {"accuracy": 0.25, "density": 0.0}
    if storage:
        (again,) = Experiment.from_storage(storage).trials()
        assert again == record


@pytest.mark.parametrize("deviation", [-0.1, math.nan, math.inf])
def test_a_deviation_that_is_none_fails_the_trial(deviation):
    experiment = make()
    with pytest.raises(UserError, match="standard deviation of 'accuracy'"):
        experiment.tell(experiment.ask(), {"accuracy": (0.5, deviation), "density": 0.1})
    assert experiment.trials()[0].state == "failed"
    with pytest.raises(UserError, match=r"add: .* standard deviation of 'accuracy'"):
        experiment.add(POINT, {"accuracy": (0.5, deviation), "density": 0.1})
    assert len(experiment.trials()) == 1


def test_no_number_with_a_deviation_is_no_value():
    experiment = make()
    record = experiment.tell(experiment.ask(), {"accuracy": (math.nan, 0.1), "density": 0.1})
    assert record.state == "failed"
    assert record.reason == "metric 'accuracy' is (nan, 0.1)"
    record = experiment.tell(experiment.ask(), {"accuracy": 0.5, "density": (0.1, 0.1, 0.1)})
    assert record.reason == "metric 'density' is (0.1, 0.1, 0.1)"


def test_a_command_prints_an_array(tmp_path):
    (tmp_path / "p.py").write_text('print(\'{"accuracy": [0.9, 0.01], "density": 0.1}\')')
    experiment = make(command=Command(f"'{sys.executable}' '{tmp_path}/p.py'"))
    experiment.run(trials=1, progress=False)
    (record,) = experiment.trials()
    assert record.values == {"accuracy": 0.9, "density": 0.1}
    assert record.noise == {"accuracy": 0.01}


def test_deviations_are_exported(tmp_path):
    one, other = (f"sqlite:///{tmp_path}/{name}.db" for name in ("one", "other"))
    make(storage=one).add(POINT, {"accuracy": (0.9, 0.01), "density": 0.1})
    export_trials(one, tmp_path / "trials.json")
    import_trials(tmp_path / "trials.json", other)
    assert Experiment.from_storage(other).trials()[0].noise == {"accuracy": 0.01}


def test_repeats_say_how_noisy_they_are():
    experiment = make()
    for accuracy in (0.9, 0.92):
        experiment.add(POINT, {"accuracy": accuracy, "density": 0.1})
    other = {"rate": 0.02, "width": 8}
    for accuracy, density in ((0.5, 0.1), (0.54, 0.1), ((0.52, 0.3), 0.1)):
        experiment.add(other, {"accuracy": accuracy, "density": density})
    experiment.add({"rate": 0.03, "width": 8}, {"accuracy": 0.7, "density": 0.2})
    # Squares around the two means: 0.01 ** 2 twice, 0.02 ** 2 twice and 0; degrees 1 and 2.
    pooled = math.sqrt((2 * 0.01**2 + 2 * 0.02**2) / 3)
    noises = [record.noise for record in experiment.trials()]
    for noise in noises[:4]:
        assert noise == {"accuracy": pytest.approx(pooled), "density": 0.0}
    assert noises[4] == {"accuracy": 0.3, "density": 0.0}
    assert noises[5] == {}


def test_repeats_of_the_largest_values_are_no_trouble():
    experiment = Experiment("x", PARAMETERS, [Maximize("accuracy")], sampler="gp")
    for accuracy in (1e300, -1e300, 1e300, 0.0):
        experiment.add(POINT, {"accuracy": (accuracy, 1e300) if accuracy else 0.0})
    noise = experiment.trials()[3].noise["accuracy"]
    assert noise == pytest.approx(1e300 * math.sqrt((2 * 0.75**2 + 1.25**2 + 0.25**2) / 3))
    experiment.ask()


def test_the_history_holds_noise_or_nan():
    experiment = make()
    experiment.add(POINT, {"accuracy": (0.9, 0.01), "density": 0.1})
    history = experiment._history(experiment.trials())
    np.testing.assert_array_equal(history.noise, [[0.01, np.nan]])


def test_known_noise_is_the_textbooks():
    rng = np.random.default_rng(0)
    known, new = rng.random((12, 1)), rng.random((40, 1))
    values, variance = np.sin(6.0 * known[:, 0]), rng.random(12)
    theta = np.log([0.4, 0.7, 0.3, 1e-3])
    features = [Features(columns, np.zeros(1, int)) for columns in (known, new)]
    found = GaussianProcess(features[0], values, theta, variance).predict(features[1])
    kernel = Matern(0.4, nu=2.5) + ConstantKernel(gaussian_process._OFFSET)
    theirs = GaussianProcessRegressor(kernel, alpha=1e-3 + variance, optimizer=None)
    expected = theirs.fit(known, values).predict(new, return_std=True)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-3, atol=1e-5)


def test_a_lucky_value_with_much_noise_is_not_believed():
    x = np.linspace(0.0, 1.0, 9)[:, None]
    features = Features(x, np.zeros(1, int))
    values = -((x[:, 0] - 0.5) ** 2)
    values[0] = 1.0
    noise = np.zeros(9)
    noise[0] = 2.0
    rows = np.arange(9)
    believed = Slack.learn(values, features, rows, noise=noise).denoised
    assert believed[0] < 0.0
    assert Slack.learn(values, features, rows).denoised[0] > believed[0]
    assert fit(features, values, noise)[1] > fit(features, values)[1]


@pytest.mark.parametrize("scale", [1e-250, 1.0, 1e250])
def test_noise_is_of_the_values_own_size(scale):
    """Suggestions do not depend on a metric's unit, nor on that of its noise."""
    rng = np.random.default_rng(0)
    space, metrics = Space(PARAMETERS), [Maximize("accuracy")]
    points = [space.draw(rng) for _ in range(6)]
    values, noise = rng.random((6, 1)), 0.1 * rng.random((6, 1))
    suggester = Suggester(make(sampler="gp")._suggester._sampler, space, metrics, 0)
    suggest = suggester.suggest
    plain = suggest(History(points, values, [], [], noise=noise))
    scaled = suggest(History(points, values * scale, [], [], noise=noise * scale))
    assert scaled == pytest.approx(plain, rel=1e-3)
    assert plain != suggest(History(points, values, [], []))


def test_trials_as_json_hold_the_noise():
    from dataclasses import asdict

    record = make().add(POINT, {"accuracy": (0.9, 0.01), "density": 0.1})
    assert json.loads(json.dumps(asdict(record)))["noise"] == {"accuracy": 0.01}
