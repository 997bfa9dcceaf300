"""A user's own data: arrays, an ``.npz`` file of them, or any sequence of pairs (x, y)."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gossamer.data.archives import read_npz
from gossamer.data.images import Images, moments
from gossamer.data.task import SPLITS, Domain, Split, Task, warn_of_overlap
from gossamer.errors import UserError, nearest

_SHARE = 0.15  # of the training examples, held out for a split that is missing
_SEED = 15
_UNEQUAL = 50  # times the spread of another split: pixels up to 255 and pixels up to 1
_KEYS = tuple(f"{kind}_{split}" for split in SPLITS for kind in "xy")

# How to make labels of others.
_NUMBERED = "of other labels, 'classes, y = numpy.unique(y, return_inverse=True)' makes these"

Pair = tuple[ArrayLike, ArrayLike]


class Pairs(Protocol):
    """An indexable object of pairs (x, y), such as a ``torch.utils.data.Dataset``."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Any: ...


@dataclass(frozen=True)
class Vectors:
    """The domain of examples that are no images: ``[N, F]``, or of five and more dimensions.

    ``mean`` and ``std`` over the training split are arrays ``[F]``, one value for each feature, or
    scalars for other shapes.
    """

    shape: tuple[int, ...]
    mean: NDArray[np.float32]
    std: NDArray[np.float32]

    @classmethod
    def fitted(cls, train: NDArray[Any]) -> Vectors:
        """Make a domain that standardizes by the training examples; constant features become 0."""
        axes = 0 if train.ndim == 2 else None
        mean = np.asarray(train.mean(axis=axes, dtype=np.float64), np.float32)
        std = np.asarray(train.std(axis=axes, dtype=np.float64), np.float32)
        return cls(train.shape[1:], mean, np.where(std > 0, std, np.float32(1)))

    @property
    def description(self) -> dict[str, Any]:
        return {"kind": "vectors", "mean": self.mean.tolist(), "std": self.std.tolist()}

    def features(self, x: NDArray[Any]) -> NDArray[np.float32]:
        """Return ``(x - mean) / std``, float32."""
        return np.asarray((x.astype(np.float32) - self.mean) / self.std)

    def augment(self, x: NDArray[Any], rng: np.random.Generator) -> NDArray[Any]:
        """Return ``x`` unchanged."""
        return x

    def noise(self, x: NDArray[Any], level: float, rng: np.random.Generator) -> NDArray[Any]:
        """Add Gaussian noise of ``level`` times the deviation of each feature."""
        if level == 0:
            return x
        gauss = rng.standard_normal(x.shape, dtype=np.float32)
        return x.astype(np.float32) + np.float32(level) * self.std * gauss


def arrays(
    train: Pair,
    validation: Pair | None = None,
    test: Pair | None = None,
    classes: Sequence[str] | None = None,
    name: str = "own",
    *,
    standardize: bool = True,
) -> Task:
    """Make a task of arrays: pairs ``(x, y)`` for training, validation and test.

    ``x`` are numbers ``[N, ...]``, ``y`` integers ``[N]`` from 0 to classes - 1. ``[N, H, W]`` and
    ``[N, C, H, W]`` are images: standardized as a whole, noise replaces pixels (`Images.noise`).
    Other shapes are `Vectors`: ``[N, F]`` is standardized feature by feature, noise is Gaussian.
    There is no augmentation. ``classes`` are the classes' names, by default their numbers.
    ``standardize=False`` passes examples unchanged, for a network that was trained so elsewhere.

    If validation or test is missing, 15 % of the training examples of each class are held out for
    it, at least one, with a fixed seed. Warns of images whose channels seem to be last, and of
    examples that are in two splits. Raises UserError for invalid or inconsistent lengths, shapes,
    labels, names, scales or values (NaN, infinity).
    """
    pairs = {"train": train, "validation": validation, "test": test}
    splits = {split: _checked(name, split, *pair) for split, pair in pairs.items() if pair}
    highest = max(int(part.y.max()) for part in splits.values())
    if classes is None and highest >= len(splits["train"]):  # before so many names are made
        raise UserError(
            f"{name}: label {highest}, but only {len(splits['train'])} training examples; labels "
            "must be 0 to classes - 1 without gaps"
        )
    names = tuple(classes) if classes is not None else tuple(map(str, range(highest + 1)))
    if len(set(names)) < len(names):
        raise UserError(f"{name}: the classes are {', '.join(names)}; give each another name")
    for split, part in splits.items():
        if int(part.y.max()) >= len(names):
            raise UserError(
                f"{name}: label {part.y.max()} in {split}, but only {len(names)} classes are named"
            )
        if part.x.shape[1:] != splits["train"].x.shape[1:]:
            raise UserError(
                f"{name}: examples of {split} have shape {part.x.shape[1:]}, those of train "
                f"{splits['train'].x.shape[1:]}: give all the same shape"
            )
    absent = set(range(len(names))) - set(splits["train"].y.tolist())
    if absent:
        raise UserError(
            f"{name}: no training example of class {min(absent)} ({names[min(absent)]}); labels "
            f"must be 0 to {len(names) - 1} without gaps: {_NUMBERED}"
        )
    _check_scales(name, splits)
    if splits["train"].x.ndim in (3, 4):
        _check_channels(name, splits["train"].x.shape[1:])
    missing = [split for split in pairs if split not in splits]
    splits |= _hold_out(name, splits["train"], missing)
    x = splits["train"].x
    domain: Domain
    if not standardize:
        domain = Vectors(x.shape[1:], np.zeros((), np.float32), np.ones((), np.float32))
    else:
        domain = Images.fitted(x) if x.ndim in (3, 4) else Vectors.fitted(x)
    return warn_of_overlap(
        Task(
            name=name,
            classes=names,
            train=splits["train"],
            validation=splits["validation"],
            test=splits["test"],
            domain=domain,
            source="the user's own data",
        )
    )


