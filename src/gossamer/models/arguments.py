"""Checks of the reference networks' arguments, by the types that their functions declare."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, ParamSpec, TypedDict, TypeVar, get_args, get_origin, get_type_hints

from gossamer.errors import UserError
from gossamer.numbers import finite, integral, whole

P = ParamSpec("P")
T = TypeVar("T")

_LARGEST = 2**31 - 1
_LARGE = 10_000
_HIGHEST = {"dropout": 1}


class Winners(TypedDict, total=False):
    """Arguments that a network passes to all its k-winners: :class:`gossamer.nn.KWinners`."""

    boost_strength: float
    boost_decay: float
    inference_factor: float


class ImageWinners(Winners, total=False):
    """Arguments that a network passes to all its :class:`gossamer.nn.KWinners2d`."""

    local: bool


_DEFAULTS = {"boost_strength": 1.5, "boost_decay": 0.9, "inference_factor": 1.0, "local": False}


def checked(build: Callable[P, T], **defaults: float) -> Callable[P, T]:
    """Wrap ``build`` so that each call checks and converts arguments by their declared types.

    An ``int`` must be at least 1, a ``float`` finite and not negative. The signature lists the
    fields of ``**winners: Unpack[Winners]`` as arguments; ``defaults`` replaces their defaults.

    Raises:
        UserError: from the call, for an argument that cannot be converted to its type.
    """
    hints, parameters = get_type_hints(build), []
    for name, parameter in inspect.signature(build).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            parameters.append(parameter.replace(annotation=hints[name]))
            continue
        (winners,) = get_args(hints[name])
        for name, kind in get_type_hints(winners).items():
            hints[name], default = kind, {**_DEFAULTS, **defaults}[name]
            parameters.append(
                inspect.Parameter(
                    name, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=kind
                )
            )
    signature = inspect.Signature(parameters)

    @functools.wraps(build)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        for name, value in bound.arguments.items():
            bound.arguments[name] = _convert(name, value, hints[name])
        return build(*bound.args, **bound.kwargs)

    call.__signature__ = signature  # type: ignore[attr-defined]
    return call


def _convert(name: str, value: Any, kind: Any) -> Any:
    if kind is int:
        return _count(name, value)
    if kind is float:
        return _number(name, value)
    if kind in (bool, str):
        if not isinstance(value, kind):
            raise UserError(f"{name} must be of type {kind.__name__}, not {value!r}")
        return value
    kinds = get_args(kind)
    if float in kinds:  # one number, or one for each of several
        return _each(name, value, _number) if _several(value) else _number(name, value)
    values = _each(name, value, _count)
    if get_origin(kind) is tuple and ... not in kinds and len(values) != len(kinds):
        raise UserError(f"{name} must have {len(kinds)} number(s), not {value!r}")
    if not values:
        raise UserError(f"{name} is empty; give at least one number")
    return values


def _several(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _each(name: str, value: Any, convert: Callable[[str, Any], Any]) -> tuple[Any, ...]:
    if not _several(value):
        raise UserError(f"{name} must be a list of numbers, not {value!r}")
    return tuple(convert(name, item) for item in value)


def _count(name: str, value: Any) -> int:
    number = integral(value)
    if number is None:
        raise UserError(f"{name} must be a whole number, not {value!r}")
    return whole(number, 1, name, _LARGEST)


def _number(name: str, value: Any) -> float:
    return finite(value, name, 0, _HIGHEST.get(name, _LARGE))
