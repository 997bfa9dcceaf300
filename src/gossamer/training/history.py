"""The epochs of a training."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    ``accuracy`` is on the validation split, ``seconds`` is wall time. ``settled``: weights and
    activations had their final densities. ``density`` is the share of weights that masks leave
    at the end of the training, known from the first epoch on; None if training determines it.
    ``parts`` are the seconds by part: ``data`` (drawing, augmentation, features), ``network``
    (forward and backward, the teacher included), ``optimizer``, ``masks``, ``validation``.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float
    settled: bool = True
    density: float | None = None
    parts: dict[str, float] = field(default_factory=dict, compare=False)


@dataclass
class History:
    """The epochs of a training, in order, and whether it was stopped early."""

    epochs: list[Epoch] = field(default_factory=list)
    stopped_early: bool = False

    @property
    def best(self) -> Epoch:
        """Return the epoch of the highest validation accuracy, the first of equal ones.

        Epochs before the network reached its final densities count only if there are no others.
        """
        return max(self.epochs, key=lambda epoch: (epoch.settled, epoch.accuracy))

    def seconds(self) -> dict[str, float]:
        """Return the seconds of all epochs by part, see `Epoch`."""
        names = dict.fromkeys(name for epoch in self.epochs for name in epoch.parts)
        return {name: sum(e.parts.get(name, 0.0) for e in self.epochs) for name in names}

    def decide(self, patience: int) -> None:
        """Set ``stopped_early`` if the last ``patience`` epochs brought no better accuracy."""
        last = self.epochs[-1]
        self.stopped_early = last.settled and last.epoch - self.best.epoch >= patience
