"""The sparsity of a model: its pattern, allocation, schedule and rule."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Collection, Mapping
from typing import Any, Protocol, Self
from weakref import WeakValueDictionary

import numpy as np
import torch
from torch import Tensor, nn

from gossamer.errors import UserError, one_line
from gossamer.numbers import whole
from gossamer.settings import strip_prefix
from gossamer.sparsity.allocation import Allocation, PerLayer, check_density, exact_counts
from gossamer.sparsity.attachment import (
    Attachment,
    Optimizers,
    check_attached,
    inner_optimizer,
)
from gossamer.sparsity.layers import (
    Weight,
    choose_weights,
    dense_weights,
    sparsifiable_weights,
    unwrap,
    warn_of_unknown,
)
from gossamer.sparsity.masks import Masks
from gossamer.sparsity.pattern import Pattern
from gossamer.sparsity.registry import default_allocation, default_pattern, default_rule
from gossamer.sparsity.rule import Layer, Rule, Static, magnitude
from gossamer.sparsity.schedule import Constant, Schedule

_STEP = "step"
_FINAL = "final"

#: Steps of training assumed, with a warning, where only the end of a rule's changes depends on it.
ASSUMED_STEPS = 10_000


def _generator(seed: Any) -> torch.Generator:
    """Return a generator whose stream differs from that of ``torch.manual_seed(seed)``.

    From that stream the weights were drawn: a random mask from the same numbers would keep the
    largest weights, all of one sign, and the network would hardly learn.
    """
    seed = whole(seed, 0, "Sparsifier: seed", 2**64 - 1)  # what torch takes
    own = np.random.SeedSequence([seed, 0x6D61736B]).generate_state(1, np.uint64)[0]
    return torch.Generator().manual_seed(int(own >> np.uint64(1)))


def _links(model: nn.Module) -> list[tuple[Mapping[str, nn.Module | None], str, nn.Module | None]]:
    """Return each module's children, as (children of the module, name, child).

    To compare them takes microseconds, to ask a model for its parameters many times as long.
    """
    return [
        (module._modules, name, child)
        for module in model.modules()
        for name, child in module._modules.items()
    ]


# The sparsifier of each masked parameter, by the parameter's id.
_owners: WeakValueDictionary[int, Sparsifier] = WeakValueDictionary()


class Observer(Protocol):
    """Observer of a sparsifier's steps and of the replacement of its masks."""

    def after_step(self) -> None: ...
    def before_masks_change(self) -> None: ...


