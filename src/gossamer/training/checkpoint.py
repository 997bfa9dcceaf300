"""Tensors and plain data in one safetensors file, written whole or not at all."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from gossamer.errors import UserError
from gossamer.files import writing

_DATA = "gossamer"

#: Before the names of a network's tensors in a run's file.
MODEL = "model."


def make_folder(path: Path) -> Path:
    """``path`` as a folder that exists and can be written to, else a :class:`UserError`."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(
            f"cannot make the folder {path}: {error.strerror}; choose another place"
        ) from None
    if not os.access(path, os.W_OK):
        raise UserError(f"the folder {path} cannot be written to; choose another place")
    return path


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Within it no other process writes to ``path``, a file or a folder that exists.

    The operating system frees the lock of a process that is killed.

    Raises:
        UserError: another process is writing to it, or nothing can be written there.
    """
    place = path / ".lock" if path.is_dir() else path.with_name(f".{path.name}.lock")
    lock = FileLock(place, blocking=False)
    try:
        lock.acquire()
    except Timeout:
        raise UserError(
            f"another training is writing to {path}: wait until it ends, or choose another place"
        ) from None
    except OSError as error:
        raise UserError(
            f"cannot write {path}: {error.strerror or error}; choose another place"
        ) from None
    try:
        yield
    finally:
        place.unlink(missing_ok=True)
        lock.release()


@contextmanager
def folder_for(path: Path) -> Iterator[Path]:
    """``path`` as a folder that only this process writes to; see `make_folder`, `exclusive`.

    After an error, what is new and empty is removed.
    """
    new = [folder for folder in (path, *path.parents) if not folder.exists()]
    try:
        with exclusive(make_folder(path)):
            yield path
    except BaseException:
        with suppress(OSError):  # one holds something
            for folder in new:
                folder.rmdir()
        raise


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
    """What :func:`save_tensors` wrote, on the CPU.

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
            f"{str(error).splitlines()[0] if str(error) else ''}); delete it and train again"
        ) from None
    return tensors, data


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
    weights = take(load_tensors(path)[0], MODEL)
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


def check_tensors(
    path: Path, tensors: Mapping[str, Tensor], own: Mapping[str, Tensor] | None = None
) -> None:
    """Refuse a file's tensors that are NaN or of another type than those of the same name.

    Raises:
        UserError: naming the file and the tensor.
    """
    for name, tensor in tensors.items():
        expected = tensor if own is None else own.get(name, tensor)
        if tensor.dtype != expected.dtype:
            raise UserError(
                f"{path}: '{name}' holds {tensor.dtype}, not {expected.dtype}; train the run again"
            )
        if tensor.isnan().any():
            raise UserError(f"{path}: '{name}' holds NaN; train the run again")


def flatten_optimizer(state: Mapping[str, Any]) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """An optimiser's ``state_dict`` as named tensors and plain data."""
    tensors: dict[str, Tensor] = {}
    plain: dict[str, Any] = {"param_groups": state["param_groups"], "state": {}}
    for index, entries in state["state"].items():
        for key, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{index}.{key}"] = value
            else:
                plain["state"].setdefault(str(index), {})[key] = value
    return tensors, plain


def unflatten_optimizer(tensors: Mapping[str, Tensor], plain: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of :func:`flatten_optimizer`."""
    state: dict[int, dict[str, Any]] = {
        int(index): dict(entries) for index, entries in plain["state"].items()
    }
    for name, tensor in tensors.items():
        index, _, key = name.partition(".")
        state.setdefault(int(index), {})[key] = tensor
    return {"state": state, "param_groups": plain["param_groups"]}


def take(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The tensors whose names begin with ``prefix``, without it."""
    return {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}


def give(tensors: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The same tensors under names that begin with ``prefix``."""
    return {prefix + name: tensor for name, tensor in tensors.items()}


def pick_device(name: str) -> torch.device:
    """``auto``, ``cpu``, ``cuda`` or ``cuda:N`` as a device that is there."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    device = torch.device(name)
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError("device: torch finds no CUDA device; use device = auto or cpu")
    return device
