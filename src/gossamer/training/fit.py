"""Trains a network on a task."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data import Split, Task
from gossamer.errors import UserError
from gossamer.nn import AnnealActivations, decay_boost, penalties
from gossamer.sparsity import Scaling, Sparsifier, accelerate_sparse
from gossamer.training.checkpoint import (
    flatten_optimizer,
    give,
    load_tensors,
    pick_device,
    save_tensors,
    take,
    unflatten_optimizer,
)
from gossamer.training.counting import weight_counts
from gossamer.training.settings import Settings


class DivergedError(UserError):
    """The loss became NaN or infinite."""


@dataclass(frozen=True)
class Epoch:
    """What one epoch gave.

    ``accuracy`` is on the validation split, ``seconds`` wall time; ``settled`` says whether
    weights and activations were as sparse as they are in the end. ``density`` is the share of
    weights that masks leave at the end of the training, known from the first epoch on; None where
    training itself decides it.
    """

    epoch: int
    loss: float
    accuracy: float
    learning_rate: float
    seconds: float
    settled: bool = True
    density: float | None = None


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


class Examples:
    """A split of a task as batches of tensors on a device.

    Features are computed once where they stay the same, and anew for each epoch where
    examples are augmented.
    """

    def __init__(self, task: Task, split: Split, device: torch.device) -> None:
        self.task = task
        self.split = split
        self.device = device
        self._plain: Tensor | None = None

    def __len__(self) -> int:
        return len(self.split.y)

    def features(self) -> Tensor:
        """All examples without augmentation, ``[N, *input_shape]``."""
        if self._plain is None:
            self._plain = torch.from_numpy(self.task.features(self.split.x)).to(self.device)
        return self._plain

    def labels(self) -> Tensor:
        """``[N]`` int64."""
        return torch.from_numpy(self.split.y).to(self.device)

    def batch(self, index: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """The examples at ``index``, augmented from ``rng`` if it is given."""
        y = torch.from_numpy(self.split.y[index]).to(self.device)
        if rng is None:
            return self.features()[torch.from_numpy(index).to(self.device)], y
        x = self.task.features(self.task.augment(self.split.x[index], rng))
        return torch.from_numpy(x).to(self.device), y


def predict(model: nn.Module, x: Tensor, batch_size: int = 256) -> Tensor:
    """Logits ``[N, classes]`` in evaluation mode; the model's mode is put back after."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            parts = x.split(batch_size)  # type: ignore[no-untyped-call]
            return torch.cat([model(part) for part in parts])
    finally:
        model.train(was_training)


def _optimizer(
    model: nn.Module, settings: Settings, scaling: Scaling | None = None
) -> torch.optim.Optimizer:
    # Decaying biases and norms only harms (He et al. 2019, arXiv 1812.01187).
    # A module that asks for a penalty of its own is not decayed besides.
    own = {
        id(p) for m in model.modules() if hasattr(m, "penalty") for p in m.parameters(recurse=False)
    }
    trained = [p for p in model.parameters() if p.requires_grad]
    decayed = [p for p in trained if p.dim() > 1 and id(p) not in own]
    others = [p for p in trained if p.dim() <= 1 or id(p) in own]
    groups = [
        {"params": decayed, "weight_decay": settings.weight_decay},
        {"params": others, "weight_decay": 0.0},
    ]
    rate = settings.learning_rate
    if scaling is not None:
        groups = scaling.groups(rate, settings.weight_decay)
    if settings.optimizer == "sgd":
        return torch.optim.SGD(
            groups, lr=rate, momentum=settings.momentum, nesterov=settings.momentum > 0.0
        )
    kind = torch.optim.Adam if settings.optimizer == "adam" else torch.optim.AdamW
    return kind(groups, lr=rate)


def _learning_rate(settings: Settings, step: int, steps: int, epoch: int) -> float:
    """Rate before optimiser step ``step`` of ``steps``; a function of the position alone.

    One cycle (Smith & Topin 2017, arXiv 1708.07120): up from a 50th of the highest rate and
    down to nearly nothing, along cosines.
    """
    peak = settings.learning_rate
    if settings.schedule == "constant":
        return peak
    if settings.schedule == "step":
        return peak * settings.learning_rate_decay**epoch
    if settings.schedule == "phases":
        first = settings.penalty_warmup_start * settings.epochs
        last = settings.penalty_warmup_end * settings.epochs
        return float(
            peak
            * settings.learning_rate_decay_before ** min(epoch, first)
            * settings.learning_rate_decay_during ** min(max(epoch - first, 0.0), last - first)
            * settings.learning_rate_decay_after ** max(epoch - last, 0.0)
        )
    rise = settings.warmup * steps
    if step < rise:
        low, high, share = peak / 50.0, peak, step / rise
    else:
        low, high, share = peak, peak / 5e4, (step - rise) / max(steps - rise, 1.0)
    return high + (low - high) * (1.0 + math.cos(math.pi * share)) / 2.0


