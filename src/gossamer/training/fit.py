"""Training of a network on a task."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, closing, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data import Task
from gossamer.errors import UserError
from gossamer.nn import AnnealActivations, KWinners, KWinners2d, decay_boost, penalties
from gossamer.progress import progress_bar
from gossamer.sparsity import Scaling, Sparsifier, accelerate_sparse, renew_statistics
from gossamer.training.checkpoint import (
    TrainingState,
    network_state,
    restore_network,
    restore_training,
    save_training,
)
from gossamer.training.config import TrainingConfig
from gossamer.training.distillation import fingerprint, soft_loss
from gossamer.training.flops import weight_counts
from gossamer.training.folder import exclusive
from gossamer.training.history import Epoch, History
from gossamer.training.loader import Examples, predict
from gossamer.training.optimizer import make_optimizer
from gossamer.training.sampling import EpochOrder
from gossamer.training.schedules import learning_rate, penalty_factor
from gossamer.training.stopwatch import Stopwatch

_STATISTICS = 2048  # examples for the statistics of batch norms


class DivergedError(UserError):
    """The loss became NaN or infinite."""


def fit(
    model: nn.Module,
    task: Task,
    config: TrainingConfig | None = None,
    *,
    sparsifier: Sparsifier | None = None,
    scaling: Scaling | None = None,
    teacher: nn.Module | None = None,
    checkpoint: str | Path | None = None,
    origin: Mapping[str, Any] | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = False,
    label: str = "training",
) -> History:
    """Train ``model`` in place on ``task.train``; validate each epoch on ``task.validation``.

    Args:
        model: returns logits ``[batch, classes]`` for ``[batch, *task.input_shape]``.
        task: data and features.
        config: see :class:`TrainingConfig`.
        sparsifier: made for this model; its ``step`` runs after each optimizer step.
        scaling: made for this model by :func:`gossamer.sparsity.mu_parametrize`; its factors
            multiply the learning rate.
        teacher: a trained network for the same inputs and classes, for distillation
            (``teacher_share``, ``teacher_temperature``), or an
            :class:`gossamer.training.Ensemble` of several; it is put into evaluation mode and
            moved to the device.
        checkpoint: file written after every epoch. If it exists already, training resumes from
            it and ends with the same weights as an uninterrupted run (on a GPU, only as far as
            its kernels are deterministic).
        origin: what else the checkpoint must agree with, by name, as JSON values: settings of the
            network, and ``data``, the task's fingerprint.
        on_epoch: called after each epoch; an exception from it ends the training.
        progress: show a bar with the time left, on standard error.
        label: the bar's text.

    Returns:
        The history of all epochs, including those before resuming.

    Raises:
        DivergedError: the loss became NaN or infinite.
        UserError: fewer training examples than one batch, or a checkpoint that is damaged, has
            other settings, or is being written by another process.
    """
    config = config or TrainingConfig()
    training = _Training(model, task, config, sparsifier, scaling, teacher)
    state = TrainingState(
        model, training.optimizer, sparsifier, config, fingerprint(teacher), dict(origin or {})
    )
    history = state.history
    path = Path(checkpoint) if checkpoint is not None else None
    lock = nullcontext() if path is None else exclusive(path)
    bar = progress_bar(show=progress, transient=True)
    with lock, bar, _accelerated(model, training.optimizer, sparsifier, config):
        if path is not None and path.exists():
            restore_training(path, state)
        row = bar.add_task(
            label, total=training.steps, completed=len(history.epochs) * training.batches
        )
        while len(history.epochs) < config.epochs and not history.stopped_early:
            watch = Stopwatch()
            loss, rate = training.train_epoch(len(history.epochs), lambda: bar.advance(row), watch)
            accuracy = training.validate()
            watch.lap("validation")
            done = Epoch(
                len(history.epochs) + 1,
                loss,
                accuracy,
                rate,
                sum(watch.parts.values()),
                training.settled,
                _final_density(model, sparsifier),
                watch.parts,
            )
            history.epochs.append(done)
            bar.update(row, description=f"{label}: validation accuracy {accuracy:.1%}")
            if config.patience:
                history.decide(config.patience)
                if history.best is done:
                    now = network_state(model, sparsifier)
                    state.best = {name: tensor.detach().clone() for name, tensor in now.items()}
            if path is not None:
                save_training(path, state)
            if on_epoch is not None:
                on_epoch(done)
    if not config.epochs and sparsifier is not None:
        examples = training.train.features()[:_STATISTICS]
        renew_statistics(model, list(examples.split(config.batch_size)))  # type: ignore[no-untyped-call]
    if config.patience and state.best:
        restore_network(state.best, model, sparsifier)
    return history


class _Training:
    """A network being trained: its data, its optimizer, and the parts of an epoch."""

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        config: TrainingConfig,
        sparsifier: Sparsifier | None,
        scaling: Scaling | None,
        teacher: nn.Module | None,
    ) -> None:
        self.order = EpochOrder(task, config)
        if len(self.order) < config.batch_size:
            raise UserError(
                f"batch_size {config.batch_size} is more than the {len(self.order)} training "
                f"examples of task '{task.name}' in an epoch; use a smaller one"
            )
        if not len(task.validation):
            raise UserError(
                f"task '{task.name}' has no validation examples, which choose the best "
                "epoch; give some"
            )
        self.model, self.config, self.sparsifier = model, config, sparsifier
        self.device = pick_device(config.device)
        model.to(self.device)
        self.teacher = None if teacher is None else teacher.to(self.device).eval()
        self.penalized = penalties(model) is not None
        # Convolutions are about a third faster on CPUs with channels innermost.
        networks = [model] if self.teacher is None else [model, self.teacher]
        for layer in itertools.chain.from_iterable(network.modules() for network in networks):
            if isinstance(layer, nn.Conv2d):
                layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        config.augmentation().check(task.input_shape)
        self.train = Examples(task, task.train, self.device, config.augmentation())
        self.validation = Examples(task, task.validation, self.device)
        self.optimizer = make_optimizer(model, config, scaling)
        self.batches = len(self.order) // config.batch_size
        self.steps = self.batches * config.epochs
        annealing = max(round(config.activation_anneal * self.steps), 1)
        anneals = config.activation_anneal and any(
            isinstance(layer, KWinners | KWinners2d) for layer in model.modules()
        )
        self.annealed = AnnealActivations(model, annealing) if anneals else None
        if sparsifier is not None and sparsifier.total_steps is None:
            sparsifier.total_steps = max(self.steps, 1)

    @property
    def settled(self) -> bool:
        """Whether weights and activations have reached their final densities."""
        parts = (self.sparsifier, self.annealed)
        return all(part is None or part.settled for part in parts)

    def train_epoch(
        self, epoch: int, on_step: Callable[[], object], watch: Stopwatch
    ) -> tuple[float, float]:
        """Train one epoch; return the mean loss and the last learning rate.

        All randomness comes from the seed and the epoch's number, so that a resumed training
        repeats it exactly. The caller's generators do not change.
        """
        rng = np.random.default_rng([self.config.seed, epoch])
        order = self.order.draw(rng)
        size, loss_sum = self.config.batch_size, torch.zeros((), device=self.device)
        self.model.train()
        devices = [self.device] if self.device.type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(rng.integers(2**31)))
            for batch in range(self.batches):
                step = epoch * self.batches + batch
                rate = learning_rate(self.config, step, self.steps, epoch)
                index = order[batch * size : (batch + 1) * size]
                x, y = self.train.batch(index, rng if self.config.augment else None)
                watch.lap("data")
                loss_sum += self._step(step, rate, x, y, watch)
                on_step()
        loss = float(loss_sum) / self.batches
        watch.lap("network")  # on a GPU, what is still being computed
        if not math.isfinite(loss):
            raise DivergedError(
                f"the loss became {loss} in epoch {epoch + 1} of {self.config.epochs} "
                f"(learning_rate {self.config.learning_rate:g}); use a lower learning_rate"
            )
        decay_boost(self.model)
        if self.annealed is not None:
            self.annealed.at((epoch + 1) * self.batches)
        return loss, rate

    def _step(self, step: int, rate: float, x: Tensor, y: Tensor, watch: Stopwatch) -> Tensor:
        """Make one step of the optimizer; return the loss before it."""
        if self.annealed is not None:
            self.annealed.at(step)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group.get("lr_scale", 1.0)
        loss = self._loss(*self._answers(x), y)
        if self.penalized and (penalty := penalties(self.model)) is not None:
            factor = penalty_factor(self.config, step / self.steps)
            loss = loss + factor * penalty / self.order.examples
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        watch.lap("network")
        self.optimizer.step()
        watch.lap("optimizer")
        if self.sparsifier is not None:
            self.sparsifier.step(self.optimizer)
            watch.lap("masks")
        return loss.detach()

    def _answers(self, x: Tensor) -> tuple[Tensor, Tensor | None]:
        """Return the network's logits and, where they count, its teacher's, in float32."""
        enabled = self.config.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=enabled):
            logits = self.model(x).float()
            if self.teacher is None or not self.config.teacher_share:
                return logits, None
            with torch.no_grad():
                return logits, self.teacher(x).float()

    def _loss(self, logits: Tensor, answers: Tensor | None, y: Tensor) -> Tensor:
        """Return the loss against the labels and, with a teacher, against its answers."""
        smoothing, share = self.config.label_smoothing, self.config.teacher_share
        loss = functional.cross_entropy(logits, y, label_smoothing=smoothing)
        if answers is None:
            return loss
        softened = soft_loss(logits, answers, self.config.teacher_temperature)
        return (1.0 - share) * loss + share * softened

    def validate(self) -> float:
        """Return the accuracy on the validation examples."""
        answers = predict(self.model, self.validation.features()).argmax(dim=1)
        return float((answers == self.validation.labels()).float().mean())


def pick_device(name: str) -> torch.device:
    """Return the device of a name (``auto``, ``cpu``, ``cuda``, ``cuda:N``), or raise UserError."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device: torch finds no CUDA device; use device = auto or cpu")
    return device


def _accelerated(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier | None,
    config: TrainingConfig,
) -> AbstractContextManager[object]:
    """Compute sparse layers with their non-zeros alone, if ``config.accelerate`` is set."""
    if not config.accelerate or sparsifier is None:
        return nullcontext()
    return closing(accelerate_sparse(model, sparsifier, optimizer))


def _final_density(model: nn.Module, sparsifier: Sparsifier | None) -> float | None:
    if any(hasattr(module, "penalty") for module in model.modules()):
        return None
    nonzero, weights = weight_counts(model)
    if sparsifier is not None:
        for name, density in sparsifier.densities.items():
            weight = sparsifier.weights[name].tensor
            nonzero += round(density * weight.numel()) - int(torch.count_nonzero(weight))
    return nonzero / weights if weights else 1.0
