"""Keyword spotting in a stream by a network, and its cost."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from gossamer.errors import UserError
from gossamer.listen.detector import Detection, Detector
from gossamer.listen.windows import Wave, Windows
from gossamer.runtime import Engine
from gossamer.runtime.importer import read


@dataclass
class Score:
    """Cost of listening; ``real_time_factor``, work per second of sound, must be below 1.

    ``network_seconds`` is the engine's part of ``work_seconds``; both are measured clock time.
    ``peak`` is the loudest sample, relative to full scale 1.
    """

    sound_seconds: float = 0.0
    work_seconds: float = 0.0
    network_seconds: float = 0.0
    windows: int = 0
    detections: int = 0
    peak: float = 0.0

    @property
    def real_time_factor(self) -> float:
        return self.work_seconds / self.sound_seconds if self.sound_seconds else 0.0


class Spotter:
    """A detector of keywords in a stream of sound.

    Args:
        model: an ONNX file written by ``gossamer train`` or ``gossamer export`` from a run on a
            sound task, which contains its classes and the settings of its features.
        stride: frames (of 32 ms) from one window to the next.
        classes: names in the order of the outputs, by default the file's.
        threshold, smoothing, refractory: see :class:`Detector`.

    Raises:
        UserError: the file cannot be read, or was not trained on sound.
    """

    def __init__(
        self,
        model: str | os.PathLike[str],
        *,
        stride: int = 3,
        classes: Sequence[str] | None = None,
        threshold: float = 0.8,
        smoothing: int = 3,
        refractory: float = 1.0,
    ) -> None:
        graph = read(model)
        try:
            description = json.loads(graph.metadata["gossamer"])
            features, named = description["features"], list(description["classes"])
        except (KeyError, TypeError, ValueError):
            raise UserError(
                f"{model} does not say how its features are made; write it with "
                "'gossamer export RUN' from a run on a sound task"
            ) from None
        if features.get("kind") != "log_mel":
            raise UserError(
                f"{model} was trained on {features.get('kind')}, not on sound; train on a sound "
                "task, such as speech_commands"
            )
        outputs = graph.shapes[graph.outputs[0]][-1]
        names = list(classes) if classes is not None else named
        if len(names) != outputs:
            raise UserError(f"{len(names)} labels for the {outputs} outputs of {model}")
        if classes is not None and len({*names, ""}) <= outputs:
            raise UserError(f"labels must differ, and none be empty: {', '.join(names)}")
        self._fresh: Callable[[], tuple[Windows, Detector]] = lambda: (
            Windows(features, stride),
            Detector(names, threshold, smoothing, refractory),
        )
        self._model = model
        self.restart()
        if (1, self.windows.bands, self.windows.frames) != graph.shapes[graph.inputs[0]][1:]:
            raise UserError(f"{model}: its input does not have the shape of its features")
        self.engine = Engine(graph, threads=1)

    def restart(self) -> None:
        """Reset the state, for the first samples of another stream."""
        self.windows, self.detector = self._fresh()
        self.score = Score()

    @property
    def rate(self) -> int:
        """The stream's number of samples per second."""
        return self.windows.rate

    def push(self, samples: Wave) -> list[Detection]:
        """Add the next samples, float32 ``[n]`` in [-1, 1]; return the detections in them.

        Raises UserError if the network's outputs are NaN or infinite.
        """
        started = time.perf_counter()
        detections = []
        for seconds, features in self.windows.push(samples):
            before = time.perf_counter()
            outputs = self.engine(features[None])[0]
            self.score.network_seconds += time.perf_counter() - before
            self.score.windows += 1
            if not np.isfinite(outputs.max()):
                raise UserError(
                    f"the outputs of {self._model} are not finite numbers at {seconds:.2f} s: its "
                    "training may have diverged; train it again at a lower learning_rate"
                )
            detection = self.detector.push(seconds, outputs)
            if detection is not None:
                detections.append(detection)
        self.score.sound_seconds += len(samples) / self.rate
        self.score.work_seconds += time.perf_counter() - started
        self.score.detections += len(detections)
        self.score.peak = max(self.score.peak, float(np.abs(samples).max(initial=0.0)))
        return detections

    def listen(self, blocks: Iterable[Wave]) -> Iterator[Detection]:
        """Yield detections in a stream of blocks, without delay."""
        for block in blocks:
            yield from self.push(np.asarray(block, np.float32))
