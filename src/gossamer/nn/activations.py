"""Puts k-winners, or thresholds, in place of the activations of any network."""

from __future__ import annotations

import inspect
from collections import defaultdict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gossamer.errors import UserError, nearest
from gossamer.nn.kwinners import KWinners, KWinners2d
from gossamer.nn.mode import keeping_modes
from gossamer.nn.replace import replace
from gossamer.nn.threshold import Threshold

Example = Tensor | tuple[Tensor, ...] | Mapping[str, Any]
Function = Callable[[Tensor], Tensor]

# Activation modules, each with the function that it computes.
_MODULES: dict[type[nn.Module], Callable[[Any], Function]] = {
    nn.ReLU: lambda m: functional.relu,
    nn.ReLU6: lambda m: functional.relu6,
    nn.GELU: lambda m: partial(functional.gelu, approximate=m.approximate),
    nn.SiLU: lambda m: functional.silu,
    nn.Hardswish: lambda m: functional.hardswish,
}
# What may be called without a module, and what it is called as in a traced graph.
_FUNCTIONS: dict[Any, str] = {
    torch.relu: "relu",
    torch.relu_: "relu",
    functional.relu: "relu",
    functional.relu_: "relu",
    Tensor.relu: "relu",
    Tensor.relu_: "relu",
    functional.relu6: "relu6",
    functional.gelu: "gelu",
    functional.silu: "silu",
    functional.hardswish: "hardswish",
}
_METHODS = {"relu", "relu_"}
# Layers that tell where the units of the activation after them are.
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


class SparseActivation(nn.Module):
    """An activation function whose k-winners alone pass: ``winners(function(x))``."""

    def __init__(self, function: Function, winners: nn.Module) -> None:
        super().__init__()
        self.function = function
        self.winners = winners

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.winners(self.function(x))
        return y


@dataclass
class _Site:
    """A place where the network calls an activation.

    ``module`` is the qualified name of the activation module, or None where a function is
    called; ``caller`` that of the module whose ``forward`` does it.
    """

    caller: str
    module: str | None
    function: Function
    kind: str
    shape: torch.Size
    channels_first: bool
    name: str = ""


