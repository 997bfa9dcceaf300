"""A user's data in the usual forms: arrays, data sets, loaders of batches."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from gossamer.data.arrays import Pair, arrays, collect, of_several_classes
from gossamer.data.task import Task
from gossamer.errors import UserError
from gossamer.own_code import load_function

_SPLITS = ("train", "validation", "test")


def from_code(place: str) -> Task:
    """Make a task of the result of a user's function, ``file.py:function``; see `task_of`.

    The file is run. Raises UserError naming the place.
    """
    function = load_function(place, "data")
    try:
        returned = function()
    except UserError:
        raise
    except Exception as error:  # a user's function may raise anything
        raise UserError(f"data '{place}': {type(error).__name__}: {error}") from error
    return task_of(returned, place)


def task_of(returned: Any, name: str = "own") -> Task:
    """Make a task of classified examples in one of the usual forms.

    ``returned``: a `Task`; one split for training, or up to three (training, validation, test) in a
    tuple, a list or a mapping by those names. A split is a pair of arrays ``(x, y)``, an object
    with ``len`` that is indexed for ``(x, y)``, or an iterable of batches ``(x, y)`` such as
    a ``torch.utils.data.DataLoader``, which is read once. Examples are not standardized; see
    `arrays` for checks and for missing splits.

    Raises UserError for anything else.
    """
    if isinstance(returned, Task):
        return returned
    splits = _splits(returned, name)
    pairs = {split: _pair(part, name, split) for split, part in splits.items()}
    if "train" not in pairs:
        raise UserError(f"{name}: no examples to train with; give the split 'train'")
    return of_several_classes(
        arrays(
            pairs["train"], pairs.get("validation"), pairs.get("test"), name=name, standardize=False
        )
    )


def _splits(returned: Any, name: str) -> dict[str, Any]:
    if isinstance(returned, Mapping):
        for key in returned:
            if key not in _SPLITS:
                raise UserError(f"{name}: no split '{key}': use {', '.join(_SPLITS)}")
        return {key: part for key, part in returned.items() if part is not None}
    if isinstance(returned, tuple | list) and not _is_pair(returned):
        if not 1 <= len(returned) <= 3:
            raise UserError(
                f"{name}: {len(returned)} splits; give training, validation and test, or fewer"
            )
        return {key: part for key, part in zip(_SPLITS, returned, strict=False) if part is not None}
    return {"train": returned}


def _is_pair(part: Any) -> bool:
    """Return whether ``part`` is ``(x, y)``, two arrays and not two splits."""
    return (
        isinstance(part, tuple | list) and len(part) == 2 and all(hasattr(a, "shape") for a in part)
    )


def _pair(part: Any, name: str, split: str) -> Pair:
    if _is_pair(part):
        return _array(part[0]), _array(part[1])
    if hasattr(part, "__getitem__") and hasattr(part, "__len__"):
        return collect(name, split, part)
    if not hasattr(part, "__iter__"):
        raise UserError(
            f"{name}: {split} is {type(part).__name__}; give a pair of arrays (x, y), a data set "
            "or a loader of batches"
        )
    xs, ys = [], []
    for batch in part:
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            raise UserError(
                f"{name}: a batch of {split} is not a pair (x, y), but {type(batch).__name__}; let "
                "the loader return pairs, by its data set or its collate_fn"
            )
        xs.append(_array(batch[0]))
        ys.append(_array(batch[1]))
    if not xs:
        raise UserError(f"{name}: {split} has no batches")
    return np.concatenate(xs), np.concatenate(ys)


def _array(values: Any) -> Any:
    """Return a numpy array, also of a tensor on a GPU."""
    return np.asarray(values.detach().cpu() if hasattr(values, "detach") else values)
