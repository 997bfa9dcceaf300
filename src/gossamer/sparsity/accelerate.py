"""True sparse training: layers compute with their non-zeros alone where that is faster."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from gossamer.errors import UserError, nearest
from gossamer.sparsity.attachment import inner_optimizer
from gossamer.sparsity.autotune import LayerChoice, Seen, measure
from gossamer.sparsity.layers import unwrap
from gossamer.sparsity.packed_layers import is_packed, make_packed, make_plain, plain_needed
from gossamer.sparsity.sparse_weight import SparseWeight, supported
from gossamer.sparsity.sparsifier import Sparsifier

# Masks that change sooner than this many steps ahead do not repay the change of form. Two steps do,
# with linear layers of 1,024 units and small convolutions: 1.3 to 1.6 times faster than never.
STEPS_TO_HOLD = 2


def lists_pay(nonzeros: SparseWeight, seen: Seen) -> bool:
    """Return whether a named (not measured) layer should visit its active inputs only."""
    return nonzeros.block > 1 and seen.density <= 0.15


class Accelerator:
    """The form, dense or sparse, in which layers train; see :func:`accelerate_sparse`."""

    def __init__(
        self,
        model: nn.Module,
        sparsifier: Sparsifier,
        optimizer: torch.optim.Optimizer,
        layers: Collection[str] | None = None,
    ) -> None:
        if unwrap(model) is not model:
            raise UserError(
                f"accelerate_sparse takes the plain model, not a {type(model).__name__}: compiled "
                "and data-parallel wrappers rely on weights that keep their shape"
            )
        for earlier in [o for o in sparsifier.observers if isinstance(o, Accelerator)]:
            earlier.close()
        self.choices: dict[str, LayerChoice] = {}
        self._sparsifier = sparsifier
        optimizer = self._optimizer = inner_optimizer(optimizer)
        self._named = None if layers is None else frozenset(layers)
        self._candidates = self._choose(model)
        self._seen: dict[str, Seen] = {}
        self._hooks: list[Any] = []
        for name, layer in self._candidates.items():
            self._hooks.append(layer.register_forward_pre_hook(self._see(name)))
        sparsifier.observers.append(self)
        # What is saved and loaded has dense shapes, whatever form the layers have.
        self._hooks.append(optimizer.register_state_dict_post_hook(self._dense_state))
        self._hooks.append(optimizer.register_load_state_dict_pre_hook(lambda *_: self.expand()))

    def _choose(self, model: nn.Module) -> dict[str, nn.Module]:
        users = Counter(id(p) for module in model.modules() for p in module._parameters.values())
        optimized = {id(p) for group in self._optimizer.param_groups for p in group["params"]}
        candidates = {}
        for name in self._sparsifier.masks:
            layer = self._sparsifier.weights[name].module
            weight = layer._parameters.get("weight")
            alone = users[id(weight)] == 1 and id(weight) in optimized
            if supported(layer) and alone:
                candidates[name] = layer
        for name in self._named or ():
            if name not in self._sparsifier.masks:
                raise UserError(
                    f"layers: no sparse layer '{name}': {nearest(name, self._sparsifier.masks)}"
                )
            if name not in candidates:
                raise UserError(
                    f"layer '{name}' has no kernel for its non-zeros alone: it must be a plain "
                    "Linear, or a Conv2d in one group, whose weight is its own and is trained "
                    "by this optimizer; leave it out of layers"
                )
        if not candidates:
            raise UserError(
                "no sparse layer of this model can be accelerated: kernels exist for plain "
                "Linear, and for Conv2d in one group, whose weights are trained by this optimizer"
            )
        if self._named is not None:
            candidates = {name: candidates[name] for name in candidates if name in self._named}
        return candidates

    def _see(self, name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def see(layer: nn.Module, inputs: tuple[Any, ...]) -> None:
            x = inputs[0] if inputs else None
            # What is exported or compiled has no numbers to count.
            if torch.is_grad_enabled() and isinstance(x, Tensor) and not plain_needed(x):
                if is_packed(layer):  # chosen for the density that it saw before
                    self._seen[name] = replace(self._seen[name], shape=x.shape)
                else:
                    self._seen[name] = Seen.of(x)

        return see

    def after_step(self) -> None:
        """Set the layers' form for the next step; the sparsifier calls this after each step."""
        coming = self._sparsifier.steps + 1
        if self._sparsifier.due(coming):
            self.expand()
        elif not self._sparsifier.packed and not any(
            self._sparsifier.due(step) for step in range(coming, coming + STEPS_TO_HOLD)
        ):
            self._make_packed()

    def before_masks_change(self) -> None:
        """Make layers plain; the sparsifier calls this before it replaces its masks."""
        self.expand()

    def _make_packed(self) -> None:
        for name, layer in self._candidates.items():
            weight, seen = layer._parameters["weight"], self._seen.get(name)
            if weight is None or seen is None:
                continue
            mask = self._sparsifier.masks[name]
            count = int(mask.sum())
            old = self.choices.get(name)
            if weight.dtype != torch.float32 or weight.device.type != "cpu" or not count:
                self.choices[name] = LayerChoice(False, count, tuple(seen.shape))
                continue
            if old is not None and not old.sparse and old.stands(count, seen):
                continue
            nonzeros = SparseWeight.of(layer, mask)
            if old is None or not old.stands(count, seen):
                self.choices[name] = old = self._decide(layer, nonzeros, seen)
            if old.sparse:
                make_packed(layer, nonzeros, self._optimizer, self.expand, old.active)
        self._sparsifier.packed = frozenset(
            name for name, layer in self._candidates.items() if is_packed(layer)
        )

    def _decide(self, layer: nn.Module, nonzeros: SparseWeight, seen: Seen) -> LayerChoice:
        about = (nonzeros.count, tuple(seen.shape))
        if self._named is not None:
            return LayerChoice(True, *about, lists_pay(nonzeros, seen), seen.density)
        dense, sparse, *listed = measure(layer, nonzeros, seen)
        active = bool(listed) and listed[0] < sparse
        return LayerChoice(
            min(sparse, *listed, dense) < dense,
            *about,
            active,
            seen.density,
            sparse,
            listed[0] if listed else None,
            dense,
        )

    def expand(self) -> None:
        """Make all layers plain and dense; the sparsifier's next step may change them again."""
        for layer in self._candidates.values():
            if is_packed(layer):
                make_plain(layer, self._optimizer)
        if self._candidates:  # none is left of an accelerator that is closed
            self._sparsifier.packed = frozenset()

    @contextmanager
    def plain(self) -> Iterator[None]:
        """Make the layers plain within a ``with`` block, to export or compile the model."""
        packed = any(map(is_packed, self._candidates.values()))
        self.expand()
        try:
            yield
        finally:
            if packed:
                self._make_packed()

    def close(self) -> None:
        """Make all layers plain permanently."""
        self.expand()
        self._candidates.clear()
        for hook in self._hooks:
            hook.remove()
        if self in self._sparsifier.observers:
            self._sparsifier.observers.remove(self)

    def _dense_state(self, optimizer: torch.optim.Optimizer, state: dict[str, Any]) -> None:
        packed = {
            id(layer._parameters["weight"]): layer
            for layer in self._candidates.values()
            if is_packed(layer)
        }
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        for i, parameter in enumerate(parameters):
            layer = packed.get(id(parameter))
            if layer is None or i not in state["state"]:
                continue
            nonzeros: SparseWeight = layer._sparse_weight  # type: ignore[assignment]
            state["state"][i] = {
                key: nonzeros.scatter(value)
                if isinstance(value, Tensor) and value.shape == parameter.shape
                else value
                for key, value in state["state"][i].items()
            }


