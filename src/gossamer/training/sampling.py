"""The order of the training examples in an epoch."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gossamer.data import Task
from gossamer.errors import UserError, nearest
from gossamer.training.config import TrainingConfig

Indices = NDArray[np.int64]


class EpochOrder:
    """Shuffled examples, of which one class may be drawn again for each epoch.

    A class that stands for everything else (``unknown`` among keywords) has more examples than
    the others; each epoch sees some of them, and training in the end all.

    Args:
        task: its training split.
        config: ``redrawn_class`` and ``redrawn_share``.

    Raises:
        UserError: no such class, or one without training examples.
    """

    def __init__(self, task: Task, config: TrainingConfig) -> None:
        labels, name = task.train.y, config.redrawn_class
        if name and name not in task.classes:
            raise UserError(f"redrawn_class: no '{name}': {nearest(name, task.classes)}")
        drawn = labels == (task.classes.index(name) if name else -1)
        self._pool, self._others = np.flatnonzero(drawn), np.flatnonzero(~drawn)
        if name and not len(self._pool):
            raise UserError(f"redrawn_class: '{name}' has no training examples; leave it out")
        self._count = 0
        if name:
            share = config.redrawn_share
            self._count = max(round(share / (1.0 - share) * len(self._others)), 1)

    def __len__(self) -> int:
        return len(self._others) + self._count

    def draw(self, rng: np.random.Generator) -> Indices:
        """The examples of an epoch, shuffled; where the class has too few, they come again."""
        if not self._count:
            return rng.permutation(len(self._others))
        whole, rest = divmod(self._count, len(self._pool))
        drawn = [*[self._pool] * whole, rng.permutation(self._pool)[:rest]]
        return rng.permutation(np.concatenate([self._others, *drawn]))