class Sparsifier:
    """Make the weights of any model sparse, and keep them sparse in training.

    The model stays a plain torch model, in which masked weights are exactly zero, so it can be
    copied, compiled, exported and saved as usual; the masks are stored here. Call
    :meth:`step` after every optimizer step, or :meth:`attach` an optimizer once. A weight has one
    sparsifier at a time; :meth:`detach` it before making another one.

    Args:
        model: the model. Weights of ``Linear`` layers, convolutions (also transposed ones),
            recurrent layers and attention's projections become sparse, except depthwise
            convolutions, weights shared with an embedding, frozen weights, and the last
            (``Block``) or first (``NM``) layer if the pattern does not divide it.
            :meth:`summary` lists what stays dense.
        density: share of these weights that stay non-zero, above 0 and at most 1; optional with
            :class:`PerLayer`, whose unnamed layers are then dense.
        pattern: allowed positions of non-zeros; by default any (:class:`Unstructured`).
        allocation: division of the density among layers; by default :class:`ERK`, and
            :class:`Uniform` for :class:`NM`.
        schedule: density over training; by default that of the rule.
        rule: choice and change of masks; by default :class:`GraNet`, which starts dense and
            reaches the density after half of the training.
        exclude: layers that stay dense as well: names, patterns with ``*``, or the rules
            ``first``, ``last``, ``depthwise``, ``embeddings``, ``frozen``.
        include: layers or rules that become sparse although they are dense by default.
        total_steps: optimizer steps of the whole training, because schedules and rules are in
            shares of it. ``fit`` sets it; other training loops must set it if the density falls.
        rescale: multiply the unmasked weights by ``sqrt(fan_in / non-zeros per unit)``, so that
            an initialization has the right scale for the sparse fan-in. Switch it off for a
            trained model.
        seed: seed of the random choices.

    Raises:
        UserError: a density out of range or too small for a layer, a pattern that does not fit
            one, an unknown layer name, a text in place of a rule or pattern, a model with
            nothing to sparsify, or a layer that another sparsifier masks.
    """

    def __init__(
        self,
        model: nn.Module,
        density: float | None = None,
        *,
        pattern: Pattern | None = None,
        allocation: Allocation | None = None,
        schedule: Schedule | None = None,
        rule: Rule | None = None,
        exclude: Collection[str] = (),
        include: Collection[str] = (),
        total_steps: int | None = None,
        rescale: bool = True,
        seed: int = 0,
    ) -> None:
        if density is None and isinstance(allocation, PerLayer):
            density = 1.0
        self.density = check_density(density, "Sparsifier")
        for part, kind in (
            (pattern, Pattern),
            (allocation, Allocation),
            (schedule, Schedule),
            (rule, Rule),
        ):
            if not isinstance(part, kind | None):
                name = kind.__name__
                raise UserError(
                    f"Sparsifier: {name.lower()}={part!r}; pass an instance of gs.sparsity.{name}"
                )
        self.pattern = pattern or default_pattern()
        self.allocation = allocation or default_allocation(self.pattern)
        self.rule = rule or default_rule()
        self.schedule = schedule or self.rule.schedule()
        self.steps = 0
        self._attachment = Attachment()
        self._detached = False
        #: Layers that hold no masked weights at this time: there is nothing to apply.
        self.packed: Collection[str] = frozenset()
        self.observers: list[Observer] = []
        self.total_steps = None if total_steps is None else whole(total_steps, 1, "total_steps")
        self._generator = _generator(seed)
        self._weights = choose_weights(model, exclude, include)
        self._model = unwrap(model)
        self._modules = _links(self._model)
        warn_of_unknown(self._model)
        self._leave_end(include)
        self._dense = dense_weights(self._model, self._weights)
        self._shapes = {name: weight.shape for name, weight in self._by_output().items()}
        self._final = self._densities(1.0)
        for name, density in self._final.items():
            groups = self._weights[name].groups
            try:
                self.pattern.check(self._shapes[name], check_density(density, "allocation"), groups)
            except UserError as error:
                raise UserError(f"layer '{name}': {error}") from None
        self._final_counts = self._counts(1.0)
        self._check_free()
        masks = {}
        for name, keep in self._counts(0.0).items():
            weight = self._weights[name]
            rows = weight.by_output(weight.parameter.detach())
            scores = self.rule.initial_scores(rows, self._generator)
            masks[name] = weight.as_stored(self.pattern.mask(scores, keep))
        # All masks are made before any weight changes: an error leaves the model as it was.
        self._masks = Masks(self._weights)
        for name, mask in masks.items():
            self._masks.set(name, mask)
        # Until training begins, another sparsifier's state may be restored: its masks are for
        # the weights that were there before this one changed them.
        self._before = {
            name: self._weights[name].parameter.detach().clone() for name in self._masks.holed
        }
        self._factors = self._masks.rescale() if rescale else {}
        self.apply()
        _owners.update({id(w.parameter): self for w in self._weights.values()})

    def _check_free(self) -> None:
        """Refuse weights of another sparsifier: a weight would be zero where either masks it."""
        for name, weight in self._weights.items():
            if _owner_of(weight.parameter):
                gc.collect()  # one that is gone may be in a cycle with its optimizer
            if other := _owner_of(weight.parameter):
                raise UserError(
                    f"layer '{name}' has another sparsifier already ({other}), and the masks of "
                    "both would multiply; call detach() of that one first, which keeps the zeros, "
                    "or exclude the layer"
                )

    def _leave_end(self, include: Collection[str]) -> None:
        """Leave the pattern's ``end`` layer dense if the pattern does not divide it."""
        end = self.pattern.end
        if end is None or len(self._weights) < 2:
            return
        name = list(sparsifiable_weights(self._model))[0 if end == "first" else -1]
        named = {end, name} & set(include) or name in getattr(self.allocation, "by_layer", ())
        if name in self._weights and not named:
            weight = self._weights[name]
            if not self.pattern.divides(weight.by_output(weight.parameter).shape, weight.groups):
                del self._weights[name]

    def _by_output(self) -> dict[str, Tensor]:
        return {name: w.by_output(w.parameter.detach()) for name, w in self._weights.items()}

    def _densities(self, share: float) -> dict[str, float]:
        """Return the density of each layer after a share of training."""
        if self.allocation.follows_weights:
            now = self.schedule.density(self.density, share)
            return self.allocation.densities(self._by_output(), now)
        if share == 1.0:
            return self.allocation.densities(self._by_output(), self.density)
        return {name: self.schedule.density(final, share) for name, final in self._final.items()}

    def _counts(self, share: float) -> dict[str, int]:
        """Return the number of weights that each layer keeps after a share of training."""
        densities = self._densities(share)
        counts = {}
        for name, density in densities.items():
            try:
                counts[name] = self.pattern.keep(self._shapes[name], density)
            except UserError as error:
                raise UserError(f"layer '{name}': {error}") from None
        if self.pattern.granularity is None:
            return counts
        sizes = {name: shape.numel() for name, shape in self._shapes.items()}
        ideal = {name: sizes[name] * density for name, density in densities.items()}
        limits = {
            name: (self.pattern.least(self._shapes[name]), size) for name, size in sizes.items()
        }
        return exact_counts(counts, ideal, limits, self.pattern.granularity)

    @property
    def weights(self) -> Mapping[str, Weight]:
        """The sparse weights by name; see :func:`sparsifiable_weights`."""
        return self._weights

    @property
    def masks(self) -> Mapping[str, Tensor]:
        """Boolean masks of the weights' shapes by name, true where a weight may be non-zero."""
        return self._masks

    def apply(self) -> None:
        """Set every masked weight to exactly zero, on whatever device the model is.

        Raises:
            UserError: a sparse layer is no longer part of the model: another has replaced it; or
                the sparsifier was detached.
        """
        if self._detached:
            raise UserError(
                "this sparsifier was detached from its model; make another one to go on: "
                "Sparsifier(model, ...)"
            )
        if not all(modules.get(name) is module for modules, name, module in self._modules):
            self._check_present()
        self._masks.apply(but=self.packed)

    def _check_present(self) -> None:
        """Check that the model has all sparse weights, of whatever modules they are now."""
        present = {id(parameter) for parameter in self._model.parameters()}
        for name, weight in self._weights.items():
            if id(weight.parameter) not in present:
                raise UserError(
                    f"layer '{name}' was replaced or removed since Sparsifier(model), so its masks "
                    "have no effect; change layers first, then make the sparsifier"
                )
        self._modules = _links(self._model)

    @torch.no_grad()
    def step(self, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Update masks if the rule says so, then apply them; call this after every optimizer step.

        Args:
            optimizer: if passed, its state of grown weights (momentum, moments) is set to zero.

        Raises:
            UserError: the rule needs gradients and no layer has any, or the density falls but
                ``total_steps`` is not set.
        """
        self._attachment.loop_steps()
        self._advance([] if optimizer is None else [inner_optimizer(optimizer)])

    def _advance(self, optimizers: Optimizers) -> None:
        self._before.clear()
        self.steps += 1
        due = self.due(self.steps)
        if not (due and self.rule.sees_masked):
            self.apply()
        if due:
            self._update(optimizers)
        for observer in self.observers:
            observer.after_step()

    def _total(self) -> int:
        if self.total_steps is None:
            if not isinstance(self.schedule, Constant):
                raise UserError(
                    "Sparsifier: the density falls over training, whose length is not known: give "
                    "total_steps=, the optimizer steps of all epochs, or, for fixed random masks, "
                    "rule=gs.sparsity.Static()"
                )
            if not isinstance(self.rule, Static):
                warnings.warn(
                    f"Sparsifier does not know how long training is and takes {ASSUMED_STEPS:,} "
                    "steps; give total_steps=",
                    stacklevel=4,
                )
            self.total_steps = ASSUMED_STEPS
        return self.total_steps

    def due(self, step: int) -> bool:
        """Return whether masks change after ``step``, by the rule or with the density."""
        total = self._total()
        if self.rule.due(step, total):
            return True
        if isinstance(self.schedule, Constant):
            return False
        interval = self.rule.interval_in(total)
        if step % interval and step != total:
            return False
        now, before = min(step / total, 1.0), min((step - interval) / total, 1.0)
        return any(
            self.schedule.density(final, now) != self.schedule.density(final, max(before, 0.0))
            for final in (self.density, *self._final.values())
        ) or (step == total and not self.settled)

    def _gradients(self) -> dict[str, Tensor | None]:
        """Return the gradients by which the rule grows weights, None for layers without one."""
        if not self.rule.needs_gradient:
            return dict.fromkeys(self._masks)
        gradients = {name: self._weights[name].parameter.grad for name in self._masks}
        if all(gradient is None for gradient in gradients.values()):
            raise UserError(
                f"no sparse layer has a gradient, and {type(self.rule).__name__} grows weights "
                "by it: call step() after backward() and before optimizer.zero_grad()"
            )
        return gradients

    def _update(self, optimizers: Optimizers) -> None:
        share = min(self.steps / self._total(), 1.0)
        gradients = self._gradients()
        if share < 1.0 and not all(
            g is None or bool(torch.isfinite(g).all()) for g in gradients.values()
        ):
            # A step that the gradient scaler of mixed precision has skipped: next time.
            self.apply()
            return
        counts = self._counts(share)
        for name, keep in counts.items():
            weight, before = self._weights[name].parameter, self._masks[name]
            by_output, gradient = self._weights[name].by_output, gradients[name]
            if keep == weight.numel():
                mask = torch.ones_like(before)
            elif self.rule.needs_gradient and gradient is None:
                # Frozen, or left out of this step (LayerDrop): nothing grows, and where the
                # density falls the smallest weights go.
                mask = before
                if int(before.sum()) != keep:
                    scores = by_output(magnitude(weight).masked_fill(~before, -1.0))
                    mask = self._weights[name].as_stored(self.pattern.mask(scores, keep))
            else:
                layer = Layer(
                    by_output(weight.detach()),
                    by_output(before),
                    None if gradient is None else by_output(gradient),
                    self._generator,
                )
                rows = self.rule.update(layer, self.pattern, keep, share)
                mask = self._weights[name].as_stored(rows)
            self._masks.set(name, mask)
            for optimizer in () if self.rule.sees_masked else optimizers:
                _forget(optimizer, weight, self._masks[name] & ~before)
        if self.allocation.follows_weights:
            self._final_counts = self._counts(1.0)
        self.apply()

    def attach(self, *optimizers: torch.optim.Optimizer) -> Self:
        """Run :meth:`step` after each step of ``optimizers``, in any training loop.

        Optimizers of one loop (Muon for matrices, AdamW for the rest) are attached in one call:
        masks are applied after each, and a step counts when all have made theirs. Another call
        is for another phase of training. Steps skipped by a gradient scaler or by gradient
        accumulation do not count.

        Raises:
            UserError: no optimizer, or several and a rule that chooses among masked weights. In
                an optimizer's step: the training loop calls :meth:`step` as well, or optimizers
                that were attached one after the other step in turns.
        """
        inner = [inner_optimizer(optimizer) for optimizer in optimizers]
        if not inner:
            raise UserError("Sparsifier: attach takes the optimizer, or all of them")
        if len(inner) > 1 and self.rule.sees_masked:
            raise UserError(
                f"Sparsifier: {type(self.rule).__name__} compares what an optimizer's step adds "
                "to masked weights, so several cannot be attached; call sparsifier.step() after "
                "the last one's step"
            )
        self._attachment.attach(inner, self._advance, self.apply, self._check_attached)
        return self

    def detach(self) -> None:
        """Leave the model to another sparsifier, or to training without masks, permanently.

        The weights keep their values and zeros; attached optimizers no longer run :meth:`step`.
        """
        for observer in self.observers:
            observer.before_masks_change()
        self._attachment.detach()
        self.observers.clear()
        self._before.clear()
        self._detached = True
        for key in [key for key, owner in _owners.items() if owner is self]:
            del _owners[key]

    def _check_attached(self, optimizers: Optimizers) -> None:
        check_attached(optimizers, self._weights, {n: self._masks[n] for n in self._masks.holed})

    @property
    def densities(self) -> dict[str, float]:
        """Return the density of each sparse weight at the end of training."""
        return {
            name: keep / self._shapes[name].numel() for name, keep in self._final_counts.items()
        }

    def summary(self) -> str:
        """Return a text of sparse weights with their non-zeros, and dense ones with their share."""
        lines = [
            f"{name}: {nonzero:,} of {size:,} weights"
            for name, (nonzero, size) in self.counts().items()
        ]
        total = sum(self._dense.values()) + sum(shape.numel() for shape in self._shapes.values())
        for name, size in self._dense.items():
            lines.append(f"{name}: dense, {size / total:.1%} of all weights")
        return "\n".join(lines)

    @property
    def masked(self) -> bool:
        """Whether any weight is masked now or will be at the end of training."""
        return bool(self._masks.holed) or any(
            keep < self._shapes[name].numel() for name, keep in self._final_counts.items()
        )

    @property
    def settled(self) -> bool:
        """Whether the network has its final number of weights."""
        if isinstance(self.schedule, Constant):
            return True
        nonzero = sum(int(mask.sum()) for mask in self._masks.values())
        return nonzero == sum(self._final_counts.values())

    def __repr__(self) -> str:
        return (
            f"Sparsifier(density={self.density:g}, pattern={self.pattern}, "
            f"allocation={self.allocation}, schedule={self.schedule}, rule={self.rule})"
        )

    def counts(self) -> dict[str, tuple[int, int]]:
        """Return (non-zeros allowed by the mask, size) of each sparse weight."""
        return {name: (int(mask.sum()), mask.numel()) for name, mask in self._masks.items()}

    def state_dict(self) -> dict[str, Tensor]:
        """Return masks by layer name, each layer's final count of non-zeros, the step count and
        the state of the random generator."""
        state = {f"mask.{name}": mask for name, mask in self._masks.items()}
        state[_FINAL] = torch.tensor([self._final_counts[name] for name in self._masks])
        state[_STEP] = torch.tensor(self.steps)
        state["generator"] = self._generator.get_state()
        return state

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore what :meth:`state_dict` returned, and apply the masks.

        Raises:
            UserError: the masks are of another network, or the state is damaged; then nothing
                changes.
        """
        if not isinstance(state, Mapping):
            raise UserError(
                f"load_state_dict takes what state_dict returned, not {type(state).__name__}"
            )
        masks = strip_prefix(state, "mask.")
        if set(masks) != set(self._masks) or not {_STEP, "generator"} <= set(state):
            odd = sorted(set(masks) ^ set(self._masks)) or [_STEP]
            raise UserError(
                f"these masks are of another network: they differ in layer '{odd[0]}'; "
                "load them into the model they were saved with"
            )
        for name, mask in masks.items():
            if not isinstance(mask, Tensor) or not bool(((mask == 0) | (mask == 1)).all()):
                raise UserError(
                    f"the mask of layer '{name}' is not one of zeros and ones; it is damaged, or "
                    "the state is not of a sparsifier"
                )
            if mask.shape != self._masks[name].shape:
                raise UserError(
                    f"these masks are of another network: layer '{name}' has shape "
                    f"{tuple(self._masks[name].shape)}, its mask {tuple(mask.shape)}"
                )
        generator = torch.Generator()
        try:
            steps = whole(int(state[_STEP]), 0, _STEP)
            generator.set_state(state["generator"].to("cpu", torch.uint8))
            final_counts: dict[str, int] = {}
            if _FINAL in state:
                final_counts = dict(zip(self._masks, state[_FINAL].tolist(), strict=True))
        except (AttributeError, TypeError, ValueError, RuntimeError) as error:
            raise UserError(
                f"this state of a sparsifier is damaged ({one_line(error)}); load another one"
            ) from None
        for observer in self.observers:
            observer.before_masks_change()
        self._undo()
        for name, mask in masks.items():
            self._masks.set(name, mask.to(torch.bool))
        follows = self.allocation.follows_weights
        if isinstance(self.schedule, Constant) and (follows or isinstance(self.rule, Static)):
            # These counts stay, whatever density this sparsifier was made with.
            self._final_counts = {name: nonzero for name, (nonzero, _) in self.counts().items()}
        elif follows and final_counts:  # the present weights may not be the saved ones yet
            self._final_counts = final_counts
        self.steps = steps
        self._generator.set_state(generator.get_state())
        self.apply()

    @torch.no_grad()
    def _undo(self) -> None:
        """Restore the dense values of weights that have not changed since this was made.

        They may be the weights of the network whose masks are restored next.
        """
        for name, before in self._before.items():
            weight = self._weights[name].parameter
            factor, mask = self._factors.get(name, 1.0), self._masks[name].to(before.device)
            made = (before * factor).masked_fill_(~mask, 0.0)
            if torch.equal(weight, made.to(weight)):
                weight.copy_(before)
        self._before.clear()

    def apply_to(self, model: nn.Module) -> None:
        """Set the masked weights of another model of the same structure to exactly zero.

        Use it for averages of the model's weights (EMA, SWA): masks change during the averaging,
        so an average has more non-zeros than the model. Call it at the end of the averaging,
        before renewing the statistics of batch norms.

        Args:
            model: a copy, or ``torch.optim.swa_utils.AveragedModel``.

        Raises:
            UserError: a sparse layer is missing or has another shape; then nothing changes.
        """
        if isinstance(model, torch.optim.swa_utils.AveragedModel):
            model = model.module
        weights = sparsifiable_weights(unwrap(model))
        for name, mask in self._masks.items():
            if name not in weights or weights[name].parameter.shape != mask.shape:
                raise UserError(
                    f"apply_to: the model has no layer '{name}' with a weight of shape "
                    f"{tuple(mask.shape)}; give a copy or an average of the sparse model"
                )
        masks = Masks(weights)
        for name, mask in self._masks.items():
            masks.set(name, mask)
        masks.apply()


def _owner_of(parameter: nn.Parameter) -> str:
    """Describe the sparsifier of a parameter; empty if it has none.

    Not the sparsifier itself, which an error's traceback would keep.
    """
    owner = _owners.get(id(parameter))
    # A weight may have been replaced since, and its id given to another.
    if owner is None or not any(
        w.module._parameters.get(w.name) is parameter for w in owner.weights.values()
    ):
        return ""
    return f"density {owner.density:g}, {type(owner.rule).__name__}"


def _forget(optimizer: torch.optim.Optimizer, weight: Tensor, grown: Tensor) -> None:
    """Set the optimizer's state of grown weights to zero."""
    for value in optimizer.state.get(weight, {}).values():
        if isinstance(value, Tensor) and value.shape == weight.shape:
            value.masked_fill_(grown, 0.0)
