"""Boosted trees that are accurate and shallow, of which one metric only has to be acceptable.

After SigOpt's public examples that tune XGBoost: here scikit-learn's gradient boosting on its
breast cancer data. Of the F1 score more is better, the average depth must be at most 3, and the
number of leaves is only stored with each trial. It needs `pip install scikit-learn`.
"""

import numpy as np
from sklearn.datasets import load_breast_cancer
from sklearn.ensemble import GradientBoostingClassifier
from sklearn.metrics import f1_score
from sklearn.model_selection import train_test_split

import gossamer as gs

X_TRAIN, X_VALIDATION, Y_TRAIN, Y_VALIDATION = train_test_split(
    *load_breast_cancer(return_X_y=True), test_size=0.3, random_state=0
)


def boost(trial: gs.search.Trial) -> dict[str, float]:
    parameters = dict(trial.parameters)
    trees = GradientBoostingClassifier(random_state=0, **parameters).fit(X_TRAIN, Y_TRAIN)
    estimators = [tree for (tree,) in trees.estimators_]
    return {
        "f1": f1_score(Y_VALIDATION, trees.predict(X_VALIDATION)),
        "depth": float(np.mean([tree.get_depth() for tree in estimators])),
        "leaves": sum(tree.get_n_leaves() for tree in estimators),
    }


if __name__ == "__main__":
    experiment = gs.Experiment(
        "trees",
        parameters=[
            gs.Int("n_estimators", 5, 40),
            gs.Float("learning_rate", 0.01, 1, log=True),
            gs.Int("max_depth", 1, 8),
            gs.Int("min_samples_leaf", 1, 20),
            gs.Float("subsample", 0.3, 1),
        ],
        metrics=[
            gs.Maximize("f1", threshold=0.95),
            gs.search.AtMost("depth", threshold=3),
        ],
        budget=20,
    )
    experiment.run(boost)
    frontier = experiment.frontier()
    print("inside the thresholds:" if frontier.feasible else "nearest to the thresholds:")
    for trial in frontier.trials:
        print(trial.parameters, trial.values)
