"""Tasks: three splits of raw examples, their features, augmentation and noise."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

SPLITS = ("train", "validation", "test")

#: Noise levels of the noise score (Ahmad & Scheinkman 2019, arXiv 1903.11257): 0, 0.05 .. 0.5.
NOISE_LEVELS: tuple[float, ...] = tuple(round(0.05 * step, 2) for step in range(11))

_OVERLAP = 0.01  # share of a split's examples


@dataclass(frozen=True)
class Split:
    """Raw examples, before features.

    ``x``: waveforms ``[N, samples]`` (int16, or float32 in [-1, 1]), images ``[N, H, W]``
    (uint8 or float32), or a user's arrays ``[N, ...]``. ``y``: int64 ``[N]``.
    """

    x: Array
    y: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.y)


class Domain(Protocol):
    """Base of the kinds of data (sound, images, vectors)."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one example after ``features``."""

    @property
    def description(self) -> dict[str, Any]:
        """Description by which a deployed network makes its features, as plain JSON values."""

    def features(self, x: Array) -> NDArray[np.float32]:
        """Convert a raw batch to standardized float32 ``[B, *shape]``."""

    def augment(self, x: Array, rng: np.random.Generator) -> Array:
        """Return a randomly varied raw batch, for training only."""

    def noise(self, x: Array, level: float, rng: np.random.Generator) -> Array:
        """Return a raw batch with noise of ``level`` (0 leaves it unchanged)."""


@dataclass(frozen=True)
class Task:
    """Classified examples in three splits, with their features, augmentation and noise.

    ``synthetic`` is true if the data are not real recordings or photographs; ``source`` is one
    line on their origin and license.
    """

    name: str
    classes: tuple[str, ...]
    train: Split
    validation: Split
    test: Split
    domain: Domain
    source: str
    synthetic: bool = False

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example after ``features``, e.g. ``(1, 32, 32)``."""
        return self.domain.shape

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all examples and labels, whatever their order within a split.

        Loaders that shuffle give the same examples in another order every time. Another processor
        rounds the moments of the features in another way.
        """
        written = json.dumps(self.domain.description)
        rounded = json.loads(written, parse_float=lambda digits: f"{float(digits):.4g}")
        whole = hashlib.sha256(repr((self.classes, rounded)).encode())
        for part in (self.train, self.validation, self.test):
            whole.update(repr((part.x.dtype, part.x.shape)).encode())
            for digest in sorted(map(_digest, part.x, part.y)):
                whole.update(digest)
        return whole.hexdigest()

    @property
    def description(self) -> dict[str, Any]:
        """Description in an exported network: the classes and how features are made."""
        return {"classes": list(self.classes), "features": self.domain.description}

    def features(self, x: Array) -> NDArray[np.float32]:
        """Convert a raw batch to float32 ``[B, *input_shape]``, standardized as for training."""
        return self.domain.features(x)

    def augment(self, x: Array, rng: np.random.Generator) -> Array:
        """Return a varied raw batch, for training only; unchanged if data have no augmentation."""
        return self.domain.augment(x, rng)

    def noise(self, x: Array, level: float, rng: np.random.Generator) -> Array:
        """Return a raw batch with the noise score's noise at ``level`` in [0, 1]; 0: unchanged."""
        return self.domain.noise(x, level, rng)


def warn_of_overlap(task: Task) -> Task:
    """Return ``task``; warn of examples that are in two splits, if they are over 1 % of the later.

    Fewer are usual where data repeat naturally, and so are blank examples, of one value each, such
    as silence: these do not count. Labels do not matter.
    """
    splits = {"training": task.train, "validation": task.validation, "test": task.test}
    kind = np.result_type(*(part.x.dtype for part in splits.values()))
    # 64 bits of a hash: among a million examples, two different ones hardly ever share one.
    hashes = {
        name: [hash(np.asarray(x, kind).tobytes()) for x in part.x] for name, part in splits.items()
    }
    for first, later in combinations(splits, 2):
        known = set(hashes[first])
        shared = (x for x, h in zip(splits[later].x, hashes[later], strict=True) if h in known)
        count, of = sum(bool((x != x.flat[0]).any()) for x in shared), len(splits[later])
        if count > _OVERLAP * of:
            warnings.warn(
                f"{task.name}: {count:,} of {of:,} {later} examples are {first} examples too, so "
                f"figures of {later} say less about new data; give each example once",
                stacklevel=3,
            )
    return task


def _digest(x: Array, y: np.int64) -> bytes:
    digest = hashlib.sha256(np.ascontiguousarray(x).data)
    digest.update(y.tobytes())
    return digest.digest()
