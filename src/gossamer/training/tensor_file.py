"""Tensors and plain data in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gossamer.errors import UserError, first_line
from gossamer.files import writing

_DATA = "gossamer"

#: Prefix of the names of a network's tensors in a run's file.
MODEL = "model."


def save_tensors(path: Path, tensors: Mapping[str, Tensor], data: Mapping[str, Any]) -> None:
    """Save named tensors and JSON-like ``data`` to ``path``.

    Raises:
        UserError: the file cannot be written.
    """
    # Clones, because safetensors refuses tensors that share memory.
    own = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}
    with writing(path) as file:
        file.write(save(own, metadata={_DATA: json.dumps(data)}))


def load_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read the tensors that :func:`save_tensors` wrote, to the CPU.

    Raises:
        UserError: the file is missing, damaged, or not one of gossamer's.
    """
    if not path.is_file():
        raise UserError(f"no file {path}")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        data = json.loads(metadata[_DATA])
    except (OSError, SafetensorError, ValueError, KeyError, RuntimeError) as error:
        raise UserError(
            f"{path} is damaged or not a file of gossamer ({type(error).__name__}: "
            f"{first_line(error)}); delete it and train again"
        ) from None
    return tensors, data


def check_tensors(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse tensors that have NaN.

    Raises:
        UserError: a tensor is refused; the message names it and the file.
    """
    for name, tensor in tensors.items():
        if tensor.isnan().any():
            raise UserError(f"{path}: '{name}' holds NaN; train the network again")


def load_into(model: nn.Module, tensors: Mapping[str, Tensor], path: Path, remedy: str) -> None:
    """Load the tensors of the file ``path`` into a network, which must have exactly these.

    Raises:
        UserError: a tensor is missing, left over, of another shape or type, or has NaN; then the
            network does not change. The message ends with ``remedy``.
    """
    in_file, in_network = _described(tensors), _described(model.state_dict())
    odd = [n for n in {**in_network, **in_file} if in_file.get(n) != in_network.get(n)]
    if odd:
        weights = dict(model.named_parameters())
        name = min(odd, key=lambda name: name not in weights)  # says more than a buffer
        raise UserError(
            f"{path} does not fit the network: '{name}' is {in_file.get(name, 'missing')} in the "
            f"file, {in_network.get(name, 'missing')} in the network; {remedy}"
        )
    check_tensors(path, tensors)
    model.load_state_dict(dict(tensors))


def _described(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return type and shape of each tensor, such as "float32 [10, 64]"."""
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
        for name, tensor in tensors.items()
    }


def add_prefix(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors with ``prefix`` before each name."""
    return {prefix + name: tensor for name, tensor in tensors.items()}
