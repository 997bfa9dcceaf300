"""Legal settings that files rarely have: what ONNX Runtime computes, or one clear refusal."""

from __future__ import annotations

import networks
import numpy as np
import pytest
from networks import Builder

from gossamer.errors import UserError
from gossamer.runtime import Engine
from gossamer.runtime.importer import read

ONES = np.ones((1, 3), np.float32)


def test_an_operator_that_only_runs_on_values_refuses_a_constant() -> None:
    b = Builder(3, batch=1)
    b.add("Add", "x", b.add("LogSoftmax", ONES))
    with pytest.raises(UserError, match=r"\(LogSoftmax\): it works on a constant"):
        read(b.model())
