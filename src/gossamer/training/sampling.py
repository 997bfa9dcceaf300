"""The order of the training examples in an epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gossamer.data import Task
from gossamer.errors import UserError, nearest
from gossamer.training.config import TrainingConfig

Indices = NDArray[np.int64]


class EpochOrder:
    """The examples of each epoch, shuffled; of one class, each epoch may draw a new subset.

    This is for a class of everything else (``unknown`` in keyword spotting), which has many more
    examples than the others: each epoch uses some of them, the whole training all.

    With ``data_share`` below 1, all epochs use the same examples, chosen by the seed: that share
    of every class, at least one example each.

    Args:
        task: the task; its training split is used.
        config: ``redrawn_class``, ``redrawn_share``, ``data_share`` and ``seed``.

    Raises:
        UserError: no such class, or one without training examples.
    """

    def __init__(self, task: Task, config: TrainingConfig) -> None:
        labels, name = task.train.y, config.redrawn_class
        if name and name not in task.classes:
            raise UserError(f"redrawn_class: no '{name}': {nearest(name, task.classes)}")
        used = _share_of_each_class(labels, config)
        drawn = labels[used] == (task.classes.index(name) if name else -1)
        self._pool, self._others = used[drawn], used[~drawn]
        if name and not len(self._pool):
            raise UserError(f"redrawn_class: '{name}' has no training examples; leave it out")
        self._count = 0
        if name:
            share = config.redrawn_share
            self._count = max(round(share / (1.0 - share) * len(self._others)), 1)

    def __len__(self) -> int:
        """Return the number of examples in an epoch."""
        return len(self._others) + self._count

    @property
    def examples(self) -> int:
        """Return the number of different examples in all epochs."""
        return len(self._others) + len(self._pool)

    def draw(self, rng: np.random.Generator) -> Indices:
        """Return an epoch's examples, shuffled; a class with too few examples repeats them."""
        if not self._count:
            return rng.permutation(self._others)
        whole, rest = divmod(self._count, len(self._pool))
        drawn = [*[self._pool] * whole, rng.permutation(self._pool)[:rest]]
        return rng.permutation(np.concatenate([self._others, *drawn]))


def _share_of_each_class(labels: Indices, config: TrainingConfig) -> Indices:
    """Return the indices of ``data_share`` of each class, in ascending order."""
    if config.data_share == 1.0:
        return np.arange(len(labels))
    rng = np.random.default_rng(config.seed)
    parts = []
    for label in np.unique(labels):
        examples = rng.permutation(np.flatnonzero(labels == label))
        parts.append(examples[: max(round(config.data_share * len(examples)), 1)])
    return np.sort(np.concatenate(parts))
