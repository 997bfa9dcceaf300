"""Puts modules in the place of others within a model."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn


def replace(model: nn.Module, modules: Mapping[str, nn.Module]) -> nn.Module:
    """``model`` with the submodules at some qualified names replaced, in place.

    A module that stands at several names is replaced at all of them. Where ``model`` itself is
    replaced (the name ``""``), the new one is returned, else ``model``.
    """
    new = {id(model.get_submodule(name)): module for name, module in modules.items()}
    for parent in list(model.modules()):
        for name, child in list(parent._modules.items()):
            if child is not None and id(child) in new:
                setattr(parent, name, new[id(child)])
    return modules.get("", model)
