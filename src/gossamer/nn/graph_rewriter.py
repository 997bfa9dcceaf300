"""Rewriting of a module's ``forward`` by torch.fx, so that activations become modules."""

from __future__ import annotations

from torch import fx, nn

from gossamer.errors import UserError
from gossamer.nn.activation_finder import FUNCTIONS, METHODS, MODULES, Site
from gossamer.nn.module_tools import share_hooks
from gossamer.sparsity.modes import keeping_modes


class _OwnForward(fx.Tracer):
    """Tracer of a module's ``forward``; calls of submodules stay calls."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def _is_activation(node: fx.Node, owner: nn.Module) -> bool:
    if node.op == "call_module":
        return type(owner.get_submodule(str(node.target))) in MODULES
    if node.op == "call_method":
        return node.target in METHODS
    return node.op == "call_function" and node.target in FUNCTIONS


def _traced(owner: nn.Module) -> fx.Graph:
    """Return the graph of ``owner``'s forward; it must be the same in training and evaluation."""
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
    """A module's forward cannot be rewritten; the message says why."""


def plan(
    model: nn.Module, name: str, sites: list[Site]
) -> tuple[fx.Graph, list[tuple[fx.Node, Site]]]:
    """Return the graph of the module ``name``, and its calls of activations with their sites."""
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


def rewritten(
    owner: nn.Module, graph: fx.Graph, modules: list[tuple[fx.Node, str, nn.Module]]
) -> nn.Module:
    """Return ``owner`` with some calls in its graph replaced by modules of the given names."""
    made = fx.GraphModule(owner, graph, type(owner).__name__)
    for node, name, module in modules:
        made.add_submodule(name, module)
        if node.op == "call_module":
            share_hooks(owner.get_submodule(str(node.target)), module)
        with graph.inserting_after(node):
            taken = node.args[0] if node.args else node.kwargs["input"]
            new = graph.call_module(name, (taken,))
        node.replace_all_uses_with(new)
        graph.erase_node(node)
    made.delete_all_unused_submodules()
    made.recompile()
    made.training = owner.training
    return made
