"""Which layers of a model can be sparse."""

from __future__ import annotations

from torch import nn

# Layers with one weight of shape [outputs, inputs / groups, ...kernel].
SPARSIFIABLE = (nn.Linear, nn.Conv1d, nn.Conv2d)


def sparsifiable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``model`` whose weights can be sparse, by qualified name, in model order.

    A weight that several layers share appears once, under its first name.
    """
    found: dict[str, nn.Module] = {}
    weights: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, SPARSIFIABLE) and id(module.weight) not in weights:
            weights.add(id(module.weight))
            found[name] = module
    return found
