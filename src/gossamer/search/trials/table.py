"""Trials as tables: a DataFrame, and HTML for notebooks."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from gossamer.errors import UserError
from gossamer.numbers import number
from gossamer.search.trials.trial import TrialRecord

if TYPE_CHECKING:
    import pandas  # type: ignore[import-untyped]


# Of many trials a notebook shows so many at either end.
_ENDS = 30


def to_dataframe(trials: Sequence[TrialRecord]) -> pandas.DataFrame:
    """Return trials as a pandas DataFrame: one row for each trial, with its number as the index.

    Columns: state, seconds, reason, fidelity and note, then ``value:NAME``, ``noise:NAME``
    (standard deviations, if any is known) and ``parameter:NAME``, as in the dashboard's CSV. What a
    trial does not have is missing.

    Raises:
        UserError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError:
        raise UserError("a DataFrame needs the package pandas: pip install pandas") from None
    rows = [_row(trial) for trial in trials]
    columns = [*_STATE, *_named(trials, "values"), *_named(trials, "noise")]
    columns += _named(trials, "parameters")
    index = pandas.Index([trial.number for trial in trials], name="trial")
    return pandas.DataFrame(rows, index=index, columns=columns)


class Trials(list[TrialRecord]):
    """Trials, which a notebook shows as a table."""

    def to_dataframe(self) -> pandas.DataFrame:
        """The trials as a DataFrame, see `to_dataframe`."""
        return to_dataframe(self)

    def _repr_html_(self) -> str:
        """Table that a notebook shows: of many trials the first and the last."""
        shown = self if len(self) <= 2 * _ENDS else [*self[:_ENDS], *self[-_ENDS:]]
        of = f", the first and the last {_ENDS}" if len(shown) < len(self) else ""
        return f"<p>{len(self):,} trial{'' if len(self) == 1 else 's'}{of}:</p>" + html_table(
            shown, ("state",)
        )


def html_table(trials: Sequence[TrialRecord], first: Sequence[str] = ()) -> str:
    """Number, values and parameters of trials as an HTML table; texts are escaped.

    Args:
        trials: the rows.
        first: columns of `to_dataframe` that come first.
    """
    columns = [*first, *_named(trials, "values"), *_named(trials, "parameters")]
    heads = ["trial", *(column.partition(":")[2] or column for column in columns)]
    lines = ["".join(f"<th>{escape(head)}</th>" for head in heads)]
    for trial in trials:
        row = _row(trial)
        cells = [f"{trial.number:,}", *(_text(row, column) for column in columns)]
        lines.append("".join(f"<td>{escape(cell)}</td>" for cell in cells))
    return "<table>" + "".join(f"<tr>{line}</tr>" for line in lines) + "</table>"


_STATE = ("state", "seconds", "reason", "fidelity", "note")


def _row(trial: TrialRecord) -> dict[str, Any]:
    return {
        **{name: getattr(trial, name) for name in _STATE},
        **{f"value:{name}": value for name, value in trial.values.items()},
        **{f"noise:{name}": deviation for name, deviation in trial.noise.items()},
        **{f"parameter:{name}": value for name, value in trial.parameters.items()},
    }


def _named(trials: Sequence[TrialRecord], kind: str) -> list[str]:
    """The columns of values or parameters, in the order in which trials have them."""
    names = dict.fromkeys(name for trial in trials for name in getattr(trial, kind))
    return [f"{kind.removesuffix('s')}:{name}" for name in names]


def _text(row: dict[str, Any], column: str) -> str:
    value = row.get(column)
    if not isinstance(value, float):
        return "" if value is None else str(value)
    kind, _, name = column.partition(":")
    deviation = row.get(f"noise:{name}") if kind == "value" else None
    return f"{number(value)} ± {number(deviation, 2)}" if deviation else number(value)
