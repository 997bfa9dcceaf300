"""Patterns, allocations, schedules and rules by name, for settings and experiments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from torch import nn

from gossamer.errors import UserError, nearest
from gossamer.sparsity.allocation import ERK, Allocation, Global, PerLayer, Uniform
from gossamer.sparsity.layers import choose_weights, sparsifiable_weights
from gossamer.sparsity.pattern import NM, Block, FanIn, Pattern, Unstructured
from gossamer.sparsity.rule import ACDC, SET, GraNet, Magnitude, RigL, Rule, Static, TopK
from gossamer.sparsity.schedule import Constant, Cubic, Phases, Schedule
from gossamer.sparsity.sparsifier import Sparsifier

PATTERNS: dict[str, Callable[[], Pattern]] = {
    "unstructured": Unstructured,
    "fan_in": FanIn,
    "block4": lambda: Block(4),
    "block8": lambda: Block(8),
    "block16": lambda: Block(16),
    "2:4": lambda: NM(2, 4),
}
ALLOCATIONS: dict[str, Callable[[], Allocation]] = {
    "uniform": Uniform,
    "erk": ERK,
    "global": Global,
}
SCHEDULES: dict[str, Callable[..., Schedule]] = {
    "constant": Constant,
    "cubic": Cubic,
    "phases": Phases,
}
RULES: dict[str, Callable[..., Rule]] = {
    "static": Static,
    "set": SET,
    "rigl": RigL,
    "magnitude": Magnitude,
    "granet": GraNet,
    "acdc": ACDC,
    "top_k": TopK,
}

Made = TypeVar("Made")


def named_pattern(name: str) -> Pattern:
    """The pattern of that name: one of :data:`PATTERNS`, ``blockN`` or ``N:M``.

    Raises:
        UserError: no such pattern.
    """
    if isinstance(name, str):
        if name in PATTERNS:
            return PATTERNS[name]()
        if block := re.fullmatch(r"block(\d+)", name):
            return Block(int(block[1]))
        if nm := re.fullmatch(r"(\d+):(\d+)", name):
            return NM(int(nm[1]), int(nm[2]))
    raise UserError(f"pattern: no '{name}'; {nearest(str(name), PATTERNS)}; or blockN, N:M")


def _found(table: Mapping[str, Made], name: str, setting: str) -> Made:
    if name not in table:
        raise UserError(f"{setting}: no '{name}'; {nearest(str(name), table)}")
    return table[name]


@dataclass(frozen=True)
class SparsitySettings:
    """How weights become sparse, by names and plain values.

    Attributes:
        pattern: one of :data:`PATTERNS`, ``blockN`` or ``N:M``.
        allocation: one of :data:`ALLOCATIONS`, for layers without a density of their own.
        rule: one of :data:`RULES`.
        density_schedule: one of :data:`SCHEDULES`; without it, what suits the rule.
        density_until: share of training at which a falling density has arrived.
        density_start: share of training at which it begins to fall.
        density_initial: density that a ``cubic`` one falls from; without it, from dense.
        mask_interval: optimizer steps between two changes of the masks.
        mask_until: share of training after which positions change no more.
        drop_fraction: share of the kept weights replaced at the first change (``set``,
            ``rigl``, ``granet``).
        exclude: layers that stay dense: names, patterns with ``*``, or rules.
        include: what becomes sparse although it would stay dense by default.

    Raises:
        UserError: an unknown name, a value out of range, or one that the rule or schedule does
            not take.
    """

    pattern: str = "unstructured"
    allocation: str = "erk"
    rule: str = "granet"
    density_schedule: str | None = None
    density_until: float | None = None
    density_start: float | None = None
    density_initial: float | None = None
    mask_interval: int | None = None
    mask_until: float | None = None
    drop_fraction: float | None = None
    exclude: tuple[str, ...] = field(default=())
    include: tuple[str, ...] = field(default=())

    def __post_init__(self) -> None:
        for name in ("exclude", "include"):
            value = getattr(self, name)
            if isinstance(value, str):
                value = [part.strip() for part in value.split(",") if part.strip()]
            if not isinstance(value, list | tuple) or not all(isinstance(v, str) for v in value):
                raise UserError(f"{name} must be a list of names, not {value!r}")
            object.__setattr__(self, name, tuple(value))
        self.parts()

    @classmethod
    def names(cls) -> tuple[str, ...]:
        return tuple(f.name for f in fields(cls))

    def parts(self) -> tuple[Pattern, Allocation, Schedule, Rule]:
        """The four types that the names stand for."""
        options = {
            "interval": ("mask_interval", self.mask_interval),
            "until": ("mask_until", self.mask_until),
            "fraction": ("drop_fraction", self.drop_fraction),
        }
        rule = self._made(_found(RULES, self.rule, "rule"), options, f"rule {self.rule}")
        schedule = rule.schedule()
        if self.density_schedule is not None:
            schedule = _found(SCHEDULES, self.density_schedule, "density_schedule")()
        options = {
            "until": ("density_until", self.density_until),
            "start": ("density_start", self.density_start),
            "initial": ("density_initial", self.density_initial),
        }
        if any(value is not None for _, value in options.values()):
            kind = type(schedule)
            # The rule's own choice, unless the settings name another.
            preferred = {"until": getattr(schedule, "until", None)}
            schedule = self._made(kind, options, f"the schedule {kind.__name__}", preferred)
        allocation = _found(ALLOCATIONS, self.allocation, "allocation")()
        return named_pattern(self.pattern), allocation, schedule, rule

    @staticmethod
    def _made(
        make: Callable[..., Made],
        options: Mapping[str, tuple[str, Any]],
        where: str,
        defaults: Mapping[str, Any] | None = None,
    ) -> Made:
        known = getattr(make, "__dataclass_fields__", {})
        given = {k: v for k, v in (defaults or {}).items() if v is not None}
        for name, (setting, value) in options.items():
            if value is None:
                continue
            if name not in known:
                raise UserError(f"{setting}: {where} has no such setting; leave it out")
            given[name] = value
        return make(**given)

    def sparsifier(
        self,
        model: nn.Module,
        density: float,
        by_layer: Mapping[str, float] | None = None,
        *,
        rescale: bool = True,
        seed: int = 0,
    ) -> Sparsifier:
        """A sparsifier of these settings; ``by_layer`` are densities of single layers."""
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
