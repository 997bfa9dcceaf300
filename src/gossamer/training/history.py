"""The epochs of a training."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Epoch:
    """One epoch of a training.

    ``accuracy`` is on the validation split, ``seconds`` wall time; ``settled`` says whether
    weights and activations were as sparse as they are in the end. ``density`` is the share of
    weights that masks leave at the end of the training, known from the first epoch on; None where
    training itself decides it. ``parts`` are the seconds by part: ``data`` (drawing,
    augmentation, features), ``network`` (forward and backward, a teacher's answers too),
    ``optimizer``, ``masks``, ``validation``.
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
    """Every epoch of a training, in order, and whether it stopped before the last one."""

    epochs: list[Epoch] = field(default_factory=list)
    stopped_early: bool = False

    @property
    def best(self) -> Epoch:
        """The epoch of the highest validation accuracy, the first of equal ones.

        Epochs before the network was as sparse as in the end count only where there are no
        others.
        """
        return max(self.epochs, key=lambda epoch: (epoch.settled, epoch.accuracy))

    def seconds(self) -> dict[str, float]:
        """Seconds of all epochs by part, see `Epoch`."""
        names = dict.fromkeys(name for epoch in self.epochs for name in epoch.parts)
        return {name: sum(e.parts.get(name, 0.0) for e in self.epochs) for name in names}

    def decide(self, patience: int) -> None:
        """Stop where ``patience`` epochs have brought no better validation accuracy."""
        last = self.epochs[-1]
        self.stopped_early = last.settled and last.epoch - self.best.epoch >= patience
