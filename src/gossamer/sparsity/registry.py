"""Patterns, allocations, schedules and rules by name, and which of them are the default."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeVar

from gossamer.errors import UserError, nearest
from gossamer.sparsity.allocation import ERK, Allocation, Global, Uniform
from gossamer.sparsity.pattern import NM, Block, FanIn, Pattern, Unstructured
from gossamer.sparsity.rule import ACDC, SET, GraNet, Magnitude, OneShot, RigL, Rule, Static, TopK
from gossamer.sparsity.schedule import Constant, Cubic, Phases, Schedule

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
    "one_shot": OneShot,
    "set": SET,
    "rigl": RigL,
    "magnitude": Magnitude,
    "granet": GraNet,
    "acdc": ACDC,
    "top_k": TopK,
}

#: The sparsity of `Sparsifier`, of the settings of training and of `prune` where none is named; the
#: schedule is the rule's own. The measurements by which they were chosen are in
#: docs/explanation/sparsity.md.
DEFAULT_PATTERN, DEFAULT_ALLOCATION, DEFAULT_RULE = "unstructured", "erk", "granet"
#: Of a trained network, pruned at once: its magnitudes say which layers need their weights.
DEFAULT_PRUNING_ALLOCATION = "global"

Made = TypeVar("Made")


def default_pattern() -> Pattern:
    """The pattern where none is named."""
    return PATTERNS[DEFAULT_PATTERN]()


def default_allocation(pattern: Pattern, *, trained: bool = False) -> Allocation:
    """The allocation where none is named; N:M has one density only, the same in every layer."""
    if isinstance(pattern, NM):
        return Uniform()
    return ALLOCATIONS[DEFAULT_PRUNING_ALLOCATION if trained else DEFAULT_ALLOCATION]()


def default_rule() -> Rule:
    """The rule where none is named."""
    return RULES[DEFAULT_RULE]()


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


def by_name(table: Mapping[str, Made], name: str, setting: str) -> Made:
    """The entry of a table of names, else a :class:`UserError` that suggests the nearest."""
    if name not in table:
        raise UserError(f"{setting}: no '{name}'; {nearest(str(name), table)}")
    return table[name]
