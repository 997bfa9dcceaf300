"""Measurements of an exported network on this machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.deploy import engine_times
from gossamer.energy import count_work
from gossamer.errors import UserError
from gossamer.runtime import Engine


def measure(model: Path, inputs: NDArray[Any]) -> dict[str, Any]:
    """The size of an ONNX file, its times under the engine and its work, or why it has none.

    Args:
        model: the file.
        inputs: examples ``[N, ...]`` that the engine is planned and timed on.
    """
    measured: dict[str, Any] = {"file_bytes": model.stat().st_size}
    try:
        inputs = np.ascontiguousarray(inputs, np.float32)
        engine = Engine(model, threads=1, sample=inputs)
        own, dense = count_work(engine)
        measured["engine"] = engine_times(engine, inputs)
    except UserError as error:  # a network of one's own may hold any operator
        return {**measured, "engine": {"refused": str(error)}}
    works = {"own": own, "dense": dense}
    measured["energy"] = {side: [w.as_dict() for w in listed] for side, listed in works.items()}
    return measured
