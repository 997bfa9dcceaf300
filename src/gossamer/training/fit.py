"""Trains a network on a task."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data import Task
from gossamer.errors import UserError
from gossamer.nn import AnnealActivations, decay_boost, penalties
from gossamer.progress import progress_bar
from gossamer.sparsity import Scaling, Sparsifier, accelerate_sparse
from gossamer.training.checkpoint import exclusive, pick_device
from gossamer.training.counting import weight_counts
from gossamer.training.examples import Examples, predict
from gossamer.training.history import Epoch, History
from gossamer.training.optimizer import make_optimizer
from gossamer.training.resuming import (
    network_state,
    restore_network,
    restore_training,
    save_training,
)
from gossamer.training.schedules import learning_rate, penalty_factor
from gossamer.training.settings import Settings


class DivergedError(UserError):
    """The loss became NaN or infinite."""


def fit(
    model: nn.Module,
    task: Task,
    settings: Settings | None = None,
    *,
    sparsifier: Sparsifier | None = None,
    scaling: Scaling | None = None,
    checkpoint: str | Path | None = None,
    on_epoch: Callable[[Epoch], None] | None = None,
    progress: bool = False,
    label: str = "training",
) -> History:
    """Train ``model`` in place on ``task.train``, watching ``task.validation``.

    Args:
        model: gives logits ``[batch, classes]`` for ``[batch, *task.input_shape]``.
        task: data and features.
        settings: see :class:`Settings`.
        sparsifier: made for this model; its ``step`` runs after each optimiser step.
        scaling: made for this model by :func:`gossamer.sparsity.supar`; its factors multiply
            the learning rate.
        checkpoint: file written after every epoch; where it exists already, training goes on
            from it and ends with the same weights as an uninterrupted run (on a GPU, as nearly
            as its kernels repeat themselves).
        on_epoch: called after each epoch; an exception from it ends the training.
        progress: show a bar with the time left, on standard error.
        label: the bar's text.

    Returns:
        The history of all epochs, those before a resumption included.

    Raises:
        DivergedError: the loss became NaN or infinite.
        UserError: fewer training examples than one batch, or a checkpoint that is damaged or
            of other settings, or that another process is writing.
    """
    settings = settings or Settings()
    device = pick_device(settings.device)
    # Convolutions train about a third faster on CPUs with channels innermost.
    model.to(device)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            layer.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    if len(task.train.y) < settings.batch_size:
        raise UserError(
            f"batch_size {settings.batch_size} is more than the {len(task.train.y)} training "
            f"examples of task '{task.name}'; use a smaller one"
        )
    if not len(task.validation.y):
        raise UserError(
            f"task '{task.name}' has no validation examples to watch the training by; hold some out"
        )
    train = Examples(task, task.train, device)
    validation = Examples(task, task.validation, device)
    optimizer = make_optimizer(model, settings, scaling)
    batches = len(train) // settings.batch_size
    steps = batches * settings.epochs
    annealed = (
        AnnealActivations(model, max(round(settings.activation_anneal * steps), 1))
        if settings.activation_anneal
        else None
    )
    history = History()
    best: dict[str, Tensor] = {}
    if sparsifier is not None and sparsifier.total_steps is None:
        sparsifier.total_steps = steps
    path = Path(checkpoint) if checkpoint is not None else None

    bar = progress_bar(show=progress, transient=True)
    alone = nullcontext() if path is None else exclusive(path)
    with alone, bar, _accelerated(model, optimizer, sparsifier, settings):
        if path is not None and path.exists():
            best = restore_training(path, model, optimizer, sparsifier, history, settings)
        row = bar.add_task(label, total=steps, completed=len(history.epochs) * batches)
        for epoch in range(len(history.epochs), settings.epochs):
            if history.stopped_early:
                break
            started = time.perf_counter()
            # Everything random in an epoch comes from (seed, epoch): an epoch after a
            # resumption is the same as without one. The caller's generators are untouched.
            rng = np.random.default_rng([settings.seed, epoch])
            order = rng.permutation(len(train))
            loss_sum = torch.zeros((), device=device)
            model.train()
            devices = [device] if device.type == "cuda" else []
            with torch.random.fork_rng(devices=devices):
                torch.manual_seed(int(rng.integers(2**31)))
                for batch in range(batches):
                    index = order[batch * settings.batch_size : (batch + 1) * settings.batch_size]
                    if annealed is not None:
                        annealed.at(epoch * batches + batch)
                    x, y = train.batch(index, rng if settings.augment else None)
                    rate = learning_rate(settings, epoch * batches + batch, steps, epoch)
                    for group in optimizer.param_groups:
                        group["lr"] = rate * group.get("lr_scale", 1.0)
                    loss = functional.cross_entropy(
                        model(x), y, label_smoothing=settings.label_smoothing
                    )
                    penalty = penalties(model)
                    if penalty is not None:
                        share = (epoch * batches + batch) / steps
                        loss = loss + penalty_factor(settings, share) * penalty / len(train)
                    optimizer.zero_grad(set_to_none=True)
                    loss.backward()  # type: ignore[no-untyped-call]
                    optimizer.step()
                    if sparsifier is not None:
                        sparsifier.step(optimizer)
                    loss_sum += loss.detach()
                    bar.advance(row)
            mean_loss = float(loss_sum) / batches
            if not math.isfinite(mean_loss):
                raise DivergedError(
                    f"the loss became {mean_loss} in epoch {epoch + 1} of {settings.epochs} "
                    f"(learning_rate {settings.learning_rate:g}); use a lower learning_rate"
                )
            decay_boost(model)
            if annealed is not None:
                annealed.at((epoch + 1) * batches)
            hits = predict(model, validation.features()).argmax(dim=1) == validation.labels()
            accuracy = float(hits.float().mean())
            done = Epoch(
                epoch + 1,
                mean_loss,
                accuracy,
                rate,
                time.perf_counter() - started,
                (sparsifier is None or sparsifier.settled)
                and (annealed is None or annealed.settled),
                _final_density(model, sparsifier),
            )
            history.epochs.append(done)
            bar.update(row, description=f"{label}: validation accuracy {accuracy:.1%}")
            if settings.patience:
                if history.best is done:
                    best = {
                        n: t.detach().clone() for n, t in network_state(model, sparsifier).items()
                    }
                waited = done.epoch - history.best.epoch
                history.stopped_early = done.settled and waited >= settings.patience
            if path is not None:
                save_training(path, model, optimizer, sparsifier, history, best, settings)
            if on_epoch is not None:
                on_epoch(done)
    if settings.patience and best:
        restore_network(best, model, sparsifier)
    return history


@contextmanager
def _accelerated(
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier | None,
    settings: Settings,
) -> Iterator[None]:
    """Within it layers compute with their non-zeros alone, where the settings ask for it."""
    if not settings.accelerate or sparsifier is None:
        yield
        return
    accelerator = accelerate_sparse(model, sparsifier, optimizer)
    try:
        yield
    finally:
        accelerator.close()


def _final_density(model: nn.Module, sparsifier: Sparsifier | None) -> float | None:
    if any(hasattr(module, "penalty") for module in model.modules()):
        return None
    nonzero, weights = weight_counts(model)
    if sparsifier is not None:
        for name, density in sparsifier.densities.items():
            weight = sparsifier.layers[name].weight
            assert isinstance(weight, Tensor)
            nonzero += round(density * weight.numel()) - int(torch.count_nonzero(weight))
    return nonzero / weights if weights else 1.0
