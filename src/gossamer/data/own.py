"""A user's data in the usual forms: arrays, data sets, loaders of batches."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

from gossamer.data.arrays import (
    Pair,
    arrays,
    as_array,
    check_alike,
    collect,
    kind_of,
    of_several_classes,
)
from gossamer.data.task import SPLITS, Task
from gossamer.errors import UserError
from gossamer.own_code import load_function, user_code


def from_code(place: str) -> Task:
    """Make a task of the result of a user's function, ``file.py:function``; see `task_of`.

    The file is run. Raises UserError naming the place.
    """
    function = load_function(place, "data")
    with user_code(place, "data"):
        needed = [
            name
            for name, parameter in inspect.signature(function).parameters.items()
            if parameter.default is parameter.empty
            and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        ]
        if needed:
            raise UserError(
                f"data '{place}': the function is called without arguments, but needs "
                f"{', '.join(needed)}: give it defaults"
            )
        return task_of(function(), place)  # a generator or a data set raises while it is read


def task_of(returned: Any, name: str = "own") -> Task:
    """Make a task of classified examples in one of the usual forms.

    ``returned``: a `Task`; one split for training, or up to three (training, validation, test) in a
    tuple, a list or a mapping by those names. A split is a pair of arrays ``(x, y)``, an object
    with ``len`` that is indexed for ``(x, y)``, or an iterable of batches ``(x, y)`` such as
    a ``torch.utils.data.DataLoader``, which is read once. Examples are not standardized; see
    `arrays` for checks and for missing splits. Warns of images of bytes.

    Raises UserError for anything else.
    """
    if isinstance(returned, Task):
        return returned
    splits = _splits(returned, name)
    pairs = {split: _pair(part, name, split) for split, part in splits.items()}
    if "train" not in pairs:
        raise UserError(f"{name}: no examples to train with; give the split 'train'")
    task = of_several_classes(
        arrays(
            pairs["train"], pairs.get("validation"), pairs.get("test"), name=name, standardize=False
        )
    )
    if task.train.x.dtype == np.uint8 and task.train.x.ndim > 2:
        warnings.warn(
            f"{name}: images of bytes are used as they are, from 0 to 255; if the network takes "
            "pixels from 0 to 1, give x / 255",
            stacklevel=2,
        )
    return task


def _splits(returned: Any, name: str) -> dict[str, Any]:
    if isinstance(returned, Mapping):
        for key in returned:
            if key not in SPLITS:
                raise UserError(
                    f"{name}: no split '{key}': use {', '.join(SPLITS)}, each with a pair (x, y)"
                )
        return {key: part for key, part in returned.items() if part is not None}
    if isinstance(returned, tuple | list) and not _is_pair(returned):
        if not 1 <= len(returned) <= 3:
            raise UserError(
                f"{name}: a {kind_of(returned)} is read as so many "
                "splits; give one for each of training, validation and test, each with x and y, "
                "or {'train': examples}"
            )
        return {key: part for key, part in zip(SPLITS, returned, strict=False) if part is not None}
    return {"train": returned}


def _is_pair(part: Any) -> bool:
    """Return whether ``part`` is ``(x, y)``, two arrays and not two splits."""
    return (
        isinstance(part, tuple | list) and len(part) == 2 and all(hasattr(a, "shape") for a in part)
    )


def _pair(part: Any, name: str, split: str) -> Pair:
    if _is_pair(part):
        return as_array(part[0]), as_array(part[1])
    single = isinstance(part, str | Mapping) or hasattr(part, "shape")
    if not single and hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        return collect(name, split, part)
    if single or not hasattr(part, "__iter__"):
        raise UserError(
            f"{name}: {split} is {type(part).__name__}; give a pair of arrays (x, y), a data set "
            "or a loader of batches"
        )
    xs, ys = [], []
    for batch in part:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError(
                f"{name}: a batch of {split} is not a pair (x, y), but {kind_of(batch)}; let the "
                "loader return pairs, by its data set or its collate_fn"
            )
        xs.append(as_array(batch[0]))
        ys.append(as_array(batch[1]))
        if not xs[-1].ndim or not ys[-1].ndim:
            raise UserError(
                f"{name}: {split} yields single examples; yield batches ([B, ...], [B]), or return "
                "an object that is indexed for examples"
            )
    if not xs:
        raise UserError(f"{name}: {split} has no batches")
    check_alike(name, split, [x[0] for x in xs if len(x)])
    return np.concatenate(xs), np.concatenate(ys)
