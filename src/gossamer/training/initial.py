"""The weights of another run to begin with."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from gossamer.errors import UserError
from gossamer.training.tensor_file import MODEL, check_tensors, load_tensors, strip_prefix


def load_weights(model: nn.Module, run: str | Path) -> None:
    """Begin with the weights of a run directory, usually a dense one.

    What only an activation of ``model`` has (the duty cycles of k-winners in place of ReLU)
    stays as it is.

    Raises:
        UserError: the run is missing, damaged, or of a network with other layers.
    """
    path = Path(run) / "model.safetensors"
    if not path.is_file():
        raise UserError(f"init: {run} is not a run directory: it has no model.safetensors")
    weights = strip_prefix(load_tensors(path)[0], MODEL)
    own = model.state_dict()
    check_tensors(path, weights, own)
    parameters = {name for name, _ in model.named_parameters()}
    misfits = [name for name in sorted(parameters) if name not in weights]
    misfits += [
        name for name, value in weights.items() if name in own and own[name].shape != value.shape
    ]
    # A buffer that is gone belonged to an activation; a weight that is gone does not fit.
    misfits += [name for name in weights if name not in own and name.endswith("weight")]
    if misfits:
        name = min(misfits, key=lambda name: name not in parameters)
        there = tuple(weights[name].shape) if name in weights else "missing there"
        here = tuple(own[name].shape) if name in own else "missing here"
        raise UserError(
            f"init: the network of {run} has other layers: '{name}' is {there}, here {here}; "
            "give the same model and sizes"
        )
    model.load_state_dict(weights, strict=False)
