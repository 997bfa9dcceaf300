"""Coordinates of points, in which models measure distances."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Features:
    """Points as coordinates whose distances are meaningful to models.

    Attributes:
        columns: float64 [points, columns].
        owner: int [columns], the parameter that each column belongs to.
    """

    columns: np.ndarray
    owner: np.ndarray

    def __getitem__(self, rows: np.ndarray | slice) -> Features:
        return Features(self.columns[rows], self.owner)

    def __len__(self) -> int:
        return len(self.columns)

    @property
    def parameters(self) -> int:
        """The number of parameters."""
        return int(self.owner[-1]) + 1

    def squared_distances(self, other: Features, parameter: int) -> np.ndarray:
        """Return squared distances in one parameter: float64 [points, other points]."""
        squared = np.zeros((len(self), len(other)))
        for column in np.flatnonzero(self.owner == parameter):
            squared += (self.columns[:, column, None] - other.columns[None, :, column]) ** 2
        return squared
