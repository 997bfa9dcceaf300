"""The settings of a training, checked when they are made."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass, fields
from typing import Any

from gossamer.data import Augmentation, AugmentationSettings
from gossamer.errors import UserError, nearest
from gossamer.numbers import integral, real

OPTIMIZERS = ("sgd", "adam", "adamw")
_MOST_EPOCHS = 1_000_000
SCHEDULES = ("one_cycle", "step", "phases", "constant")
PRECISIONS = ("float32", "bfloat16")
_CHOICES = {"optimizer": OPTIMIZERS, "schedule": SCHEDULES, "precision": PRECISIONS}


@dataclass(frozen=True, kw_only=True)
class TrainingConfig(AugmentationSettings):
    """Settings of a training.

    Attributes:
        epochs: passes over the training split; 0 trains nothing, but renews the running
            statistics of batch norms if weights were pruned.
        batch_size: examples per step; an epoch skips the last examples if they do not fill a batch.
        learning_rate: the highest rate of ``one_cycle``, the first one of other schedules.
        optimizer: ``sgd`` (Nesterov momentum), ``adam`` or ``adamw``.
        momentum: of ``sgd``.
        weight_decay: L2 factor, on weights only.
        schedule: ``one_cycle``, ``step``, ``phases`` or ``constant``.
        warmup: share of the steps in which ``one_cycle`` rises.
        learning_rate_decay: factor of ``step``, once an epoch.
        learning_rate_decay_before, learning_rate_decay_during, learning_rate_decay_after:
            factors of ``phases``, once an epoch, before, during and after the penalty's warm-up.
        activation_anneal: share of the training in which the density of k-winners falls from 1
            to the one set for them; 0 starts at that density. No effect without k-winners.
        penalty_start, penalty_end: factor of the penalty that modules add to the loss (the
            divergence of variational dropout) before and after its warm-up; linear in between.
        penalty_warmup_start, penalty_warmup_end: when the warm-up begins and ends, as shares of the
            training.
        label_smoothing: share of the target spread over all classes.
        teacher_share: weight of a teacher's answers in the loss, 0 to 1; the labels have the
            rest. No effect without a teacher.
        teacher_temperature: divides the logits of both networks before they are compared; the
            higher, the more the teacher's order of the wrong answers counts.
        redrawn_class: a class of which each epoch draws a new random subset, as is usual for
            ``unknown`` in keyword spotting; empty: each epoch uses all examples.
        redrawn_share: share of an epoch's examples that are of ``redrawn_class``.
        data_share: share of the training examples of every class that are used, the same ones in
            each epoch: a cheap fidelity for a search (Klein et al. 2017, arXiv 1605.07079).
        patience: stop after so many epochs without a better validation accuracy and return to
            the best; 0 trains to the end.
        accelerate: whether sparse layers on the CPU compute with their non-zeros alone where
            that measures faster. The choice, and so the last bits of the result, may differ
            from run to run.
        precision: ``float32``, or ``bfloat16``: forward and backward passes multiply in 16 bits
            where torch's autocast does so, also those of a teacher; weights, the optimizer and
            validation stay in float32. Faster on processors with instructions for bfloat16,
            slower on all others. Not with ``accelerate``.
        noise_score: whether to measure the finished network's noise score, which takes ten times
            as long as its accuracy on the test split.
        augment: whether training examples are augmented: sounds are shifted and mixed with noise,
            pictures and spectrograms changed as the next settings say.
        flip, crop, shift, time_mask, frequency_mask, gain: see
            :class:`gossamer.data.AugmentationSettings`; none by default.
        seed: of initialization, masks, order and augmentation.
        device: ``auto`` (CUDA where there is one), ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        UserError: a value out of its range, naming the setting.
    """

    epochs: int = 20
    batch_size: int = 64
    learning_rate: float = 0.1
    optimizer: str = "sgd"
    momentum: float = 0.9
    weight_decay: float = 5e-4
    schedule: str = "one_cycle"
    warmup: float = 0.2
    learning_rate_decay: float = 0.9
    learning_rate_decay_before: float = 1.0
    learning_rate_decay_during: float = 1.0
    learning_rate_decay_after: float = 0.95
    activation_anneal: float = 0.0
    penalty_start: float = 0.0
    penalty_end: float = 1.0
    penalty_warmup_start: float = 0.1
    penalty_warmup_end: float = 0.5
    label_smoothing: float = 0.0
    teacher_share: float = 0.5
    teacher_temperature: float = 4.0
    redrawn_class: str = ""
    redrawn_share: float = 0.1
    data_share: float = 1.0
    patience: int = 0
    accelerate: bool = False
    precision: str = "float32"
    augment: bool = True
    noise_score: bool = True
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(self, field.name, _typed(field.name, value, str(field.type)))
        self._between("epochs", 0, _MOST_EPOCHS)
        self._between("batch_size", 2, 2**31 - 1)
        self._between("patience", 0, _MOST_EPOCHS)
        super().__post_init__()
        self._between("teacher_share", 0.0, 1.0)
        self._between("teacher_temperature", 0.01, 1000.0)
        self._between("redrawn_share", 1e-6, 0.999)
        self._between("data_share", 1e-6, 1.0)
        self._between("seed", 0, 2**63 - 1)
        self._not_negative("weight_decay")
        self._between("warmup", 0.0, 1.0)
        self._between("momentum", 0.0, 1.0)
        for suffix in ("", "_before", "_during", "_after"):
            self._between(f"learning_rate_decay{suffix}", 0.0, 1.0)
        self._between("activation_anneal", 0.0, 1.0)
        self._not_negative("penalty_start")
        self._not_negative("penalty_end")
        self._between("penalty_warmup_end", 0.0, 1.0)
        self._between("penalty_warmup_start", 0.0, self.penalty_warmup_end)
        self._between("label_smoothing", 0.0, 1.0)
        if not self.learning_rate > 0.0:
            raise UserError(f"learning_rate must be above 0, not {self.learning_rate}")
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise UserError(f"device: no '{self.device}'; known: auto, cpu, cuda, cuda:N")
        for name, known in _CHOICES.items():
            value = getattr(self, name)
            if value not in known:
                raise UserError(f"{name}: no '{value}'; {nearest(value, known)}")
        if self.accelerate and self.precision != "float32":
            raise UserError(
                f"accelerate computes in float32; leave it out or set precision = float32, "
                f"not {self.precision}"
            )

    def augmentation(self) -> Augmentation:
        """Return the augmentation of pictures and spectrograms."""
        return Augmentation.of(vars(self) if self.augment else {})

    def _not_negative(self, name: str) -> None:
        if not getattr(self, name) >= 0:
            raise UserError(f"{name} must be at least 0.0, not {getattr(self, name)}")

    def _between(self, name: str, low: float, high: float) -> None:
        if not low <= getattr(self, name) <= high:
            raise UserError(f"{name} must be between {low} and {high}, not {getattr(self, name)}")


def _typed(name: str, value: Any, kind: str) -> Any:
    """Convert ``value`` to ``kind`` where that is exact: 20.0 becomes an int, "20" does not."""
    if kind == "bool":
        if isinstance(value, bool):
            return value
    elif kind == "str":
        if isinstance(value, str):
            return value
    elif kind == "float":
        if math.isfinite(number := real(value)):
            return number
    elif (whole := integral(value)) is not None:
        return whole
    raise UserError(f"{name} must be of type {kind}, not {value!r}")
