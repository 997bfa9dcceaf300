"""Tools for modules: export, buffers, and replacement within a model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn


def exporting(module: nn.Module) -> bool:
    """Return whether ``module`` is traced for export and not for ``torch.compile``.

    torch 2.11 reports an export also while compiling; but modules are compiled in training mode
    and exported in evaluation mode.
    """
    return torch.compiler.is_exporting() and not module.training


class Float32Buffers(nn.Module):
    """A module whose buffers stay float32 when the model is converted to a smaller type.

    bfloat16 and float16 would round away the small steps of a running average.
    """

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        before = dict(self._buffers)
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        for name, buffer in before.items():
            now = self._buffers[name]
            if buffer is not None and now is not None and buffer.dtype == torch.float32:
                self._buffers[name] = buffer.to(now.device) if now.dtype != buffer.dtype else now
        return self

    def _load_from_state_dict(self, *args: Any) -> None:
        types = {n: b.dtype for n, b in self._buffers.items() if b is not None}
        super()._load_from_state_dict(*args)
        for name, dtype in types.items():  # with assign=True the file's types come in
            buffer = self._buffers[name]
            self._buffers[name] = None if buffer is None else buffer.to(dtype)


def share_hooks(old: nn.Module, new: nn.Module) -> None:
    """Have ``new`` call the forward and backward hooks of ``old``, until their handles remove them.

    The modules share torch's own tables: a handle refers to these.
    """
    vars(new).update({k: v for k, v in vars(old).items() if "ward_" in k and "hook" in k})


def replace(model: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """Replace submodules of ``model`` by qualified name, in place; return the model.

    A module with several names is replaced at all of them. For the name ``""`` the new module is
    returned in place of ``model``. Hooks stay.
    """
    new = {}
    for name, module in modules.items():
        old = model.get_submodule(name)
        share_hooks(old, module)
        new[id(old)] = module
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in new:
                setattr(parent, name, new[id(child)])
    return modules.get("", model)
