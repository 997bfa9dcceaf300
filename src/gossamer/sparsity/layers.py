"""The sparsifiable weights of a model, and the selection of those that become sparse."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.parameter import is_lazy
from torch.nn.utils import parametrize

from gossamer.errors import UserError, nearest

# Layers that the kernels of training, 8 bits and the counting of operations know.
PLAIN_LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d)

# There is a warning where weights of unknown use have a larger share of all weights.
UNKNOWN_SHARE = 0.1

# In the names of parameters that are added and not multiplied by: tables of positions, and tokens.
_TABLES = ("pos", "embed", "token")


@dataclass(frozen=True)
class Weight:
    """A weight that can be sparse: one parameter of a module.

    Patterns and rules see weights as ``[outputs, inputs / groups, ...kernel]``. Transposed
    convolutions store theirs as ``[inputs, outputs / groups, ...kernel]``.
    """

    module: nn.Module
    name: str = "weight"

    @property
    def parameter(self) -> nn.Parameter:
        """The module's parameter.

        Raises:
            UserError: since the weight was chosen, a parametrization has taken its place.
        """
        parameter = self.module._parameters.get(self.name)
        if parameter is None:
            raise UserError(
                f"'{self.name}' of a {type(self.module).__name__} was made sparse and is no "
                "parameter any more (weight_norm, pruning or another parametrization), so its "
                "zeros would not last; remove that (remove_parametrizations)"
            )
        return parameter

    @property
    def tensor(self) -> Tensor:
        """The dense weight, even if the module stores its non-zeros only."""
        tensor = getattr(self.module, self.name)
        assert isinstance(tensor, Tensor)
        return tensor

    @property
    def groups(self) -> int:
        return int(getattr(self.module, "groups", 1))

    def by_output(self, stored: Tensor) -> Tensor:
        """Return a tensor of the parameter's shape as ``[outputs, inputs / groups, ...kernel]``."""
        if not isinstance(self.module, _ConvTransposeNd):
            return stored
        rows, columns, *kernel = stored.shape
        grouped = stored.reshape(self.groups, rows // self.groups, columns, *kernel)
        return grouped.transpose(1, 2).reshape(self.groups * columns, -1, *kernel)

    def as_stored(self, by_output: Tensor) -> Tensor:
        """Return a tensor of :meth:`by_output`'s shape in the parameter's shape."""
        return self.by_output(by_output)  # the exchange of two dimensions is its own inverse


def unwrap(model: nn.Module) -> nn.Module:
    """Return the model inside ``torch.compile`` and data-parallel wrappers.

    Raises:
        UserError: the model is scripted, or no module.
    """
    if not isinstance(model, nn.Module):
        raise UserError(
            f"the model is {type(model).__name__}, not a torch.nn.Module; give the network itself"
        )
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


def _weight_names(module: nn.Module) -> list[str]:
    """Return the names of a module's parameters that can be sparse."""
    if isinstance(module, nn.Linear | nn.Bilinear | _ConvNd):
        return ["weight"]
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return [name for name in module._parameters if name.startswith("weight_")]
    if isinstance(module, nn.MultiheadAttention):
        names = ("in_proj_weight", "q_proj_weight", "k_proj_weight", "v_proj_weight")
        return [name for name in names if getattr(module, name) is not None]
    return []


def _all_weights(model: nn.Module) -> Iterator[tuple[str, str, Weight]]:
    """Yield (name, name of its module, weight) of all that can be sparse, shared ones repeated."""
    for layer, module in model.named_modules():
        for name in _weight_names(module):
            yield (
                layer if name == "weight" else f"{layer}.{name}".lstrip("."),
                layer,
                Weight(module, name),
            )


def _key(weight: Weight) -> int:
    # A parametrized or packed weight is computed again whenever it is asked for.
    return id(weight.module._parameters.get(weight.name, weight.module))


def sparsifiable_weights(model: nn.Module) -> dict[str, Weight]:
    """Return the weights of ``model`` that can be sparse, by name, in model order.

    Weights of ``Linear``, ``Bilinear``, convolutions and transposed convolutions have the layer's
    name; weights of recurrent layers and cells, and projections of ``MultiheadAttention``, the
    parameter's (``lstm.weight_hh_l0``). A weight shared by several layers appears once, under its
    first name; an empty weight does not appear.
    """
    weights: dict[str, Weight] = {}
    seen: set[int] = set()
    for name, _, weight in _all_weights(model):
        parameter = weight.module._parameters.get(weight.name)
        empty = parameter is not None and not is_lazy(parameter) and not parameter.numel()
        if not empty and _key(weight) not in seen:
            seen.add(_key(weight))
            weights[name] = weight
    return weights


def sparsifiable_layers(model: nn.Module) -> dict[str, nn.Module]:
    """Return the ``Linear``, ``Conv1d`` and ``Conv2d`` layers of :func:`sparsifiable_weights`."""
    weights = sparsifiable_weights(model)
    return {name: w.module for name, w in weights.items() if isinstance(w.module, PLAIN_LAYERS)}


def dense_weights(model: nn.Module, sparse: Collection[str]) -> dict[str, int]:
    """Return the sizes of the weights that stay dense, by the parameter's name.

    A weight is a parameter of two or more dimensions; ``sparse`` are names as of
    :func:`sparsifiable_weights`.
    """
    known = sparsifiable_weights(model)
    masked = {_key(known[name]) for name in sparse}
    return {
        name: parameter.numel()
        for name, parameter in model.named_parameters()
        if parameter.dim() > 1 and id(parameter) not in masked
    }


def _is_unknown(module: nn.Module, name: str) -> bool:
    """Return whether a parameter seems to be a weight that no torch layer multiplies by."""
    if isinstance(module, nn.ParameterList | nn.ParameterDict):
        return True
    own = not type(module).__module__.startswith("torch.") and not _weight_names(module)
    return own and not any(table in name for table in _TABLES)


def warn_of_unknown(model: nn.Module) -> None:
    """Warn if parameters of no torch layer have a large share of the model's weights."""
    sizes = {n: p.numel() for n, p in model.named_parameters() if not is_lazy(p) and p.dim() > 1}
    unknown = {
        f"{layer}.{name}".lstrip(".")
        for layer, module in model.named_modules()
        for name in module._parameters
        if _is_unknown(module, name)
    }
    shares = {n: size / sum(sizes.values()) for n, size in sizes.items() if n in unknown}
    if sum(shares.values()) > UNKNOWN_SHARE:
        listed = ", ".join(f"'{name}' ({share:.0%})" for name, share in shares.items())
        warnings.warn(
            f"{listed} of the model's weights stay dense: they belong to no layer of torch; "
            "make them nn.Linear or a convolution to have them sparse (an added table may stay)",
            stacklevel=4,
        )


@dataclass(frozen=True)
class _Network:
    """A model's sparsifiable weights, with the properties that layer rules need."""

    weights: Mapping[str, Weight]
    embeddings: frozenset[int]


def _depthwise(network: _Network, name: str) -> bool:
    layer = network.weights[name].module
    return isinstance(layer, _ConvNd) and 1 < layer.groups == layer.in_channels


def _embeddings(network: _Network, name: str) -> bool:
    return _key(network.weights[name]) in network.embeddings


def _frozen(network: _Network, name: str) -> bool:
    weight = network.weights[name]
    parameter = weight.module._parameters.get(weight.name)
    return parameter is not None and not parameter.requires_grad


#: Rules by which weights can be named in ``exclude`` and ``include``.
LAYER_RULES: dict[str, Callable[[_Network, str], bool]] = {
    "first": lambda network, name: name == next(iter(network.weights)),
    "last": lambda network, name: name == list(network.weights)[-1],
    "depthwise": _depthwise,
    "embeddings": _embeddings,
    "frozen": _frozen,
}

#: Layers that stay dense unless ``include`` says otherwise: a depthwise convolution has a
#: handful of weights for each channel, an embedding is looked up and not multiplied, and what is
#: frozen cannot make up for what it loses.
DENSE_BY_DEFAULT = ("depthwise", "embeddings", "frozen")


def choose_weights(
    model: nn.Module,
    exclude: Collection[str] = (),
    include: Collection[str] = (),
    *,
    kinds: tuple[type[nn.Module], ...] = (nn.Module,),
) -> dict[str, Weight]:
    """Return the weights to make sparse, by name.

    Args:
        model: any module, also a compiled or data-parallel one.
        exclude: weights that stay dense, in addition to :data:`DENSE_BY_DEFAULT`: names of weights
            or layers, patterns with ``*``, or rules (:data:`LAYER_RULES`).
        include: weights that become sparse although they are dense by default.
        kinds: the types of modules to choose from.

    Raises:
        UserError: an unknown name, a weight that cannot be masked, or nothing left.
    """
    for argument, names in (("exclude", exclude), ("include", include)):
        if isinstance(names, str):
            raise UserError(f"{argument} is a list of names: write [{names!r}]")
    model = unwrap(model)
    weights = {
        name: weight
        for name, weight in sparsifiable_weights(model).items()
        if isinstance(weight.module, kinds)
    }
    if not weights:
        raise UserError(
            f"{type(model).__name__} has no layer whose weights can be sparse (Linear, "
            "convolutions, recurrent layers, attention)"
        )
    first = {_key(weight): name for name, weight in weights.items()}
    aliases: dict[str, set[str]] = {}
    for name, layer, weight in _all_weights(model):
        if _key(weight) in first:
            for alias in (name, layer):
                aliases.setdefault(alias, set()).add(first[_key(weight)])
    tied = frozenset(
        id(module.weight)
        for module in model.modules()
        if isinstance(module, nn.Embedding | nn.EmbeddingBag)
    )
    network = _Network(weights, tied)

    def named(names: Collection[str], argument: str) -> set[str]:
        selected: set[str] = set()
        for item in names:
            if item in aliases:
                selected |= aliases[item]
            elif item in LAYER_RULES:
                selected |= {name for name in weights if LAYER_RULES[item](network, name)}
            else:
                matched = [own for alias, own in aliases.items() if fnmatchcase(alias, item)]
                if not matched:
                    raise UserError(
                        f"{argument}: no sparsifiable layer '{item}': "
                        f"{nearest(item, [*weights, *LAYER_RULES])}"
                    )
                selected = selected.union(*matched)
        return selected

    left_out = named(exclude, "exclude")
    dense = left_out | (named(DENSE_BY_DEFAULT, "exclude") - named(include, "include"))
    chosen = {name: weight for name, weight in weights.items() if name not in dense}
    if not chosen:
        raise UserError(f"every layer stays dense: {_reasons(network, left_out)}")
    for name, weight in chosen.items():
        check_weight(name, weight)
    return chosen


def _reasons(network: _Network, excluded: Collection[str]) -> str:
    """Say why no weight can be sparse, and how to change that."""
    by_default = {
        rule: [n for n in network.weights if n not in excluded and LAYER_RULES[rule](network, n)]
        for rule in DENSE_BY_DEFAULT
    }
    groups = {"excluded": sorted(excluded), **by_default}
    reasons = [f"{', '.join(names)} ({rule})" for rule, names in groups.items() if names]
    remedies = ["leave something out of exclude"] if excluded else []
    rules = [rule for rule in DENSE_BY_DEFAULT if by_default[rule]]
    if "frozen" in rules:
        remedies.append("call model.requires_grad_(True), so that what is left can be trained")
    if rules:
        remedies.append(f"give include={rules}")
    return f"{'; '.join(reasons)}; {', or '.join(remedies)}"


def check_weight(name: str, weight: Weight) -> None:
    """Refuse a weight that cannot be masked.

    Raises:
        UserError: it is computed from other parameters, sharded, lazy, an inference tensor,
            on the meta device, expanded, or of numbers of another width than 2, 4 or 8 bytes.
    """
    parameter = weight.module._parameters.get(weight.name)
    if parametrize.is_parametrized(weight.module, weight.name) or parameter is None:
        raise UserError(
            f"layer '{name}': its weight is computed from other parameters (weight_norm, pruning "
            "or another parametrization), so no zero in it would last; remove that first "
            "(remove_parametrizations of torch.nn.utils.parametrize, remove_weight_norm of "
            "torch.nn.utils or remove of torch.nn.utils.prune) or exclude the layer"
        )
    if hasattr(parameter, "full_tensor"):
        raise UserError(
            f"layer '{name}': its weight is sharded over processes (DTensor, as in FSDP2), and "
            "masks need whole weights; use DistributedDataParallel, or exclude the layer"
        )
    if is_lazy(parameter):
        raise UserError(
            f"layer '{name}' has no weight yet (lazy); run one batch through the model first"
        )
    if parameter.is_inference():
        raise UserError(
            f"layer '{name}' was made in torch.inference_mode(), where its weights cannot be "
            "changed; build the model outside of it"
        )
    if parameter.element_size() not in (2, 4, 8):
        raise UserError(
            f"layer '{name}' has weights of {parameter.dtype}; masks are for numbers of 2, 4 or 8 "
            "bytes: convert the layer, for example model.to(torch.bfloat16)"
        )
    if parameter.device.type == "meta":
        raise UserError(
            f"layer '{name}' is on the meta device and has no numbers yet; call "
            "model.to_empty(device=...) and load its weights first"
        )
    if any(n > 1 and not step for n, step in zip(parameter.shape, parameter.stride(), strict=True)):
        raise UserError(
            f"layer '{name}': several of its weights are one number in memory (expand), so none "
            "of them can be zero alone; give it a weight of its own: nn.Parameter(weight.clone())"
        )
