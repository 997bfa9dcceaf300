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
    """Correct answers at each level of one corruption, out of ``of`` examples."""

    name: str
    unit: str
    levels: tuple[float, ...]
    correct: tuple[int, ...]
    of: int

    def as_dict(self) -> dict[str, Any]:
        """Return the curve as plain data, as in ``metrics.json``."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Curve:
        """Make a curve from the data that `as_dict` returned, read from JSON or not."""
        return cls(**{**data, "levels": tuple(data["levels"]), "correct": tuple(data["correct"])})


class Unfinished:
    """File of the curves of an unfinished measurement, so that it can be resumed.

    Args:
        path: the file.
        of: identifies the measurement, as JSON values: the network, the data, the number of
            examples. Curves of other measurements are ignored.
    """

    def __init__(self, path: str | os.PathLike[str], of: Mapping[str, Any]) -> None:
        self._path = Path(path)
        self._of = dict(of)

    def read(self) -> dict[str, Curve]:
        """Return earlier curves by name; none if the file is missing or damaged."""
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
        """Delete the file, once the curves are in ``metrics.json``."""
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
    """Count correct answers under each corruption, level by level.

    Images get common corruptions (Hendrycks & Dietterich 2019), sounds background noise at
    stated signal-to-noise ratios; see :func:`gossamer.data.corruptions`. They depend only on
    ``seed``, corruption and level, so they are the same for every network.

    Args:
        model: returns logits ``[batch, classes]``.
        task: data, features and corruptions.
        split: ``train``, ``validation`` or ``test``.
        kinds: names of corruptions; all by default.
        examples: use only so many examples, evenly spread over the split.
        seed: of the corruptions.
        batch_size: examples at a time.
        on_curve: called with each curve when it is measured.
        unfinished: stores the curves so far, and returns those of an interrupted measurement.

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
    """Return ``examples`` of ``data``, evenly spread, because the split may be sorted by class."""
    if examples is None or examples >= len(data):
        return data
    chosen = np.linspace(0, len(data), examples, endpoint=False).astype(np.int64)
    return Split(data.x[chosen], data.y[chosen])
