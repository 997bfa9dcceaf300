"""The precision in which a network trains fastest on this machine."""

from __future__ import annotations

import copy
import time

import torch
from torch import Tensor, nn
from torch.nn import functional

# 16 bits round more, so they must be this many times as fast.
_WORTH = 1.2
_TURNS = 3


def fastest_precision(model: nn.Module, inputs: Tensor) -> str:
    """Return ``bfloat16`` if that trains a classifier clearly faster on the CPU, else ``float32``.

    A few steps forward and back are timed in turns, in processor time, of which other programs
    take little. On a machine with CUDA, which is not timed, ``float32``.

    Args:
        model: returns a tensor [batch, classes]; it does not change.
        inputs: a batch as in training.
    """
    if torch.cuda.is_available():
        return "float32"
    model = copy.deepcopy(model).train()
    labels = torch.zeros(len(inputs), dtype=torch.long)
    seconds = {"float32": float("inf"), "bfloat16": float("inf")}
    for turn in range(1 + _TURNS):
        for name in seconds:
            begun = time.process_time()
            with torch.autocast("cpu", torch.bfloat16, enabled=name == "bfloat16"):
                loss = functional.cross_entropy(model(inputs), labels)
            loss.backward()  # type: ignore[no-untyped-call]
            if turn:  # the first one prepares kernels
                seconds[name] = min(seconds[name], time.process_time() - begun)
    return "bfloat16" if _WORTH * seconds["bfloat16"] < seconds["float32"] else "float32"
