"""The places where a network calls an activation, recorded by running it on an example."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from gossamer.sparsity.modes import evaluating

Example = Tensor | tuple[Tensor, ...] | Mapping[str, Any]
Function = Callable[[Tensor], Tensor]

# Activation modules, each with the function that it computes.
MODULES: dict[type[nn.Module], Callable[[Any], Function]] = {
    nn.ReLU: lambda m: functional.relu,
    nn.ReLU6: lambda m: functional.relu6,
    nn.GELU: lambda m: partial(functional.gelu, approximate=m.approximate),
    nn.SiLU: lambda m: functional.silu,
    nn.Hardswish: lambda m: functional.hardswish,
}
# Activations that may be called as functions, and their names in a traced graph.
FUNCTIONS: dict[Any, str] = {
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
METHODS = {"relu", "relu_"}
# Layers that determine the dimension of units of the activation after them.
_WEIGHTED = (nn.Linear, nn.Conv1d, nn.Conv2d)


@dataclass
class Site:
    """A place where the network calls an activation.

    ``module`` is the qualified name of the activation module, or None if a function is
    called; ``caller`` is the name of the module whose ``forward`` calls it.
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
    """Recorder of the activations that a network calls, in order."""

    names: dict[int, str]
    sites: list[Site] = field(default_factory=list)
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
        if type(module) in MODULES and isinstance(output, Tensor):
            caller = self.names[id(self.stack[-1])] if self.stack else ""
            name = self.names[id(module)]
            self._add(caller, name, MODULES[type(module)](module), type(module).__name__, output)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        output = func(*args, **(kwargs or {}))
        known = func in FUNCTIONS and self.stack and type(self.stack[-1]) not in MODULES
        if known and isinstance(output, Tensor):
            options = {k: v for k, v in (kwargs or {}).items() if k not in ("input", "inplace")}
            plain = getattr(functional, FUNCTIONS[func])
            function = partial(plain, **options) if options else plain
            self._add(self.names[id(self.stack[-1])], None, function, FUNCTIONS[func], output)
        return output

    def _add(
        self, caller: str, module: str | None, function: Function, kind: str, y: Tensor
    ) -> None:
        site = Site(caller, module, function, kind.lower(), y.shape, self.channels_first)
        self.sites.append(site)


def activation_sites(model: nn.Module, example: Example) -> list[Site]:
    """Run ``model`` on ``example``; return the activations that it calls, in order, with names."""
    watch = _Watch({id(module): name for name, module in model.named_modules()})
    # With gradients, because torch's transformers fuse their activations without.
    with ExitStack() as hooks, evaluating(model), torch.enable_grad(), watch:
        for module in model.modules():
            hooks.enter_context(module.register_forward_pre_hook(watch.enter))
            hooks.enter_context(module.register_forward_hook(watch.leave))
        if isinstance(example, Mapping):
            model(**example)
        else:
            model(*(example if isinstance(example, tuple) else (example,)))
    _name(watch.sites)
    return watch.sites


def _name(sites: list[Site]) -> None:
    """Name each site after its module, or after its caller and function; number repeated names."""
    seen: dict[str, int] = defaultdict(int)
    for site in sites:
        prefix = f"{site.caller}." if site.caller else ""
        name = site.module if site.module is not None else f"{prefix}{site.kind}"
        seen[name] += 1
        site.name = name if seen[name] == 1 else f"{name}_{seen[name]}"
