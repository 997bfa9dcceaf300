"""Which layers of a model can be sparse, and which of them shall."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from gossamer.errors import UserError, nearest

# Layers with one weight of shape [outputs, inputs / groups, ...kernel].
SPARSIFIABLE = (nn.Linear, nn.Conv1d, nn.Conv2d)


def unwrap(model: nn.Module) -> nn.Module:
    """The model inside ``torch.compile`` and data-parallel wrappers; layer names are its own."""
    if isinstance(model, torch.jit.ScriptModule):
        raise UserError(
            "the model is scripted (torch.jit.script) and its layers cannot be changed: give the "
            "model that it was made from, and script it afterwards"
        )
    while True:
        inner = model._modules.get("_orig_mod")
        if inner is None and isinstance(
            model, nn.parallel.DistributedDataParallel | nn.DataParallel
        ):
            inner = model.module
        if inner is None:
            return model
        model = inner


def sparsifiable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """The layers of ``model`` whose weights can be sparse, by qualified name, in model order.

    A weight that several layers share appears once, under its first name; one without numbers
    not at all.
    """
    found: dict[str, nn.Module] = {}
    weights: set[int] = set()
    for name, module in model.named_modules():
        if isinstance(module, SPARSIFIABLE):
            # A parametrized or packed weight is computed anew whenever it is asked for.
            parameter = module._parameters.get("weight")
            if parameter is not None and not is_lazy(parameter) and not parameter.numel():
                continue
            key = id(module if parameter is None else parameter)
            if key not in weights:
                weights.add(key)
                found[name] = module
    return found


@dataclass(frozen=True)
class _Network:
    """A model's sparsifiable layers and what the rules below ask of them."""

    layers: Mapping[str, nn.Module]
    embeddings: frozenset[int]


def _depthwise(network: _Network, name: str) -> bool:
    layer = network.layers[name]
    return isinstance(layer, nn.Conv1d | nn.Conv2d) and 1 < layer.groups == layer.in_channels


def _embeddings(network: _Network, name: str) -> bool:
    return id(network.layers[name]._parameters.get("weight")) in network.embeddings


def _frozen(network: _Network, name: str) -> bool:
    weight = network.layers[name]._parameters.get("weight")
    return weight is not None and not weight.requires_grad


#: Rules by which layers can be named in ``exclude`` and ``include``.
LAYER_RULES: dict[str, Callable[[_Network, str], bool]] = {
    "first": lambda network, name: name == next(iter(network.layers)),
    "last": lambda network, name: name == list(network.layers)[-1],
    "depthwise": _depthwise,
    "embeddings": _embeddings,
    "frozen": _frozen,
}

#: Layers that stay dense unless ``include`` says otherwise: a depthwise convolution has a
#: handful of weights for each channel, an embedding is looked up and not multiplied, and what is
#: frozen cannot make up for what it loses.
DENSE_BY_DEFAULT = ("depthwise", "embeddings", "frozen")


def choose_layers(
    model: nn.Module, exclude: Collection[str] = (), include: Collection[str] = ()
) -> dict[str, nn.Module]:
    """The layers to make sparse.

    Args:
        model: any module, compiled and data-parallel ones too.
        exclude: layers that stay dense, besides :data:`DENSE_BY_DEFAULT`: names, patterns with
            ``*``, or rules (:data:`LAYER_RULES`).
        include: what becomes sparse although it would stay dense by default.

    Raises:
        UserError: an unknown name, a layer whose weight cannot be masked, or nothing left.
    """
    for argument, given in (("exclude", exclude), ("include", include)):
        if isinstance(given, str):
            raise UserError(f"{argument} is a list of names: write [{given!r}]")
    model = unwrap(model)
    layers = sparsifiable_layers(model)
    if not layers:
        raise UserError(
            f"{type(model).__name__} has no Linear, Conv1d or Conv2d layer: "
            "there is nothing to make sparse"
        )
    aliases: dict[str, str] = {}
    first = {id(layer._parameters.get("weight")): name for name, layer in layers.items()}
    for name, module in model.named_modules():
        if isinstance(module, SPARSIFIABLE):
            weight = module._parameters.get("weight")
            aliases[name] = name if weight is None else first.get(id(weight), name)
    tied = frozenset(
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    )
    network = _Network(layers, tied)

    def named(given: Collection[str], argument: str) -> set[str]:
        found: set[str] = set()
        for item in given:
            if item in aliases:
                found.add(aliases[item])
            elif item in LAYER_RULES:
                found |= {name for name in layers if LAYER_RULES[item](network, name)}
            else:
                matched = {aliases[name] for name in aliases if fnmatchcase(name, item)}
                if not matched:
                    raise UserError(
                        f"{argument}: no sparsifiable layer '{item}': "
                        f"{nearest(item, [*layers, *LAYER_RULES])}"
                    )
                found |= matched
        return found

    dense = named(DENSE_BY_DEFAULT, "exclude") - named(include, "include")
    dense |= named(exclude, "exclude")
    chosen = {name: layer for name, layer in layers.items() if name not in dense}
    if not chosen:
        raise UserError(
            f"every layer stays dense ({', '.join(sorted(dense))} excluded or frozen): there is "
            "nothing to make sparse"
        )
    for name, layer in chosen.items():
        _check_weight(name, layer)
    return chosen


def _check_weight(name: str, layer: nn.Module) -> None:
    weight = layer._parameters.get("weight")
    if parametrize.is_parametrized(layer, "weight") or weight is None:
        raise UserError(
            f"layer '{name}': its weight is computed from other parameters (weight_norm, pruning "
            "or another parametrisation), so no zero in it would last; remove that first "
            "(torch.nn.utils.parametrize.remove_parametrizations) or exclude the layer"
        )
    if hasattr(weight, "full_tensor"):
        raise UserError(
            f"layer '{name}': its weight is sharded over processes (DTensor, as in FSDP2), and "
            "masks need whole weights; use DistributedDataParallel, or exclude the layer"
        )
    if weight.device.type == "meta":
        raise UserError(
            f"layer '{name}' is on the meta device and has no numbers yet; call "
            "model.to_empty(device=...) and load its weights first"
        )
    if is_lazy(weight):
        raise UserError(
            f"layer '{name}' has no weight yet (lazy); run one batch through the model first"
        )