def _penalty_factor(settings: Settings, share: float) -> float:
    """Of the penalty, after a ``share`` of the training."""
    first, last = settings.penalty_warmup_start, settings.penalty_warmup_end
    risen = (share - first) / (last - first) if last > first else float(share >= first)
    start, end = settings.penalty_start, settings.penalty_end
    return start + (end - start) * min(max(risen, 0.0), 1.0)


def _progress(enabled: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        disable=not enabled,
        transient=True,
    )


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
            from it and ends with the same weights as an uninterrupted run.
        on_epoch: called after each epoch; an exception from it ends the training.
        progress: show a bar with the time left.
        label: the bar's text.

    Returns:
        The history of all epochs, those before a resumption included.

    Raises:
        DivergedError: the loss became NaN or infinite.
        UserError: fewer training examples than one batch, or a checkpoint that is damaged or
            of other settings.
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
    optimizer = _optimizer(model, settings, scaling)
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
    if path is not None and path.exists():
        best = _restore(path, model, optimizer, sparsifier, history, settings)

    bar = _progress(progress)
    with bar, _accelerated(model, optimizer, sparsifier, settings):
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
                    rate = _learning_rate(settings, epoch * batches + batch, steps, epoch)
                    for group in optimizer.param_groups:
                        group["lr"] = rate * group.get("lr_scale", 1.0)
                    loss = functional.cross_entropy(
                        model(x), y, label_smoothing=settings.label_smoothing
                    )
                    penalty = penalties(model)
                    if penalty is not None:
                        share = (epoch * batches + batch) / steps
                        loss = loss + _penalty_factor(settings, share) * penalty / len(train)
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
            bar.update(row, description=f"{label}: accuracy {accuracy:.1%}")
            if settings.patience:
                if history.best is done:
                    best = {n: t.detach().clone() for n, t in _state(model, sparsifier).items()}
                waited = done.epoch - history.best.epoch
                history.stopped_early = done.settled and waited >= settings.patience
            if path is not None:
                _save(path, model, optimizer, sparsifier, history, best, settings)
            if on_epoch is not None:
                on_epoch(done)
    if settings.patience and best:
        model.load_state_dict(take(best, "model."))
        if sparsifier is not None:
            sparsifier.load_state_dict(take(best, "sparsifier."))
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


def _state(model: nn.Module, sparsifier: Sparsifier | None) -> dict[str, Tensor]:
    masks = sparsifier.state_dict() if sparsifier is not None else {}
    return {**give(model.state_dict(), "model."), **give(masks, "sparsifier.")}


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


def _save(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier | None,
    history: History,
    best: dict[str, Tensor],
    settings: Settings,
) -> None:
    moments, plain = flatten_optimizer(optimizer.state_dict())
    tensors = {
        **_state(model, sparsifier),
        **give(moments, "optimizer."),
        **give(best, "best."),
    }
    save_tensors(
        path,
        tensors,
        {
            "optimizer": plain,
            "history": asdict(history),
            "settings": asdict(settings),
            "sparsity": repr(sparsifier),
        },
    )


def _restore(
    path: Path,
    model: nn.Module,
    optimizer: torch.optim.Optimizer,
    sparsifier: Sparsifier | None,
    history: History,
    settings: Settings,
) -> dict[str, Tensor]:
    """Put everything back as it was after the checkpoint's last epoch; returns the best weights."""
    tensors, data = load_tensors(path)
    mend = "give the same settings, or delete it to start anew"
    try:
        saved: dict[str, Any] = data["settings"]
        present = json.loads(json.dumps(asdict(settings)))
        for name, value in present.items():
            if name != "device" and saved[name] != value:
                raise UserError(
                    f"checkpoint {path} was made with {name} = {saved[name]!r}, "
                    f"not {value!r}; {mend}"
                )
        masks = take(tensors, "sparsifier.")
        if bool(masks) != (sparsifier is not None):
            raise UserError(
                f"checkpoint {path} was made {'with' if masks else 'without'} a sparsifier; {mend}"
            )
        sparse = data.get("sparsity", repr(sparsifier))
        if sparse != repr(sparsifier):
            raise UserError(f"checkpoint {path} was made with {sparse}, not {sparsifier}; {mend}")
        model.load_state_dict(take(tensors, "model."))
        optimizer.load_state_dict(
            unflatten_optimizer(take(tensors, "optimizer."), data["optimizer"])
        )
        if sparsifier is not None:
            sparsifier.load_state_dict(masks)
        history.epochs = [Epoch(**epoch) for epoch in data["history"]["epochs"]]
        history.stopped_early = data["history"]["stopped_early"]
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, RuntimeError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UserError(f"checkpoint {path} is of another network ({reason}); {mend}") from None
    return take(tensors, "best.")
