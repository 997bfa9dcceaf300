"""The default pattern, allocation and rule, and the names of all."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TypeVar

from gossamer.errors import UserError, nearest
from gossamer.sparsity.allocation import ALLOCATIONS, Allocation, Uniform
from gossamer.sparsity.pattern import NM, PATTERNS, Block, Pattern
from gossamer.sparsity.rule import RULES, Rule

#: The sparsity of `Sparsifier`, of the settings of training and of `prune` where none is named; the
#: schedule is the rule's own. The measurements by which they were chosen are in
#: docs/explanation/sparsity.md.
DEFAULT_PATTERN, DEFAULT_ALLOCATION, DEFAULT_RULE = "unstructured", "erk", "granet"
#: Of a trained network, pruned at once: its magnitudes say which layers need their weights.
DEFAULT_PRUNING_ALLOCATION = "global"

Made = TypeVar("Made")


def default_pattern() -> Pattern:
    """Return the default pattern."""
    return PATTERNS[DEFAULT_PATTERN]()


def default_allocation(pattern: Pattern, *, trained: bool = False) -> Allocation:
    """Return a pattern's default allocation; for N:M every layer has the same density."""
    if isinstance(pattern, NM):
        return Uniform()
    return ALLOCATIONS[DEFAULT_PRUNING_ALLOCATION if trained else DEFAULT_ALLOCATION]()


def default_rule() -> Rule:
    """Return the default rule."""
    return RULES[DEFAULT_RULE]()


def named_pattern(name: str) -> Pattern:
    """Return the pattern of a name: one of :data:`PATTERNS`, ``blockN`` or ``N:M``.

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
    """Return a table's entry of this name, else raise a :class:`UserError` with the nearest."""
    if name not in table:
        raise UserError(f"{setting}: no '{name}'; {nearest(str(name), table)}")
    return table[name]