def accelerate_sparse(
    model: nn.Module,
    sparsifier: Sparsifier,
    optimizer: torch.optim.Optimizer,
    *,
    layers: Collection[str] | None = None,
) -> Accelerator:
    """Train sparse layers with their non-zeros only, on the CPU, where that is faster.

    The first step runs densely and records the inputs' shapes. At its end each ``Linear`` and
    ``Conv2d`` (one group, zero padding) whose weight ``sparsifier`` masks is measured on such
    inputs. Layers that are faster with non-zeros are packed: the same parameter object then
    contains the non-zeros only, so that forward pass, gradients, optimizer and masks cost in
    proportion to them. ``weight``, ``state_dict`` and copies stay dense. Before masks change,
    layers become plain again for the whole step, so that rules see dense weights and gradients.
    Another call, for another phase of training, closes the earlier accelerator of ``sparsifier``.

    Args:
        model: the one that ``sparsifier`` was made for; float32 on the CPU. Other types,
            devices and autocast are computed densely.
        sparsifier: its :meth:`~Sparsifier.step` must run after every step of the optimizer.
        optimizer: any that updates each weight independently (SGD, Adam, AdamW, ...).
        layers: names of the layers to pack without measuring. Measured choices, and with them
            the last bits of results, may differ between runs; named ones do not.

    Returns:
        The accelerator: ``choices`` are the measurements, ``plain()`` makes the layers plain
        temporarily, ``close()`` permanently.

    Raises:
        UserError: a named layer is unknown or has no kernel, no layer has one, or the model is
            compiled or wrapped by ``DistributedDataParallel``.
    """
    return Accelerator(model, sparsifier, optimizer, layers)
