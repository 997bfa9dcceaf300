"""The exported network that the tests listen with."""

import numpy as np
import pytest
import torch
from tests.listen.loudness import CLASSES, Loudness

from gossamer.data.audio import Sound
from gossamer.nn import export


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    path = tmp_path_factory.mktemp("listen") / "model.onnx"
    description = Sound(np.zeros(0, np.int16), mean=-50.0, std=5.0).description
    export(
        Loudness(), torch.zeros(2, 1, 32, 32), path, {"classes": CLASSES, "features": description}
    )
    return path