@dataclass
class _Watch(TorchFunctionMode):
    """Notes every activation that a network calls, in order."""

    names: dict[int, str]
    sites: list[_Site] = field(default_factory=list)
    stack: list[nn.Module] = field(default_factory=list)
    channels_first: bool = False

    def __post_init__(self) -> None:
        super().__init__()

    def enter(self, module: nn.Module, inputs: Any) -> None:
        self.stack.append(module)

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        self.stack.pop()
        if isinstance(module, _WEIGHTED):
            self.channels_first = not isinstance(module, nn.Linear)
        if type(module) in _MODULES and isinstance(output, Tensor):
            caller = self.names[id(self.stack[-1])] if self.stack else ""
            name = self.names[id(module)]
            self._add(caller, name, _MODULES[type(module)](module), type(module).__name__, output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        known = func in _FUNCTIONS and self.stack and type(self.stack[-1]) not in _MODULES
        if known and isinstance(output, Tensor):
            options = {k: v for k, v in (kwargs or {}).items() if k not in ("input", "inplace")}
            plain = getattr(functional, _FUNCTIONS[func])
            function = partial(plain, **options) if options else plain
            self._add(self.names[id(self.stack[-1])], None, function, _FUNCTIONS[func], output)
        return output

    def _add(
        self, caller: str, module: str | None, function: Function, kind: str, y: Tensor
    ) -> None:
        site = _Site(caller, module, function, kind.lower(), y.shape, self.channels_first)
        self.sites.append(site)


def _watch(model: nn.Module, example: Example) -> list[_Site]:
    watch = _Watch({id(module): name for name, module in model.named_modules()})
    hooks = []
    for module in model.modules():
        hooks.append(module.register_forward_pre_hook(watch.enter))
        hooks.append(module.register_forward_hook(watch.leave))
    try:
        # With gradients, because torch's transformers fuse their activations without.
        with keeping_modes(model), torch.enable_grad(), watch:
            model.eval()
            if isinstance(example, Mapping):
                model(**example)
            else:
                model(*(example if isinstance(example, tuple) else (example,)))
    finally:
        for hook in hooks:
            hook.remove()
    return watch.sites


def _held(module: nn.Module, kind: str) -> str | None:
    """The attribute in which a module holds the activation function that it calls."""
    for name, value in vars(module).items():
        if inspect.isroutine(value) and _FUNCTIONS.get(value) == kind:
            return name
    return None


class _OwnForward(fx.Tracer):
    """Traces a module's own ``forward``; all that it calls stays a call."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _is_activation(node: fx.Node, owner: nn.Module) -> bool:
    if node.op == "call_module":
        return type(owner.get_submodule(str(node.target))) in _MODULES
    if node.op == "call_method":
        return node.target in _METHODS
    return node.op == "call_function" and node.target in _FUNCTIONS


def _traced(owner: nn.Module) -> fx.Graph:
    """The graph of ``owner``'s own forward, the same in training and in evaluation."""
    try:
        with keeping_modes(owner):
            graphs = [_OwnForward().trace(owner.train(state)) for state in (False, True)]
    except Exception as error:
        reason = str(error).strip().splitlines()
        raise _Untraceable(
            f"torch.fx cannot trace it ({reason[0] if reason else type(error).__name__})"
        ) from None
    if graphs[0].python_code("self").src != graphs[1].python_code("self").src:
        raise _Untraceable(
            "it computes something else in training than in evaluation (make dropout a module)"
        )
    return graphs[0]


class _Untraceable(Exception):
    """Why a module's forward cannot be rewritten."""


def _plan(
    model: nn.Module, name: str, sites: list[_Site]
) -> tuple[fx.Graph, list[tuple[fx.Node, _Site]]]:
    """The graph of the module ``name`` and its calls of activations beside their sites."""
    owner = model.get_submodule(name)
    try:
        graph = _traced(owner)
        nodes = [node for node in graph.nodes if _is_activation(node, owner)]
        if len(nodes) != len(sites):
            raise _Untraceable("it is itself used more than once, or calls them conditionally")
        if any(not node.users for node in nodes):
            raise _Untraceable("one is called for its side effect; use what it returns")
    except _Untraceable as reason:
        shown = f"'{name}' ({type(owner).__name__})" if name else type(owner).__name__
        raise UserError(
            f"the activations within {shown} cannot be replaced: {reason}; make each a module "
            f"of its own, such as self.act1 = nn.ReLU(), or exclude "
            f"{', '.join(repr(site.name) for site in sites)}"
        ) from None
    return graph, list(zip(nodes, sites, strict=True))


def _rewritten(
    owner: nn.Module, graph: fx.Graph, modules: list[tuple[fx.Node, str, nn.Module]]
) -> nn.Module:
    """``owner`` with some calls in its graph replaced by modules of the given names."""
    rewritten = fx.GraphModule(owner, graph, type(owner).__name__)
    for node, name, module in modules:
        rewritten.add_submodule(name, module)
        with graph.inserting_after(node):
            taken = node.args[0] if node.args else node.kwargs["input"]
            new = graph.call_module(name, (taken,))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    rewritten.delete_all_unused_submodules()
    rewritten.recompile()
    rewritten.training = owner.training
    return rewritten


def _named(model: nn.Module, sites: list[_Site]) -> None:
    """Give every site a name: its module's, or its caller's and the function's; numbered."""
    seen: dict[str, int] = defaultdict(int)
    for site in sites:
        prefix = f"{site.caller}." if site.caller else ""
        name = site.module if site.module is not None else f"{prefix}{site.kind}"
        seen[name] += 1
        site.name = name if seen[name] == 1 else f"{name}_{seen[name]}"


def sparsify_activations(
    model: nn.Module,
    density: float | Mapping[str, float] = 0.1,
    *,
    example: Example,
    exclude: Collection[str] = (),
    threshold: bool = False,
    local: bool = False,
    boost_strength: float = 1.0,
    boost_decay: float = 0.9,
    inference_factor: float = 1.0,
) -> nn.Module:
    """Put k-winners in place of the ReLU, GELU, SiLU... of a network, in place where it can.

    ReLU becomes k-winners that pass positive values only; of another function, its most active
    outputs pass. Units are the channels after a convolution and the last dimension after a
    linear layer. An activation that is called as a function, or a module that is used at several
    places, gets a module of its own at each place; to that end ``torch.fx`` rewrites the
    ``forward`` of the module that calls it.

    Anneal the density while training with :class:`AnnealActivations`, decay the boost with
    :func:`decay_boost` once an epoch.

    Args:
        model: any network.
        density: share of units that stay active, of all activations, or by name those to
            replace; 1.0 leaves one as it is.
        example: an input of the network, a tuple of its inputs, or a mapping of them by name.
        exclude: names of activations that stay.
        threshold: put :class:`Threshold` in their place, to be fitted by :func:`calibrate`.
        local: k-winners of images compete at each position (see :class:`KWinners2d`).
        boost_strength, boost_decay, inference_factor: see :class:`KWinners`.

    Returns:
        The network: ``model`` itself, unless its own ``forward`` had to be rewritten.

    Raises:
        UserError: no activation to replace, an unknown name, a density out of range, or a
            module that ``torch.fx`` cannot rewrite; the message says what to do instead.
    """
    sites = _watch(model, example)
    _named(model, sites)
    names = [site.name for site in sites]
    if not sites:
        raise UserError(
            f"{type(model).__name__} calls no activation that can be replaced "
            f"({', '.join(sorted(m.__name__ for m in _MODULES))}, or their functions); "
            "use one of these in its place"
        )
    for name in [*exclude, *(density if isinstance(density, Mapping) else ())]:
        if name not in names:
            raise UserError(f"no activation '{name}': {nearest(name, names)}")
    wanted = {
        name: density.get(name, 1.0) if isinstance(density, Mapping) else density
        for name in names
        if name not in exclude
    }
    boosting = {
        "boost_strength": boost_strength,
        "boost_decay": boost_decay,
        "inference_factor": inference_factor,
    }

    def make(site: _Site) -> nn.Module | None:
        share = wanted.get(site.name, 1.0)
        if share == 1.0:
            return None
        try:
            return _sparse(site, share, threshold, local, boosting)
        except UserError as error:
            raise UserError(f"activation '{site.name}': {error}") from None

    return _place(model, sites, [make(site) for site in sites])


def _sparse(
    site: _Site, density: float, threshold: bool, local: bool, boosting: Mapping[str, Any]
) -> nn.Module:
    """What takes the place of the activation at ``site``."""
    relu = site.kind == "relu"
    winners: nn.Module
    if threshold:
        winners = Threshold(density)
    elif site.channels_first and len(site.shape) > 2:
        winners = KWinners2d(site.shape[1], density, local=local, relu=relu, **boosting)
    else:
        winners = KWinners(site.shape[-1], density, relu=relu, **boosting)
    return winners if relu and not threshold else SparseActivation(site.function, winners)


def _place(model: nn.Module, sites: list[_Site], made: list[nn.Module | None]) -> nn.Module:
    """Put the modules at their sites: by name where that is unambiguous, else by rewriting."""
    calls: dict[str | None, int] = defaultdict(int)
    callers: dict[str, list[_Site]] = defaultdict(list)
    for site in sites:
        calls[site.module] += 1
        callers[site.caller].append(site)
    by_name: dict[str, nn.Module] = {}
    held: list[tuple[nn.Module, str, nn.Module]] = []
    rewrite: dict[str, dict[str, nn.Module]] = defaultdict(dict)
    for site, module in zip(sites, made, strict=True):
        if module is None:
            continue
        module.train(model.training)
        caller = model.get_submodule(site.caller)
        attribute = _held(caller, site.kind) if len(callers[site.caller]) == 1 else None
        if site.module is not None and calls[site.module] == 1:
            by_name[site.module] = module
        elif site.module is None and attribute is not None:
            held.append((caller, attribute, module))
        else:
            rewrite[site.caller][site.name] = module
    plans = {name: _plan(model, name, callers[name]) for name in rewrite}
    # Nothing changes before all is known to work.
    for caller, attribute, module in held:
        setattr(caller, attribute, module)
        if isinstance(caller, nn.TransformerEncoderLayer):
            caller.activation_relu_or_gelu = 0  # torch's fused path would leave it out
    model = replace(model, by_name)
    # Innermost first: a rewritten parent then holds its rewritten children.
    for name in sorted(plans, key=lambda name: -name.count(".") if name else 1):
        graph, places = plans[name]
        new = [
            (node, site.name.rpartition(".")[2], rewrite[name][site.name])
            for node, site in places
            if site.name in rewrite[name]
        ]
        model = replace(model, {name: _rewritten(model.get_submodule(name), graph, new)})
    return model
