"""Accuracy of a network under corruptions of its examples."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from gossamer.data import Split, Task, corruptions
from gossamer.errors import UserError, nearest
from gossamer.files import write_text
from gossamer.training.evaluate import correct_answers, split_of


@dataclass(frozen=True)
class Curve:
    """Correct answers at each level of one corruption, of ``of`` examples each."""

    name: str
    unit: str
    levels: tuple[float, ...]
    correct: tuple[int, ...]
    of: int

    def as_dict(self) -> dict[str, Any]:
        """The curve as plain data, the way ``metrics.json`` holds it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Curve:
        """The curve of which `as_dict` made ``entry``, through JSON too."""
        return cls(**{**data, "levels": tuple(data["levels"]), "correct": tuple(data["correct"])})


class Unfinished:
    """Curves of a measurement that may be interrupted, in a file until it is finished.

    Args:
        path: of the file.
        of: what is measured, as JSON has it: the network, the data, how many examples. Curves
            of anything else are not taken over.
    """

    def __init__(self, path: str | os.PathLike[str], of: Mapping[str, Any]) -> None:
        self._path = Path(path)
        self._of = dict(of)

    def read(self) -> dict[str, Curve]:
        """Earlier measurements by name; none where the file is missing or damaged."""
        try:
            stored = json.loads(self._path.read_text(encoding="utf-8"))
            if stored["of"] != self._of:
                return {}
            curves = [Curve.from_dict(curve) for curve in stored["curves"]]
        except (OSError, ValueError, KeyError, TypeError):
            return {}
        return {curve.name: curve for curve in curves}

    def add(self, curve: Curve) -> None:
        """Add a curve and write the file.

        Raises:
            UserError: the file cannot be written.
        """
        curves = {**self.read(), curve.name: curve}
        stored = {"of": self._of, "curves": [known.as_dict() for known in curves.values()]}
        write_text(self._path, json.dumps(stored))

    def finish(self) -> None:
        """Delete the file: the curves are in ``metrics.json`` now."""
        self._path.unlink(missing_ok=True)


def robustness(
    model: nn.Module,
    task: Task,
    split: str = "test",
    *,
    kinds: Iterable[str] | None = None,
    examples: int | None = None,
    seed: int = 0,
    batch_size: int = 256,
    on_curve: Callable[[Curve], None] | None = None,
    unfinished: Unfinished | None = None,
) -> list[Curve]:
    """Correct answers under every corruption of the task's kind of data, level by level.

    Images meet common corruptions (Hendrycks & Dietterich 2019), sounds background noise at
    stated signal-to-noise ratios; see :func:`gossamer.data.corruptions`. What an example
    meets depends on ``seed``, corruption and level alone: every network meets the same.

    Args:
        model: gives logits ``[batch, classes]``.
        task: data, features and corruptions.
        split: which examples.
        kinds: names of corruptions; all by default.
        examples: only so many of the split, evenly spread over it.
        seed: of the corruptions.
        batch_size: examples at a time.
        on_curve: called with each curve as soon as it is known.
        unfinished: keeps curves until all are measured, and knows those that were before.

    Raises:
        UserError: no such split or corruption, or none for this kind of data.
    """
    data = _some(split_of(task, split), examples)
    known = corruptions(task)
    wanted = list(known) if kinds is None else list(dict.fromkeys(kinds))
    for name in wanted:
        if name not in known:
            raise UserError(f"no corruption '{name}': {nearest(name, known)}")
    curves = []
    before = {} if unfinished is None else unfinished.read()
    for name in wanted:
        corruption = known[name]
        curve = before.get(name)
        if curve is None:
            correct = tuple(
                correct_answers(
                    model,
                    task,
                    data,
                    corruption.apply,
                    level,
                    np.random.default_rng([seed, zlib.crc32(name.encode()), number]),
                    batch_size=batch_size,
                )
                for number, level in enumerate(corruption.levels)
            )
            curve = Curve(name, corruption.unit, corruption.levels, correct, len(data))
            if unfinished is not None:
                unfinished.add(curve)
        curves.append(curve)
        if on_curve is not None:
            on_curve(curve)
    return curves


def _some(data: Split, examples: int | None) -> Split:
    """So many examples, evenly spread: the classes may stand one after the other."""
    if examples is None or examples >= len(data):
        return data
    chosen = np.linspace(0, len(data), examples, endpoint=False).astype(np.int64)
    return Split(data.x[chosen], data.y[chosen])
