"""The sparsity of a network as flat named settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar

from torch import nn

from gossamer.errors import UserError
from gossamer.numbers import names_in
from gossamer.settings import Settings
from gossamer.sparsity.allocation import ALLOCATIONS, Allocation, PerLayer
from gossamer.sparsity.layers import choose_weights, sparsifiable_weights
from gossamer.sparsity.pattern import Pattern
from gossamer.sparsity.registry import (
    DEFAULT_PATTERN,
    DEFAULT_RULE,
    by_name,
    default_allocation,
    named_pattern,
)
from gossamer.sparsity.rule import RULES, Rule
from gossamer.sparsity.schedule import SCHEDULES, Schedule
from gossamer.sparsity.sparsifier import Sparsifier

Part = TypeVar("Part")


@dataclass(frozen=True)
class SparsitySettings(Settings):
    """Settings of sparse weights, by names and plain values.

    Attributes:
        pattern: one of :data:`PATTERNS`, ``blockN`` or ``N:M``.
        allocation: one of :data:`ALLOCATIONS`, for layers without a separate density; by default
            that of the pattern.
        rule: one of :data:`RULES`.
        density_schedule: one of :data:`SCHEDULES`; by default that of the rule.
        density_until: share of training at which the density reaches its final value.
        density_start: share of training at which it begins to fall.
        density_initial: density at the start of a ``cubic`` schedule, 1 by default.
        mask_interval: optimizer steps between two changes of the masks; by default a 32nd of the
            training, at most 100.
        mask_until: share of training after which positions no longer change.
        drop_fraction: share of the weights replaced at the first change (``set``,
            ``rigl``, ``granet``).
        exclude: layers that stay dense: names, patterns with ``*``, or rules.
        include: layers that become sparse although they are dense by default.

    Raises:
        UserError: an unknown name, a value out of range, or one that the rule or schedule does
            not take.
    """

    pattern: str = DEFAULT_PATTERN
    allocation: str | None = None
    rule: str = DEFAULT_RULE
    density_schedule: str | None = None
    density_until: float | None = None
    density_start: float | None = None
    density_initial: float | None = None
    mask_interval: int | None = None
    mask_until: float | None = None
    drop_fraction: float | None = None
    exclude: tuple[str, ...] = ()
    include: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name in ("exclude", "include"):
            value = names_in(getattr(self, name), f"{name} must be a list of names")
            object.__setattr__(self, name, value)
        self.parts()

    def parts(self) -> tuple[Pattern, Allocation, Schedule, Rule]:
        """Return the pattern, allocation, schedule and rule that the settings name."""
        options = {
            "interval": "mask_interval",
            "until": "mask_until",
            "fraction": "drop_fraction",
        }
        rule = self._part(by_name(RULES, self.rule, "rule"), options, f"rule {self.rule}")
        schedule = rule.schedule()
        if self.density_schedule is not None:
            schedule = by_name(SCHEDULES, self.density_schedule, "density_schedule")()
        options = {name: f"density_{name}" for name in ("until", "start", "initial")}
        if any(getattr(self, setting) is not None for setting in options.values()):
            kind = type(schedule)
            # The rule's own choice, unless the settings name another.
            preferred = {"until": schedule.until} if hasattr(schedule, "until") else {}
            schedule = self._part(kind, options, f"the schedule {kind.__name__}", **preferred)
        pattern = named_pattern(self.pattern)
        allocation = default_allocation(pattern)
        if self.allocation is not None:
            allocation = by_name(ALLOCATIONS, self.allocation, "allocation")()
        return pattern, allocation, schedule, rule

    def _part(
        self, make: Callable[..., Part], options: Mapping[str, str], where: str, **arguments: Any
    ) -> Part:
        """Make a rule or schedule; ``options`` are its arguments with the settings of theirs."""
        known = getattr(make, "__dataclass_fields__", {})
        for name, setting in options.items():
            if (value := getattr(self, setting)) is None:
                continue
            if name not in known:
                raise UserError(f"{setting}: {where} has no such setting; leave it out")
            arguments[name] = value
        return make(**arguments)

    def sparsifier(
        self,
        model: nn.Module,
        density: float,
        by_layer: Mapping[str, float] | None = None,
        *,
        rescale: bool = True,
        seed: int = 0,
    ) -> Sparsifier:
        """Return a sparsifier of these settings; ``by_layer`` are densities of single layers."""
        pattern, allocation, schedule, rule = self.parts()
        if by_layer:
            # A density of 1 says no more than the exclusion of the same layer.
            every = sparsifiable_weights(model)
            chosen = choose_weights(model, self.exclude, self.include)
            by_layer = {
                name: value
                for name, value in by_layer.items()
                if name in chosen or name not in every or value != 1.0
            }
            allocation = PerLayer(by_layer, rest=allocation)
        return Sparsifier(
            model,
            density,
            pattern=pattern,
            allocation=allocation,
            schedule=schedule,
            rule=rule,
            exclude=self.exclude,
            include=self.include,
            rescale=rescale,
            seed=seed,
        )
