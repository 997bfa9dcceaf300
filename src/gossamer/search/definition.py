"""Conversion between an experiment's definition and plain data.

TOML files and storages contain the same mapping, so there is one reader, which checks everything
and names the place of an error.
"""

from __future__ import annotations

import json
import os
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, asdict, fields
from pathlib import Path
from typing import Any

from gossamer.errors import UserError, nearest
from gossamer.files import read_text
from gossamer.search.distinct import Solutions
from gossamer.search.execution.commands import Command
from gossamer.search.metrics import AtLeast, AtMost, Maximize, Metric, Minimize
from gossamer.search.samplers.warm_start import WarmStart
from gossamer.search.space.constraints import LinearConstraint
from gossamer.search.space.parameters import Choice, Float, Grid, Int, Parameter, Prior
from gossamer.search.stopping.continuation import Continuation
from gossamer.search.stopping.fidelity import Fidelity
from gossamer.search.stopping.rules import StoppingRule, rules_from_mapping, rules_to_mapping

# A budget without an end, where it is written down.
UNLIMITED = "unlimited"
GOALS: dict[str, type[Metric]] = {
    "maximize": Maximize,
    "minimize": Minimize,
    "at_least": AtLeast,
    "at_most": AtMost,
}
_KINDS: dict[str, type[Float] | type[Int] | type[Grid] | type[Choice]] = {
    "float": Float,
    "int": Int,
    "grid": Grid,
    "choice": Choice,
}
# Keys of plain values, which `Experiment` takes as they are, and all keys of an experiment.
_PLAIN: dict[str, type[Any]] = {
    **dict.fromkeys(("name", "storage", "sampler", "files"), str),
    **dict.fromkeys(("seed", "patience"), int),
    "settings": Mapping,
}
# Keys of tables whose keys are the fields of a class.
_TABLES: dict[str, type[Any]] = {
    "warm_start": WarmStart,
    "solutions": Solutions,
    "continuation": Continuation,
}
_TOP = (
    *(*_PLAIN, *_TABLES, "budget", "minutes", "start", "command", "stopping", "fidelity"),
    *("metrics", "parameters", "constraints"),
)


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read the arguments of `Experiment` from a TOML file.

    Raises:
        UserError: the file is missing or not TOML, has unknown keys or wrong types, or arguments
            that `Experiment` refuses; the message names the file.
    """
    file = Path(path)
    if file.is_dir():
        inside = sorted(str(one) for one in file.glob("*.toml") if one.name != "config.toml")
        named = f", such as {', '.join(inside[:3])}" if inside else ""
        raise UserError(f"{file} is a folder; name an experiment file{named}, or a storage")
    try:
        data = tomllib.loads(read_text(file))
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{file} is not valid TOML: {error}") from None
    try:
        return from_mapping(data)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def from_mapping(data: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Experiment` in `data`, the mapping of TOML files and storages."""
    _table(data, "the experiment", ("name", "metrics", "parameters"), _TOP)
    arguments = {
        key: _typed(data[key], kind, f"'{key}'") for key, kind in _PLAIN.items() if key in data
    }
    if "budget" in data:
        unlimited = data["budget"] == UNLIMITED
        arguments["budget"] = None if unlimited else _typed(data["budget"], int, "'budget'")
    if "minutes" in data:
        arguments["minutes"] = data["minutes"]
    metrics = _typed(data["metrics"], Mapping, "'metrics'")
    arguments["metrics"] = [read_metric(name, entry) for name, entry in metrics.items()]
    parameters = _typed(data["parameters"], Mapping, "'parameters'")
    arguments["parameters"] = [_parameter(name, entry) for name, entry in parameters.items()]
    if "start" in data:
        arguments["start"] = _typed(data["start"], list, "'start'")
    for key, kind in _TABLES.items():
        if key in data:
            arguments[key] = _made(kind, data[key], key)
    if "stopping" in data:
        arguments["stopping"] = rules_from_mapping(_typed(data["stopping"], Mapping, "'stopping'"))
    if "fidelity" in data:
        fidelities = _typed(data["fidelity"], list, "'fidelity'")
        arguments["fidelities"] = [
            _made(Fidelity, entry, f"fidelity {i}", ("settings", "cost"))
            for i, entry in enumerate(fidelities, 1)
        ]
    if "command" in data:
        arguments["command"] = Command.from_entry(data["command"])
    constraints = _typed(data.get("constraints", []), list, "'constraints'")
    arguments["constraints"] = [
        _made(LinearConstraint, entry, f"constraint {i}") for i, entry in enumerate(constraints, 1)
    ]
    return arguments


def to_mapping(
    parameters: Sequence[Parameter],
    metrics: Sequence[Metric],
    constraints: Sequence[LinearConstraint],
    *,
    start: Sequence[Mapping[str, Any]] = (),
    warm_start: WarmStart | None = None,
    stopping: Sequence[StoppingRule] = (),
    fidelities: Sequence[Fidelity] = (),
    continuation: Continuation | None = None,
    command: Command | None = None,
    **others: Any,
) -> dict[str, Any]:
    """Return the mapping that `from_mapping` reads, of JSON types; `others` are further keys.

    Raises:
        UserError: settings that are no JSON types.
    """
    described = {
        **{key: value for key, value in others.items() if value is not None},
        "metrics": {m.name: describe_metric(m) for m in metrics},
        "parameters": {p.name: _describe(p) for p in parameters},
        "constraints": [asdict(constraint) for constraint in constraints],
    }
    if "settings" in others:
        described["settings"] = _plain(others["settings"])
    if start:
        described["start"] = [dict(point) for point in start]
    if warm_start is not None:
        described["warm_start"] = {k: v for k, v in asdict(warm_start).items() if v is not None}
    if stopping:
        described["stopping"] = rules_to_mapping(stopping)
    if fidelities:
        described["fidelity"] = [_plain(asdict(fidelity)) for fidelity in fidelities]
    if continuation is not None:
        described["continuation"] = _plain(asdict(continuation))
    if command is not None:
        described["command"] = command.as_mapping()
    return described


