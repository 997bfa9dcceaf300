"""Detections from a network's outputs over time."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gossamer.errors import UserError
from gossamer.numbers import finite, positive_share, whole

#: Classes that are no keywords.
BACKGROUND = ("silence", "unknown")


@dataclass(frozen=True)
class Detection:
    """A detected keyword: the end of its window in ``seconds`` since the stream's start, and its
    smoothed posterior."""

    seconds: float
    keyword: str
    confidence: float


class Detector:
    """A detector that smooths posteriors and reports keywords above a threshold.

    Posteriors are averaged over the last windows. A keyword is reported when its average is the
    highest of all classes and reaches the threshold; then detection pauses for ``refractory``
    seconds. This is the method of Chen, Parada & Heigold 2014 ("Small-footprint keyword spotting
    using deep neural networks", ICASSP) for keywords of one word.

    Args:
        classes: names in the order of the network's outputs.
        threshold: smallest smoothed posterior of a detection, above 0 and at most 1.
        smoothing: number of windows in the average.
        refractory: seconds of the pause after a detection.

    Raises:
        UserError: a setting out of its range, or no class that is a keyword.
    """

    def __init__(
        self,
        classes: Sequence[str],
        threshold: float = 0.8,
        smoothing: int = 3,
        refractory: float = 1.0,
    ) -> None:
        self.threshold = positive_share(threshold, "threshold")
        self._refractory = finite(refractory, "refractory", 0)
        self._recent: deque[NDArray[np.float64]] = deque(
            maxlen=whole(smoothing, 1, "smoothing", 10_000)
        )
        self.classes = list(classes)
        self.keywords = [name for name in classes if name.strip("_") not in BACKGROUND]
        if not self.keywords:
            raise UserError(f"no keyword among the network's classes: {', '.join(classes)}")
        self._quiet_until = -np.inf

    def push(self, seconds: float, outputs: NDArray[np.float32]) -> Detection | None:
        """Add a window's outputs ``[classes]``, logits or log-probabilities; return a detection."""
        exponents = np.exp(outputs.astype(np.float64) - outputs.max())
        self._recent.append(exponents / exponents.sum())
        smoothed = np.mean(self._recent, axis=0)
        best = int(smoothed.argmax())
        sure = smoothed[best] >= self.threshold and len(self._recent) == self._recent.maxlen
        if not sure or self.classes[best] not in self.keywords or seconds < self._quiet_until:
            return None
        self._quiet_until = seconds + self._refractory
        return Detection(seconds, self.classes[best], float(smoothed[best]))