def from_npz(path: str | os.PathLike[str], *, standardize: bool = True) -> Task:
    """Make a task of the arrays in an ``.npz`` file: x_train, y_train, and maybe x_validation, ...

    An array of strings ``classes`` may name the classes. Object arrays (pickle) are refused.
    ``standardize``: see `arrays`. Raises UserError naming the file and the key.
    """
    path = Path(path)
    try:
        stored = read_npz(path)
    except FileNotFoundError as error:
        raise UserError(f"{path}: no such file") from error
    except (OSError, ValueError) as error:
        raise UserError(
            f"{path}: not an .npz of plain arrays ({error}): write it with numpy.savez"
        ) from error
    for key in stored:
        if key not in (*_KEYS, "classes"):
            raise UserError(f"{path}: unknown key '{key}'; {nearest(key, (*_KEYS, 'classes'))}")
    pairs: dict[str, Pair | None] = {}
    for split in SPLITS:
        have = [key for key in (f"x_{split}", f"y_{split}") if key in stored]
        if len(have) == 1 or (split == "train" and not have):
            absent = {f"x_{split}", f"y_{split}"} - set(have)
            raise UserError(f"{path}: key '{min(absent)}' is missing")
        pairs[split] = (stored[f"x_{split}"], stored[f"y_{split}"]) if have else None
    named = stored.get("classes")
    if named is not None and (named.ndim != 1 or named.dtype.kind != "U"):
        raise UserError(
            f"{path}: classes are {named.dtype} of shape {named.shape}; give a list of texts"
        )
    names = None if named is None else [str(name) for name in named]
    train = pairs["train"]
    assert train is not None
    return of_several_classes(
        arrays(train, pairs["validation"], pairs["test"], names, path.stem, standardize=standardize)
    )


def of_several_classes(task: Task) -> Task:
    """Return ``task``; raise UserError if it has one class, which every network answers rightly."""
    if len(task.classes) < 2:
        raise UserError(f"{task.name}: all labels are 0; give examples of two classes or more")
    return task


def from_dataset(
    train: Pairs,
    validation: Pairs | None = None,
    test: Pairs | None = None,
    classes: Sequence[str] | None = None,
    name: str = "own",
    *,
    standardize: bool = True,
) -> Task:
    """Return a task of objects with ``len`` that are indexed for ``(x, y)``; see `arrays`.

    ``x`` may be anything that NumPy can convert, also torch tensors. All examples are read at once.
    """
    datasets = {"train": train, "validation": validation, "test": test}
    pairs = {split: collect(name, split, data) for split, data in datasets.items() if data}
    if "train" not in pairs:
        raise UserError(f"{name}: no examples in train")
    return arrays(
        pairs["train"],
        pairs.get("validation"),
        pairs.get("test"),
        classes,
        name,
        standardize=standardize,
    )


def collect(name: str, split: str, data: Pairs) -> Pair:
    """Return all examples of ``data`` as two arrays."""
    xs, ys = [], []
    for index in range(len(data)):
        item = data[index]
        if not isinstance(item, (tuple, list)) or len(item) != 2:
            raise UserError(
                f"{name}: example {index} of {split} is not a pair (x, y), but {kind_of(item)}; "
                "give pairs, or two arrays (of lists: numpy.asarray)"
            )
        xs.append(as_array(item[0]))
        ys.append(as_array(item[1]))
    if not xs:
        raise UserError(f"{name}: {split} has no examples")
    check_alike(name, split, xs)
    return np.stack(xs), np.stack(ys)


def kind_of(item: Any) -> str:
    """Return the type of an object, and how many there are in a tuple or a list."""
    count = f" of {len(item)}" if isinstance(item, tuple | list) else ""
    return f"{type(item).__name__}{count}"


def check_alike(name: str, split: str, examples: Sequence[NDArray[Any]]) -> None:
    """Raise UserError for examples of different shapes."""
    shapes = sorted({np.shape(x) for x in examples})
    if len(shapes) > 1:
        raise UserError(
            f"{name}: examples of {split} differ in shape, {shapes[0]} and {shapes[1]}: give "
            "all the same shape"
        )