def describe_metric(metric: Metric) -> dict[str, Any]:
    """Return the entry under the metric's name."""
    goal = next(goal for goal, kind in GOALS.items() if type(metric) is kind)
    limit = {} if metric.threshold is None else {"threshold": metric.threshold}
    return {"goal": goal, **limit, **({"log": True} if metric.log else {})}


def in_words(value: object) -> str:
    """Write a value for a message."""
    return "nothing" if value is None else repr(value)


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Convert `settings` to JSON types."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"settings may hold texts, numbers, true/false, lists and tables only: {error}"
        ) from None
    return plain


def _describe(parameter: Parameter) -> dict[str, Any]:
    described: dict[str, Any]
    if isinstance(parameter, Choice):
        described = {"type": "choice", "options": list(parameter.options)}
        if parameter.ordered:
            described["ordered"] = True
    elif isinstance(parameter, Grid):
        described = {"type": "grid", "values": list(parameter.values)}
    else:
        described = {
            "type": "float" if isinstance(parameter, Float) else "int",
            "low": parameter.low,
            "high": parameter.high,
            "log": parameter.log,
        }
        if parameter.step is not None:
            described["step"] = parameter.step
    prior = parameter.prior
    if isinstance(prior, Prior):
        spread = list(prior.spread) if isinstance(prior.spread, tuple) else prior.spread
        described["prior"] = {"center": prior.center, "spread": spread}
    elif prior is not None:
        described["prior"] = list(prior)
    if parameter.default is not None:
        described["default"] = parameter.default
    if parameter.when:
        described["when"] = {name: list(values) for name, values in parameter.when.items()}
    return described


def read_metric(name: str, entry: Any) -> Metric:
    """Make the metric of an entry, see `describe_metric`."""
    where = f"metrics.{name}"
    _table(entry, where, (), ("goal", "threshold", "log"))
    goal = entry.get("goal")
    if not isinstance(goal, str) or goal not in GOALS:
        raise UserError(
            f"{where}: goal must be 'maximize' or 'minimize', or for a metric that only has to "
            f"be acceptable 'at_least' or 'at_most'; not {in_words(goal)}"
        )
    return GOALS[goal](name, entry.get("threshold"), entry.get("log", False))


def _parameter(name: str, entry: Any) -> Parameter:
    where = f"parameters.{name}"
    _typed(entry, dict, where)
    inner = next(
        (k for k, v in entry.items() if isinstance(v, dict) and k not in ("prior", "when")), None
    )
    if "type" not in entry and inner is not None:
        raise UserError(f'{where}: a name with dots must be quoted: [parameters."{name}.{inner}"]')
    kind = entry.get("type")
    if not isinstance(kind, str) or kind not in _KINDS:
        raise UserError(f"{where}: type must be {_one_of(_KINDS)}, not {in_words(kind)}")
    needed, allowed = ([n for n in names if n != "name"] for names in _fields_of(_KINDS[kind]))
    _table(entry, where, needed, ("type", *allowed), f"a {kind} needs it")
    arguments = {key: value for key, value in entry.items() if key != "type"}
    if "prior" in entry and kind in ("float", "int"):
        arguments["prior"] = _made(Prior, entry["prior"], f"{where}.prior")
    return _KINDS[kind](name=name, **arguments)


def _fields_of(kind: type[Any]) -> tuple[list[str], list[str]]:
    """Return the names of a dataclass's fields without a default, and of all."""
    own = fields(kind)
    needed = [f.name for f in own if f.default is MISSING and f.default_factory is MISSING]
    return needed, [f.name for f in own]


def _made(kind: type[Any], entry: Any, where: str, also: Sequence[str] = ()) -> Any:
    """Make an instance of a dataclass from a table of its fields; ``also`` must be there too."""
    needed, allowed = _fields_of(kind)
    return kind(**_table(entry, where, [*needed, *also], allowed))


def _one_of(names: Iterable[str]) -> str:
    *most, last = (f"'{name}'" for name in names)
    return f"{', '.join(most)} or {last}"


def _table(
    entry: Any,
    where: str,
    needed: Sequence[str],
    allowed: Sequence[str],
    remedy: str = "add it",
) -> dict[str, Any]:
    """Check that ``entry`` is a table with all needed and otherwise only allowed keys."""
    _typed(entry, Mapping, where)
    for key in entry:
        if key not in (*needed, *allowed):
            known = dict.fromkeys((*needed, *allowed))
            raise UserError(f"{where}: unknown key '{key}'; {nearest(key, known)}")
    for key in needed:
        if key not in entry:
            raise UserError(f"{where}: '{key}' is missing; {remedy}")
    return dict(entry)


def _typed(value: Any, kind: type[Any], where: str) -> Any:
    if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        words = {str: "a text", int: "a whole number", list: "a list of tables"}
        raise UserError(f"{where} must be {words.get(kind, 'a table')}, not {value!r}")
    return value
