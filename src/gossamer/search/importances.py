"""Importances: which parameters move which metric, and how surely."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from gossamer.search.metrics import Metric, scaled, scaled_noise
from gossamer.search.samplers.gaussian_process import NOISIEST, GaussianProcess, sample
from gossamer.search.space.space import Space
from gossamer.search.trials.trial import TrialRecord

# Below this, and below two trials a parameter, an interval says nothing.
_LEAST = 10
# The newest so many trials are modeled, of which hyperparameters are fitted to a part.
_MODELED, _FITTED = 256, 96
# Points at which functions drawn from the posterior are compared; so many hyperparameters are
# drawn, and with each of them so many functions.
_POINTS, _MODELS, _DRAWS = 400, 16, 8
_CONFIDENCE = 0.9


class Importance(float):
    """A parameter's share in what moves a metric, as expected.

    Attributes:
        low, high: ends of its 90 % credible interval.
    """

    low: float
    high: float

    def __new__(cls, share: float, low: float, high: float) -> Importance:
        made = super().__new__(cls, share)
        made.low, made.high = low, high
        return made


def importances(
    metrics: Sequence[Metric], space: Space, records: Sequence[TrialRecord]
) -> dict[str, dict[str, Importance]]:
    """Metric name -> parameter name -> its share, largest first; the shares sum to 1.

    A parameter's share is its total effect (Sobol' indices, by the estimator of Jansen, "Analysis
    of variance designs for model output", 1999) in proportion to the others', in functions drawn
    from the posterior of the Gaussian process that the sampler models the metric with, over its
    hyperparameters too; their spread is the interval. A metric that never changed, or of too few
    trials, has none.
    """
    complete = [record for record in records if record.state == "complete"][-_MODELED:]
    free = Space(list(space.parameters.values()))  # constraints would tie parameters together
    result: dict[str, dict[str, Importance]] = {}
    for metric in metrics:
        values = np.array([[record.values[metric.name]] for record in complete])
        result[metric.name] = {}
        if len(values) < max(_LEAST, 2 * len(space)):
            continue
        noise = np.array([[record.noise.get(metric.name, 0.0)] for record in complete])
        noise = scaled_noise([metric], values, noise)[:, 0]
        values = scaled([metric], values)[:, 0]
        largest = np.abs(values).max() or 1.0
        with np.errstate(over="ignore"):
            values, noise = values / largest, noise / largest
        if np.ptp(values) == 0.0:
            continue
        with threadpool_limits(1):
            points = [record.parameters for record in complete]
            shares = _shares(free, points, values, noise)
        low, high = np.quantile(shares, [0.5 - _CONFIDENCE / 2, 0.5 + _CONFIDENCE / 2], axis=0)
        mean = shares.mean(axis=0)
        result[metric.name] = {
            list(space.parameters)[i]: Importance(float(mean[i]), float(low[i]), float(high[i]))
            for i in np.argsort(-mean, kind="stable")
        }
    return result


def _shares(
    space: Space, points: Sequence[dict[str, object]], values: np.ndarray, noise: np.ndarray
) -> np.ndarray:
    """Return the parameters' shares in each drawn function: float64 [functions, parameters]."""
    from scipy.stats import qmc  # slow to import, and not for workers

    features = space.features(space.encode(points))  # type: ignore[arg-type]
    normal = (values - values.mean()) / values.std()
    known = (np.minimum(noise, NOISIEST * values.std()) / values.std()) ** 2
    count = int(np.clip(_POINTS // (len(space) + 1), 16, 128))
    units = qmc.Sobol(2 * len(space), scramble=True, seed=0).random(128)[:count]
    base, other = units[:, : len(space)], units[:, len(space) :]
    fixed = [distribution.single() for distribution in space.distributions().values()]
    base[:, fixed] = other[:, fixed] = 0.5
    changed = [base]
    for i in range(len(space)):
        changed.append(base.copy())
        changed[-1][:, i] = other[:, i]
    rng = np.random.default_rng(0)
    where = space.features(space.on_grid(np.vstack(changed)))
    effects = []
    newest = slice(-_FITTED, None)
    for theta in sample(features[newest], normal[newest], known[newest], _MODELS, rng):
        drawn = GaussianProcess(features, normal, theta, known).draw(where, _DRAWS, rng)
        drawn = drawn.reshape(_DRAWS, len(space) + 1, count)
        effects.append(((drawn[:, 1:] - drawn[:, :1]) ** 2).mean(axis=2))
    total = np.vstack(effects)
    shares: np.ndarray = total / total.sum(axis=1, keepdims=True)
    return shares
