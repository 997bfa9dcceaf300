"""Import of a CSV table, one trial a row, from a spreadsheet or another tool."""

from __future__ import annotations

import csv
import hashlib
import io
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from gossamer.errors import UserError
from gossamer.files import read_text
from gossamer.numbers import digits
from gossamer.search.importers.importer import OtherTrial, read_state

# Prefixes of columns in files of gossamer, MLflow, Optuna and W&B.
_PARAMETER = ("parameter:", "params.", "params_", "config.", "config/")
_VALUE = ("value:", "metrics.", "values_", "user_attrs_", "summary.", "summary/")
_NOISE = ("noise:",)
_STATE = ("state", "status")
_SECONDS = ("seconds", "runtime")
_REASON = ("reason",)


class CSVTable:
    """Columns are the names of parameters and metrics, with or without a tool's prefix; "state",
    "seconds" and "reason" may be among them. Comma, semicolon or tab."""

    def recognizes(self, source: str) -> bool:
        return Path(source).suffix.lower() in (".csv", ".tsv")

    def read(self, source: str, study: str | None) -> list[OtherTrial]:
        if study is not None:
            raise UserError(f"{source}: a CSV file holds one study; leave --study out")
        text = read_text(Path(source))
        try:
            rows = csv.reader(io.StringIO(text, newline=""), _dialect(text), strict=True)
            heads = [head.strip() for head in next(rows, [])]
            _check(source, heads)
            seen: defaultdict[str, int] = defaultdict(int)
            trials = []
            for row in rows:
                if any(cell.strip() for cell in row):
                    where = f"{source}: line {rows.line_num}"
                    trials.append(_trial(where, heads, row, seen))
            return trials
        except csv.Error as error:
            raise UserError(f"{source}: line {rows.line_num}: {error}; correct it") from None


def _dialect(text: str) -> type[csv.Dialect]:
    """Return a dialect with the most frequent separator of the first line."""
    head = text.partition("\n")[0]

    class Dialect(csv.excel):
        delimiter = max(",;\t", key=head.count)

    return Dialect


def _check(source: str, heads: list[str]) -> None:
    if not any(heads):
        raise UserError(f"{source}: line 1 names no columns; name parameters and metrics there")
    for prefixes, what in ((_PARAMETER, "parameter"), (_VALUE, "metric")):
        columns: dict[str, str] = {}
        for head in heads:
            name = next((head.removeprefix(p) for p in prefixes if head.startswith(p)), "")
            if name and columns.setdefault(name, head) != head:
                raise UserError(
                    f"{source}: line 1 has '{columns[name]}' and '{head}', both the {what} "
                    f"'{name}'; rename or remove one"
                )
    twice = next((head for head in heads if head and heads.count(head) > 1), None)
    if twice is not None:
        raise UserError(f"{source}: line 1 has the column '{twice}' twice; rename or remove one")


def _trial(where: str, heads: list[str], row: list[str], seen: dict[str, int]) -> OtherTrial:
    if len(row) != len(heads):
        raise UserError(f"{where} has {len(row)} columns, line 1 {len(heads)}; correct it")
    cells = {head: cell.strip() for head, cell in zip(heads, row, strict=True) if head}
    parameters: dict[str, Any] = {}
    values: dict[str, Any] = {}
    noise: dict[str, str] = {}
    known: dict[str, str] = {}
    for head, cell in cells.items():
        if not cell:
            continue
        for prefixes, into in ((_PARAMETER, parameters), (_VALUE, values), (_NOISE, noise)):
            name = next((head.removeprefix(p) for p in prefixes if head.startswith(p)), None)
            if name:
                into[name] = cell
                break
        else:
            known[head.lower()] = cell
            # Parameter or metric: the experiment determines which.
            parameters.setdefault(head, cell)
            values.setdefault(head, cell)
    for name, deviation in noise.items():
        if name in values:
            values[name] = values[name], deviation
    state = next((known[name] for name in _STATE if name in known), None)
    # Equal rows are different trials, but importing the file again adds none.
    content = hashlib.sha256(repr(sorted(cells.items())).encode()).hexdigest()[:16]
    seen[content] += 1
    return OtherTrial(
        where,
        f"csv:{content}:{seen[content]}",
        "complete" if state is None else read_state(state, where),
        parameters,
        values,
        next((known[name] for name in _REASON if name in known), None),
        next((s for name in _SECONDS if (s := _seconds(known.get(name))) is not None), None),
        # Without gossamer's prefixes, the column is a parameter of that name.
        known.get("fidelity") if any(head.startswith(_PARAMETER[0]) for head in heads) else None,
    )


def _seconds(text: str | None) -> float | None:
    try:
        seconds = float(digits(text or ""))
    except ValueError:
        return None
    return seconds if 0 <= seconds < math.inf else None
