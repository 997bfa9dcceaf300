"""What readers of the pages have: a network, data, and files of both, in a folder."""

from __future__ import annotations

import json
import shutil
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


CLASSES = [f"word {number}" for number in range(12)]


@cache
def _exported() -> bytes:
    """A small speech network, untrained, with the description that ``listen`` reads."""
    import numpy as np
    import onnx
    import torch

    import gossamer as gs
    from gossamer.data.audio import Sound
    from gossamer.nn import to_onnx

    torch.manual_seed(0)
    model = gs.models.speech_cnn(
        classes=12, channels=(8, 16), hidden=64, activation_density=(0.1, 0.1, 0.1)
    )
    gs.prune(model, 0.2)
    proto = to_onnx(model.eval(), torch.randn(2, 1, 32, 32))
    features = Sound(np.zeros(0, np.int16), mean=-50.0, std=5.0).description
    described = json.dumps({"classes": CLASSES, "features": features})
    onnx.helper.set_model_props(proto, {"gossamer": described})
    return proto.SerializeToString()


def files(folder: Path) -> None:
    """The experiments, networks of ONNX, an input for them and a recording, in ``folder``."""
    import numpy as np

    shutil.copytree(ROOT / "experiments", folder / "experiments")
    (folder / "model.onnx").write_bytes(_exported())
    recording(folder)
    np.save(folder / "x.npy", np.zeros((2, 1, 32, 32), np.float32))


def recording(folder: Path) -> None:
    """A recording of the reader's own."""
    import numpy as np
    import soundfile

    noise = np.random.default_rng(0).uniform(-0.1, 0.1, 3 * 16_000)
    soundfile.write(folder / "recording.wav", noise, 16_000)


def names(folder: Path) -> dict[str, Any]:
    """Names that a page may use: a network, its optimizer, an example, an engine."""
    import numpy as np
    import torch

    import gossamer as gs

    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(64, 32), torch.nn.ReLU(), torch.nn.Linear(32, 10))
    x = np.zeros((2, 1, 32, 32), np.float32)
    network = folder / "model.onnx"
    engine = {"engine": gs.Engine(network, threads=1)} if network.exists() else {}
    return {
        **engine,
        "gs": gs,
        "torch": torch,
        "model": model,
        "optimizer": torch.optim.SGD(model.parameters(), lr=0.1),
        "example": torch.randn(1, 64),
        "x": x,
        "examples": x,
    }
