"""Measurements of a trained network: accuracy, noise score, densities, operations, time."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from gossamer.data import NOISE_LEVELS, Split, Task
from gossamer.data.task import SPLITS, Array
from gossamer.errors import UserError, nearest
from gossamer.nn import quantized_layers, unrounded
from gossamer.progress import progress_bar
from gossamer.sparsity.modes import evaluating
from gossamer.training.flops import Counts, count
from gossamer.training.loader import BATCH_SIZE, Examples, device_of, predict


@dataclass(frozen=True)
class Noise:
    """Correct answers at each noise level, their sum ``score``, and its highest value ``of``."""

    levels: tuple[float, ...]
    correct: tuple[int, ...]
    score: int
    of: int


@dataclass(frozen=True)
class Evaluation:
    """The results of a network on one split of a task.

    Attributes:
        split: ``train``, ``validation`` or ``test``.
        accuracy: share of correct answers.
        correct, examples: correct answers, and all of them.
        loss: mean cross-entropy.
        noise: accuracy under noise, if it was measured.
        counts: non-zeros, activation densities and multiply-adds on the split.
        seconds: median time of one inference at batch 1 in torch, if it was measured.
        float_accuracy: of a network with 8-bit layers, the accuracy of the same weights in 32
            bits; all other figures are those of 8 bits.
    """

    split: str
    accuracy: float
    correct: int
    examples: int
    loss: float
    counts: Counts
    noise: Noise | None
    seconds: float | None
    float_accuracy: float | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return the evaluation as plain data, as in ``metrics.json``."""
        counts = self.counts
        result: dict[str, Any] = {
            "split": self.split,
            "accuracy": self.accuracy,
            "correct": self.correct,
            "examples": self.examples,
            "loss": self.loss,
            "weights": {
                "total": counts.weights,
                "nonzero": counts.nonzero,
                "density": counts.density,
                "parameters": counts.parameters,
                "parameters_nonzero": counts.parameters_nonzero,
                "bytes": counts.bytes,
            },
            "activations": counts.activity(),
            "macs": counts.macs(),
            "layers": [{**asdict(layer), "density": layer.density} for layer in counts.layers],
        }
        if self.noise is not None:
            result["noise"] = asdict(self.noise)
        if self.seconds is not None:
            result["seconds"] = {"batch1": self.seconds}
        if self.float_accuracy is not None:
            result["float_accuracy"] = self.float_accuracy
        return result


def evaluate(
    model: nn.Module,
    task: Task,
    split: str = "test",
    *,
    noise: bool = True,
    timing: bool = True,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    progress: bool = False,
) -> Evaluation:
    """Evaluate ``model``, on the device that it is on, with a split of ``task``.

    Args:
        model: returns logits ``[batch, classes]``.
        task: data, features and noise.
        split: ``train``, ``validation`` or ``test``.
        noise: also measure the noise score over the eleven levels of :data:`NOISE_LEVELS`, which
            takes ten times as long as the accuracy.
        timing: also measure the time of one inference.
        seed: of the noise, which is the same for every network.
        batch_size: examples at a time.
        progress: show a progress bar of the noise score on standard error.

    Raises:
        UserError: no such split.
    """
    data = split_of(task, split)
    device = device_of(model)
    examples = Examples(task, data, device)
    x, y = examples.features(), examples.labels()
    answers: list[Tensor] = []
    counts = count(model, x.split(batch_size), answers.append)  # type: ignore[no-untyped-call]
    logits = torch.cat(answers)
    correct = int((logits.argmax(dim=1) == y).sum())
    unrounded_accuracy = None
    if quantized_layers(model):
        with unrounded(model):
            hits = predict(model, x, batch_size).argmax(dim=1) == y
        unrounded_accuracy = int(hits.sum()) / max(len(y), 1)
    return Evaluation(
        split=split,
        accuracy=correct / max(len(y), 1),
        correct=correct,
        examples=len(y),
        loss=float(functional.cross_entropy(logits, y)),
        counts=counts,
        noise=noise_score(
            model, task, split, seed=seed, batch_size=batch_size, clean=correct, progress=progress
        )
        if noise
        else None,
        seconds=inference_seconds(model, x[:1]) if timing else None,
        float_accuracy=unrounded_accuracy,
    )


def split_of(task: Task, name: str) -> Split:
    """Return the split named ``name``; raise UserError if there is none."""
    if name not in SPLITS:
        raise UserError(f"no split '{name}': {nearest(name, SPLITS)}")
    split: Split = getattr(task, name)
    return split


def noise_score(
    model: nn.Module,
    task: Task,
    split: str = "test",
    *,
    seed: int = 0,
    batch_size: int = BATCH_SIZE,
    clean: int | None = None,
    progress: bool = False,
) -> Noise:
    """Count correct answers at each of eleven noise levels (Ahmad & Scheinkman 2019, section 4).

    The noise depends only on ``seed`` and the level, so it is the same for every network.

    Args:
        model, task, split, seed, batch_size, progress: see :func:`evaluate`.
        clean: number of correct answers without noise, where it is known.

    Raises:
        UserError: no such split.
    """
    data = split_of(task, split)
    correct = []
    with progress_bar(show=progress, transient=True) as bar:
        for number, level in enumerate(bar.track(NOISE_LEVELS, description="noise score")):
            if level == 0 and clean is not None:
                correct.append(clean)
                continue
            rng = np.random.default_rng([seed, number])
            correct.append(
                correct_answers(model, task, data, task.noise, level, rng, batch_size=batch_size)
            )
    return Noise(
        levels=tuple(NOISE_LEVELS),
        correct=tuple(correct),
        score=sum(correct),
        of=len(NOISE_LEVELS) * len(data.y),
    )


def correct_answers(
    model: nn.Module,
    task: Task,
    data: Split,
    change: Callable[[Array, float, np.random.Generator], Array],
    level: float,
    rng: np.random.Generator,
    *,
    batch_size: int,
) -> int:
    """Return the number of correct answers to ``data`` changed by ``change`` at ``level``.

    Args:
        change: takes a raw batch, the level and a generator, and returns a raw batch.
    """
    device = device_of(model)
    hits = 0
    for start in range(0, len(data.y), batch_size):
        part = slice(start, start + batch_size)
        x = task.features(change(data.x[part], level, rng))
        answers = predict(model, torch.from_numpy(x).to(device), batch_size).argmax(dim=1)
        hits += int((answers.cpu() == torch.from_numpy(data.y[part])).sum())
    return hits


def inference_seconds(model: nn.Module, x: Tensor, *, least_seconds: float = 0.3) -> float:
    """Return the median wall time of ``model(x)`` in evaluation mode, in seconds, warmed up."""

    def once() -> float:
        started = time.perf_counter()
        model(x)
        if x.is_cuda:
            torch.cuda.synchronize(x.device)
        return time.perf_counter() - started

    with evaluating(model), torch.inference_mode():
        for _ in range(5):
            once()
        times: list[float] = []
        while len(times) < 20 or sum(times) < least_seconds:
            times.append(once())
    return float(np.median(times))
