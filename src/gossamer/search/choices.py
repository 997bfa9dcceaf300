"""Parameters that are one of a list: choices, and grids of numbers."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution

from gossamer.errors import UserError
from gossamer.search.values import Value, check_name, check_when, is_number, make_plain


class _Listed(ABC):
    """What `Choice` and `Grid` share: a list of values, each with a cell of the unit interval."""

    name: str
    when: Mapping[str, Sequence[Value]]

    @property
    @abstractmethod
    def _values(self) -> Sequence[Any]:
        """The listed values, in order."""

    def distribution(self) -> BaseDistribution:
        """The parameter as Optuna knows it."""
        return CategoricalDistribution(tuple(self._values))

    def decode(self, unit: float) -> Any:
        """The value at `unit` in [0, 1]."""
        return self._values[min(int(unit * len(self._values)), len(self._values) - 1)]

    def encode(self, value: Any) -> float:
        """Where in [0, 1] the value lies: the middle of its cell."""
        return (list(self._values).index(value) + 0.5) / len(self._values)

    def believed(self, unit: float) -> float:
        """All are as likely."""
        return unit

    def log_belief(self, units: np.ndarray) -> np.ndarray:
        """0: all are as likely."""
        return np.zeros(len(units))


@dataclass(frozen=True)
class Choice(_Listed):
    """One of several options: texts, numbers, True/False or None. A single one is a fixed value.

    Args:
        name: what `train` receives it as.
        options: in any order.
        when: other parameter -> its values with which this one exists; else trials have none.

    Raises:
        UserError: for no options at all, options of another type, or one given twice.
    """

    name: str
    options: Sequence[Value]
    when: Mapping[str, Sequence[Value]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        make_plain(self)
        check_name(self.name, "parameter")
        where = f"parameter '{self.name}'"
        if isinstance(self.options, str) or not isinstance(self.options, Sequence):
            raise UserError(f"{where}: options must be a list, not {self.options!r}")
        if not self.options:
            raise UserError(f"{where}: options is empty; give at least one")
        seen: list[Value] = []
        for option in self.options:
            if not (option is None or isinstance(option, (str, bool)) or is_number(option)):
                raise UserError(
                    f"{where}: option {option!r} must be a text, a finite number, "
                    "true/false or None"
                )
            # Compared as Optuna compares them: 1, 1.0 and True are one and the same option.
            if option in seen:
                raise UserError(f"{where}: option {option!r} is given twice")
            seen.append(option)
        object.__setattr__(self, "options", tuple(self.options))
        object.__setattr__(self, "when", check_when(where, self.when))

    @property
    def _values(self) -> Sequence[Value]:
        return self.options


@dataclass(frozen=True)
class Grid(_Listed):
    """One of several numbers, which need not be evenly spaced: neighbours are alike.

    Args:
        name: what `train` receives it as.
        values: ascending.
        when: other parameter -> its values with which this one exists; else trials have none.

    Raises:
        UserError: for no values, some that are no finite numbers, or not ascending.
    """

    name: str
    values: Sequence[float]
    when: Mapping[str, Sequence[Value]] = field(default_factory=dict, kw_only=True)

    def __post_init__(self) -> None:
        make_plain(self)
        check_name(self.name, "parameter")
        where = f"parameter '{self.name}'"
        if isinstance(self.values, str) or not isinstance(self.values, Sequence):
            raise UserError(f"{where}: values must be a list of numbers, not {self.values!r}")
        if not self.values:
            raise UserError(f"{where}: values is empty; give at least one")
        for value in self.values:
            if not is_number(value):
                raise UserError(f"{where}: value {value!r} must be a finite number")
        if any(a >= b for a, b in zip(self.values, self.values[1:], strict=False)):
            raise UserError(f"{where}: values must ascend; write {sorted(set(self.values))}")
        object.__setattr__(self, "values", tuple(self.values))
        object.__setattr__(self, "when", check_when(where, self.when))

    @property
    def _values(self) -> Sequence[float]:
        return self.values

    @property
    def low(self) -> float:
        """The least value."""
        return self.values[0]

    @property
    def high(self) -> float:
        """The greatest value."""
        return self.values[-1]
