"""The examples of a split as tensors, and a network's answers to them."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.data import Augmentation, Split, Task
from gossamer.sparsity.modes import evaluating

#: Examples that are evaluated together. The activations of more do not fit the caches: batches of
#: 256 took a ResNet-20 on one core 1.4 times as long.
BATCH_SIZE = 64


class Examples:
    """A split of a task as batches of tensors on a device.

    Features are computed once, or again for each epoch if examples are augmented: the raw
    examples by their task, then the features by ``augmentation``.
    """

    def __init__(
        self,
        task: Task,
        split: Split,
        device: torch.device,
        augmentation: Augmentation | None = None,
    ) -> None:
        self.augmentation = augmentation
        self.task = task
        self.split = split
        self.device = device
        self._plain: Tensor | None = None

    def __len__(self) -> int:
        return len(self.split.y)

    def features(self) -> Tensor:
        """Return all examples without augmentation, ``[N, *input_shape]``."""
        if self._plain is None:
            self._plain = torch.from_numpy(self.task.features(self.split.x)).to(self.device)
        return self._plain

    def labels(self) -> Tensor:
        """Return the labels, ``[N]`` int64."""
        return torch.from_numpy(self.split.y).to(self.device)

    def batch(self, index: np.ndarray, rng: np.random.Generator | None) -> tuple[Tensor, Tensor]:
        """Return examples and labels at ``index``, augmented with ``rng`` unless it is None."""
        y = torch.from_numpy(self.split.y[index]).to(self.device)
        if rng is None:
            return self.features()[torch.from_numpy(index).to(self.device)], y
        x = self.task.features(self.task.augment(self.split.x[index], rng))
        if self.augmentation:
            x = self.augmentation(x, rng)
        return torch.from_numpy(x).to(self.device), y


def device_of(model: nn.Module) -> torch.device:
    """Return the device of a network's parameters; the CPU if it has none."""
    return next((p.device for p in model.parameters()), torch.device("cpu"))


def predict(model: nn.Module, x: Tensor, batch_size: int = BATCH_SIZE) -> Tensor:
    """Return the logits ``[N, classes]`` of evaluation mode; then restore the modules' modes."""
    with evaluating(model), torch.inference_mode():
        parts = x.split(batch_size)  # type: ignore[no-untyped-call]
        return torch.cat([model(part) for part in parts])
