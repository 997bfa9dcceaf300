"""Optimizers whose steps are followed by those of a sparsifier."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.hooks import RemovableHandle

from gossamer.errors import UserError
from gossamer.sparsity.layers import Weight
from gossamer.sparsity.masks import unmasked_layer

Optimizers = Sequence[torch.optim.Optimizer]


class Attachment:
    """The attached optimizers of one training loop at a time, and the hooks in them."""

    def __init__(self) -> None:
        self._stepped = False  # the attached optimizers have made a step
        self._mixed = False  # steps of the training loop came after those of the optimizers
        self._following: frozenset[int] = frozenset()  # ids of the attached optimizers
        self._waiting: set[int] = set()  # those that have not made the present step yet
        self._hooks: list[RemovableHandle] = []  # of all optimizers that were ever attached

    def attach(
        self,
        optimizers: Optimizers,
        step: Callable[[Optimizers], None],
        apply: Callable[[], None],
        check: Callable[[Optimizers], None],
    ) -> None:
        """Follow these optimizers, those of another phase of training, in place of earlier ones.

        Args:
            optimizers: of one training loop.
            step: called when all of them have made a step.
            apply: called after the steps of all but the last one.
            check: called before the second ``step``.
        """
        self._stepped = self._mixed = False
        self._following = following = frozenset(map(id, optimizers))
        self._waiting = set(following)
        checked = False

        def follow(optimizer: torch.optim.Optimizer, *_: Any) -> None:
            nonlocal checked
            if self._following is not following:
                if id(optimizer) in self._following:
                    return
                raise UserError(
                    "Sparsifier: an optimizer steps again after another one was attached; attach "
                    "optimizers of one training loop together: attach(first, second)"
                )
            # A loop of its own after that of an attached optimizer is right, a return to it is not.
            if self._mixed:
                raise UserError(
                    "Sparsifier: both the attached optimizer and the training loop call step(), so "
                    "that training counts twice; leave out sparsifier.step()"
                )
            self._waiting.discard(id(optimizer))
            if self._waiting:
                apply()
                return
            self._waiting = set(following)
            if self._stepped and not checked:  # after a first step has applied all masks
                checked = True
                check(optimizers)
            self._stepped = True
            step(optimizers)

        self._hooks += [optimizer.register_step_post_hook(follow) for optimizer in optimizers]

    def loop_steps(self) -> None:
        """Note that the training loop makes a step itself."""
        self._mixed = self._stepped

    def detach(self) -> None:
        """Follow no optimizer any more."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()


def check_attached(
    optimizers: Optimizers, weights: Mapping[str, Weight], masks: Mapping[str, Tensor]
) -> None:
    """Warn if the optimizers train another model, or others change masked weights.

    Args:
        optimizers: all that are attached.
        weights: the sparse weights by name.
        masks: those of ``weights`` with masked elements.
    """
    own = {id(p) for o in optimizers for group in o.param_groups for p in group["params"]}
    trained = {id(w.parameter) for w in weights.values() if w.parameter.requires_grad}
    if trained and not trained & own:
        warnings.warn(
            "the attached optimizer trains none of the sparse weights; if the model was copied "
            "since Sparsifier(model), make the sparsifier of the model that is trained",
            stacklevel=5,
        )
    others = {n: mask for n, mask in masks.items() if id(weights[n].parameter) not in own}
    if (name := unmasked_layer(weights, others)) is not None:
        warnings.warn(
            f"layer '{name}': its masked weights are not zero after the steps of an optimizer that "
            "is not attached; attach all of the training loop together: attach(first, second)",
            stacklevel=5,
        )


def inner_optimizer(optimizer: Any) -> torch.optim.Optimizer:
    """Return the optimizer inside the wrapper of accelerate, which has no hooks."""
    inner = getattr(optimizer, "optimizer", optimizer)
    assert isinstance(inner, torch.optim.Optimizer)
    return inner
