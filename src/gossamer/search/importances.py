"""Which parameters move which metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import optuna
from optuna.distributions import BaseDistribution
from optuna.trial import FrozenTrial

from gossamer.search.metrics import Metric
from gossamer.search.quiet import quiet_optuna
from gossamer.search.trials import TrialRecord

# A forest on fewer trials says more about the forest.
_LEAST = 10
# Trees of full depth take half a minute for 1,000 trials, these a few seconds; on test functions
# the shares differ by at most 0.06.
_TREES = 32
_DEPTH = 6


def importances(
    metrics: Sequence[Metric],
    distributions: Mapping[str, BaseDistribution],
    records: Sequence[TrialRecord],
) -> dict[str, dict[str, float]]:
    """Metric name -> parameter name -> share of the metric's variance, largest first.

    By functional analysis of variance over a random forest (Hutter, Hoos and Leyton-Brown,
    "An Efficient Approach for Assessing Hyperparameter Importance", ICML 2014).
    """
    # Here, because it imports scikit-learn, which no worker process needs.
    from optuna.importance import FanovaImportanceEvaluator, get_param_importances

    complete = [record for record in records if record.state == "complete"]
    shares: dict[str, dict[str, float]] = {}
    for metric in metrics:
        values = [record.values[metric.name] for record in complete]
        if len(values) < _LEAST or min(values) == max(values):
            shares[metric.name] = {}
            continue
        with quiet_optuna():
            study = optuna.create_study(direction=metric.goal)
            for record, value in zip(complete, values, strict=True):
                study.add_trial(_as_optuna(record, value, distributions))
            forest = FanovaImportanceEvaluator(n_trees=_TREES, max_depth=_DEPTH, seed=0)
            found = get_param_importances(study, evaluator=forest)
        shares[metric.name] = {name: float(share) for name, share in found.items()}
    return shares


def _as_optuna(
    record: TrialRecord, value: float, distributions: Mapping[str, BaseDistribution]
) -> FrozenTrial:
    return optuna.trial.create_trial(
        params=record.parameters, distributions=dict(distributions), value=value
    )
