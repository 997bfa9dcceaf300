"""Settings of fine-tuning pruned networks."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# The sparsity of trials that do not name another.
SPARSITY = {"pattern": "unstructured", "rule": "one_shot", "allocation": "global"}

# Optimizer steps of the shortest training: of a few hundred examples, one epoch has three or four.
_STEPS = 100


def least_epochs(examples: int, batch_size: int) -> int:
    """Return the least epochs of the longest training, so that the shortest has enough steps."""
    return 3 * math.ceil(_STEPS / max(examples // batch_size, 1))


@dataclass(frozen=True)
class Tuning:
    """Settings of fine-tuning pruned networks.

    Attributes:
        epochs: epochs of the longest training.
        learning_rate: the lowest and the highest rate; None if a function of the user trains.
        settings: all other settings of the training.
        first_rate: the rate of the first trials; by default the geometric mean of the two.
        crop: rows and columns of padded crops, which trials may use or not; 0 for none.
    """

    epochs: int
    learning_rate: tuple[float, float] | None
    settings: Mapping[str, Any] = field(default_factory=dict)
    first_rate: float | None = None
    crop: int = 0

    @property
    def lengths(self) -> list[int]:
        return sorted({0, max(self.epochs // 3, 1), self.epochs})