def as_array(values: Any) -> NDArray[Any]:
    """Return a NumPy array, also of a tensor on a GPU or in bfloat16, which NumPy does not have."""
    if hasattr(values, "detach"):
        values = values.detach().cpu()
        if str(values.dtype) == "torch.bfloat16":
            values = values.float()
    return np.asarray(values)


def _checked(name: str, split: str, x: ArrayLike, y: ArrayLike) -> Split:
    where = f"{name}: {split}"
    values, labels = np.asarray(x), np.asarray(y)
    if values.dtype.kind not in "biuf":
        raise UserError(f"{where} x has type {values.dtype}, not numbers; give one array of them")
    if values.ndim < 2 or labels.ndim != 1:
        raise UserError(
            f"{where} x has shape {values.shape}, y {labels.shape}: they must be [N, ...] and [N]"
            f"{_shape_remedy(values, labels)}"
        )
    if len(values) != len(labels):
        raise UserError(f"{where} has {len(values)} examples but {len(labels)} labels")
    if not values.size:
        raise UserError(f"{where} has no examples")
    fault = None
    if labels.dtype.kind not in "iu":
        fault = f"has type {labels.dtype}"
    elif not 0 <= int(labels.min()) <= int(labels.max()) < 2**63:
        fault = f"holds {labels.min() if labels.min() < 0 else labels.max()}"
    if fault:
        raise UserError(
            f"{where} y {fault}; it must be whole numbers from 0 to the number of classes - 1: "
            f"{_NUMBERED}"
        )
    if values.dtype.kind == "f":
        with np.errstate(over="ignore"):
            computed = values.astype(np.float32, copy=False)
        bad = np.flatnonzero(~np.isfinite(computed).reshape(len(values), -1).all(axis=1))
        if len(bad):
            raise UserError(
                f"{where} x[{bad[0]}] holds NaN or infinity, or a number too large for float32: "
                "replace or remove it"
            )
    return Split(values, labels.astype(np.int64))


def _shape_remedy(x: NDArray[Any], y: NDArray[Any]) -> str:
    """Return the end of a message on arrays of the wrong dimensions: what to do, if it is known."""
    if y.ndim != 2 or len(x) != len(y):
        return "" if y.ndim == 1 else "; x are the examples and y their labels"
    if x.ndim == 1:
        return "; x seems to be the labels and y the examples: exchange them"
    return "; take y[:, 0]" if y.shape[1] == 1 else "; of one-hot labels take y.argmax(1)"


def _check_scales(name: str, splits: dict[str, Split]) -> None:
    """Raise for splits of other units than the training examples: of images, or most features."""
    images = splits["train"].x.ndim in (3, 4)
    spreads = {
        split: np.ravel(moments(part.x)[1] if images else part.x.std(axis=0, dtype=np.float64))
        for split, part in splits.items()
    }
    for split, spread in spreads.items():
        varied = (spread > 0) & (spreads["train"] > 0)
        own, train = spread[varied], spreads["train"][varied]
        if varied.any() and not 1 / _UNEQUAL <= np.median(own / train) <= _UNEQUAL:
            what = "pixels" if images else "the features"
            raise UserError(
                f"{name}: {what} of {split} have a standard deviation of {np.median(own):.3g}, "
                f"those of train {np.median(train):.3g}: bring them to one scale"
            )


def _check_channels(name: str, shape: tuple[int, ...]) -> None:
    """Warn of images whose channels seem to be last."""
    channels, *size = shape
    if len(size) == 2 and size[1] in (1, 3, 4) and min(channels, size[0]) > 4:
        warnings.warn(
            f"{name}: examples of shape {shape} are read as {channels} channels of {size[0]} x "
            f"{size[1]} pixels; if the channels are last, use x.transpose(0, 3, 1, 2)",
            stacklevel=3,
        )


def _hold_out(name: str, train: Split, missing: list[str]) -> dict[str, Split]:
    """Return missing splits, taken from each class of ``train``, and the rest of ``train``."""
    rng = np.random.default_rng(_SEED)
    rows: dict[str, list[NDArray[np.intp]]] = {split: [] for split in [*missing, "train"]}
    for label in np.unique(train.y):
        members = rng.permutation(np.flatnonzero(train.y == label))
        count = max(1, round(_SHARE * len(members)))
        if len(members) <= count * len(missing):
            raise UserError(
                f"{name}: class {label} has {len(members)} training examples, too few to hold out "
                f"{' and '.join(missing)}: give those splits or more examples"
            )
        for number, split in enumerate(missing):
            rows[split].append(members[number * count : (number + 1) * count])
        rows["train"].append(members[len(missing) * count :])
    chosen = {split: np.sort(np.concatenate(parts)) for split, parts in rows.items()}
    return {split: Split(train.x[index], train.y[index]) for split, index in chosen.items()}
