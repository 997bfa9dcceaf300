"""Features of a stream in overlapping windows, equal to a clip's features in training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.data import LogMel
from gossamer.errors import UserError
from gossamer.numbers import finite, whole

Wave = NDArray[np.float32]


class Windows:
    """Windows of a stream of samples, with standardized log-mel features.

    Neighboring windows share most of their frames, so a frame is computed once, when its last
    sample arrives. Only the frames at both ends of a window, which are padded with zeros in
    training, are computed for each window. So the features equal those of
    ``data.Sound.features`` for the same samples, up to rounding.

    Args:
        features: the description of features in a network's file: ``mean``, ``std``, ``samples``
            (of a window) and the arguments of ``LogMel``.
        stride: frames from the start of one window to the start of the next.

    Raises:
        UserError: the description is not of log-mel features, or the stride is invalid.
    """

    def __init__(self, features: Mapping[str, Any], stride: int = 3) -> None:
        own = {k: v for k, v in features.items() if k not in ("kind", "mean", "std", "samples")}
        try:
            self.log_mel = LogMel(**own)
            self._mean = np.float32(finite(features["mean"], "mean", -1e9, 1e9))
            self._std = np.float32(finite(features["std"], "std", 1e-9, 1e9))
            self.samples = whole(features["samples"], 1, "samples", 2**31 - 1)
            _, self.bands, self.frames = self.log_mel.shape(self.samples)
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(
                f"the network was not trained on log-mel features of sound ({error}): train one "
                "on a sound task, such as speech_commands"
            ) from None
        self._hop, self._half = self.log_mel.hop, self.log_mel.n_fft // 2
        self._stride = whole(stride, 1, "stride", 10_000)
        # Frames whose samples all lie within the window.
        self._inner = slice(
            -(-self._half // self._hop), (self.samples - self._half) // self._hop + 1
        )
        self._first = 0  # frame at which the next window starts
        self._sound: Wave = np.zeros(0, np.float32)  # samples from there on
        self._skip = 0  # samples still to come that no window holds
        self._known = np.zeros((0, self.bands), np.float32)  # frames centered from there on

    @property
    def rate(self) -> int:
        """The stream's number of samples per second."""
        return self.log_mel.rate

    def push(self, samples: Wave) -> Iterator[tuple[float, NDArray[np.float32]]]:
        """Add the stream's next samples, float32 ``[n]`` in [-1, 1].

        Yields:
            For each completed window, the time of its end in seconds since the stream's start,
            and its features, float32 ``[1, bands, frames]``.
        """
        skipped = samples[: self._skip]
        self._skip -= len(skipped)
        self._sound = np.concatenate([self._sound, samples[len(skipped) :]])
        while len(self._sound) >= self.samples:
            yield (self._first * self._hop + self.samples) / self.rate, self._features()
            self._first += self._stride
            moved = self._stride * self._hop
            self._skip = max(0, moved - len(self._sound))
            self._sound = self._sound[moved:]
            self._known = self._known[self._stride :]

    def _features(self) -> NDArray[np.float32]:
        window = self._sound[: self.samples]
        out = np.empty((self.frames, self.bands), np.float32)
        inner = range(*self._inner.indices(self.frames))
        known = max(len(self._known), inner.start)
        fresh = self._pieces(window, range(known, inner.stop))
        if not len(self._known):  # the frames before the first inner one are never asked for
            self._known = np.zeros((inner.start, self.bands), np.float32)
        self._known = np.concatenate([self._known, fresh])
        out[self._inner] = self._known[self._inner]
        padded = np.pad(window, self._half)
        edges = [i for i in range(self.frames) if i not in inner]
        starts = np.array(edges, int) * self._hop
        at_edges = np.stack([padded[s : s + 2 * self._half] for s in starts])
        out[edges] = self.log_mel.frames(at_edges)
        features: NDArray[np.float32] = (out.T[None] - self._mean) / self._std
        return features

    def _pieces(self, window: Wave, frames: range) -> NDArray[np.float32]:
        starts = [frame * self._hop - self._half for frame in frames]
        pieces = [window[start : start + 2 * self._half] for start in starts]
        return self.log_mel.frames(np.stack(pieces)) if pieces else self._known[:0]
