"""Recipes: flat named settings of a network and its training.

A recipe holds the settings of model, sparsity and training under flat names: ``gossamer train``
takes them as ``--set name=value``, an experiment varies them, and a run's ``config.toml`` stores
them.
"""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from gossamer.data import Task, load
from gossamer.deploy.metrics import MeasureSettings
from gossamer.errors import UserError, nearest
from gossamer.models import reference
from gossamer.nn import quantize, to_variational
from gossamer.numbers import positive_share
from gossamer.own_code import user_code
from gossamer.settings import below
from gossamer.sparsity import Scaling, Sparsifier, SparsitySettings, mu_parametrize
from gossamer.training.config import TrainingConfig
from gossamer.training.initial import load_weights, rearranged, with_winners

_WEIGHT = "weight_density"
_ACTIVATION = "activation_density"
_BASE = "base"
_VARIATIONAL = "variational"
_INT8 = "int8"
_INIT = "init"
_TEACHER = "teacher"
_WINNERS = "winners"
_REARRANGE = "rearrange"
_STANDARDIZE = "standardize"
_SWITCHES = (_STANDARDIZE, _REARRANGE, _VARIATIONAL, _INT8)
# Settings of training, sparsity and measuring, which any model has.
_SHARED = (*TrainingConfig.names(), *SparsitySettings.names(), *MeasureSettings.names())
# Arguments of a model's function that come from the task, not from the user.
_TASK_ARGUMENTS = ("classes", "input_shape")


@dataclass(frozen=True)
class Recipe:
    """A task, a model and the settings that differ from their defaults.

    Settings, besides those of :class:`TrainingConfig`, :class:`SparsitySettings` and
    :class:`gossamer.deploy.MeasureSettings` and the keyword arguments of the model's function:

    - ``activation_density.<stage>``: one entry of the model's ``activation_density`` (stages:
      ``conv1``, ``conv2``, ..., ``linear1``).
    - ``weight_density``, ``weight_density.<layer>``: density of all layers, and of one.
    - ``init``: run directory whose weights training starts from.
    - ``teacher``: run directory, or a list of several, whose networks teach (distillation).
    - ``variational``: whether variational dropout prunes the weights.
    - ``int8``: whether layers train and run with 8-bit weights and inputs
      (:func:`gossamer.nn.quantize`).
    - ``winners``, ``winners.<activation>``: share of units that stay active when k-winners replace
      the network's activations (:func:`gossamer.nn.sparsify_activations`), of all and of one.
    - ``rearrange``: whether the units of the ``init`` network are reordered so that pruning to
      blocks removes less (:func:`gossamer.sparsity.rearrange`; no effect with other patterns).
    - ``standardize``: of an ``.npz`` (:func:`gossamer.data.arrays`).
    - ``base``: table of settings that turn the network into the smaller or denser one that the
      training's settings were tuned for (see :meth:`scaling`).

    Raises:
        UserError: an unknown model, or a setting that is unknown or out of range.
    """

    task: str
    model: str
    settings: Mapping[str, Any]

    def __post_init__(self) -> None:
        ref = reference(self.model)
        merged = _merge(ref.settings, self.settings)
        object.__setattr__(self, "settings", merged)
        known = {
            *(*_SHARED, *_model_settings(ref.build), *_SWITCHES),
            *(_WEIGHT, _INIT, _TEACHER, _BASE, _WINNERS),
        }
        for name in merged:
            base, dot, _ = name.partition(".")
            if name not in known and not (dot and base in (_WEIGHT, _ACTIVATION, _WINNERS)):
                shown = known | {f"{_WEIGHT}.<layer>"}
                raise UserError(
                    f"no setting '{name}' for model '{self.model}': {nearest(name, shown)}"
                )
        self._check_density(ref.settings)
        self._base()
        for name in _SWITCHES:
            if not isinstance(self.settings.get(name, True), bool):
                raise UserError(f"{name} must be true or false, not {self.settings[name]!r}")
        self._check_variational()
        self._check_int8()
        self._check_teacher()
        for name, value in self.settings.items():
            if name.partition(".")[0] == _WINNERS:
                positive_share(value, name)
        self.training()
        self.sparsity()
        self.measuring()

    def load(self, root: str | os.PathLike[str] | None = None, **options: Any) -> Task:
        """Load the task; see :func:`gossamer.data.load`."""
        if _STANDARDIZE in self.settings:
            options[_STANDARDIZE] = self.settings[_STANDARDIZE]
        return load(self.task, root, **options)

    def sparsity(self) -> SparsitySettings:
        """Return the settings of the weights' sparsity."""
        return SparsitySettings.of(self.settings)

    def measuring(self) -> MeasureSettings:
        """Return the settings of measuring the exported network."""
        return MeasureSettings.of(self.settings)

    def origin(self) -> dict[str, Any]:
        """Return the model and those settings that neither training, sparsity nor data show, as
        JSON has them.

        Settings of measuring may change while a training is interrupted. A teacher is known by its
        weights, wherever its run is now.
        """
        shown = {_TEACHER, _STANDARDIZE, *_SHARED}
        others = {k: v for k, v in self.settings.items() if k not in shown}
        plain: dict[str, Any] = json.loads(json.dumps({"model": self.model, **others}))
        return plain

    def _check_density(self, usual: Mapping[str, Any]) -> None:
        """Refuse sparsity settings that have no effect because no density is set."""
        names = [n for n in SparsitySettings.names() if self.settings.get(n) != usual.get(n)]
        if names and not any(name.partition(".")[0] == _WEIGHT for name in self.settings):
            raise UserError(
                f"{names[0]}={self.settings[names[0]]} has no effect on a dense network: "
                f"set {_WEIGHT} too, the share of weights that stay non-zero ({_WEIGHT}=0.1)"
            )

    def _check_variational(self) -> None:
        for name in self.settings if self.settings.get(_VARIATIONAL) else ():
            if name.partition(".")[0] in (_WEIGHT, _BASE):
                raise UserError(
                    f"{name} and {_VARIATIONAL} exclude each other: variational dropout finds "
                    f"the density by itself; leave one out"
                )

    def _check_int8(self) -> None:
        for name in (_VARIATIONAL, "accelerate") if self.settings.get(_INT8) else ():
            if self.settings.get(name):
                raise UserError(
                    f"{name} and {_INT8} exclude each other: train with {name} first, then give "
                    f"its run as init and {_INT8} = true"
                )

    def _check_teacher(self) -> None:
        if _TEACHER in self.settings:
            if not self.teachers or not all(isinstance(run, str) for run in self.teachers):
                raise UserError(
                    f"{_TEACHER} must be a run directory, or a list of several, not "
                    f"{self.settings[_TEACHER]!r}"
                )
            return
        for name in ("teacher_share", "teacher_temperature"):
            if name in self.settings:
                raise UserError(f"{name} has no effect without a teacher: set {_TEACHER} too")

    def _base(self) -> Recipe | None:
        """Return the recipe of the network that the settings were tuned for, if ``base`` is set."""
        if _BASE not in self.settings:
            return None
        smaller = self.settings[_BASE]
        if not isinstance(smaller, Mapping) or _BASE in smaller:
            raise UserError(
                f"{_BASE} must be a table of settings of the network that yours were tuned "
                f"for, as in {_BASE} = {{hidden = 64}}, not {smaller!r}"
            )
        for name in smaller:
            if name in TrainingConfig.names():
                raise UserError(
                    f"{_BASE}.{name}: '{name}' belongs to the training, which both share; "
                    f"{_BASE} holds widths and densities only"
                )
        same = {k: v for k, v in self.settings.items() if k != _BASE}
        # Its zeros are counted, so they must be there from the start.
        if any(name.partition(".")[0] == _WEIGHT for name in (*same, *smaller)):
            same["rule"] = "static"
        return Recipe(self.task, self.model, _merge(same, smaller))

    def scaling(
        self, model: nn.Module, classes: int, input_shape: tuple[int, ...]
    ) -> Scaling | None:
        """Apply SµPar to ``model``, a new :meth:`network` of this recipe; None without a ``base``.

        Rescale the weights of ``model`` and return the factors of its learning rates; see
        :func:`gossamer.sparsity.mu_parametrize`.

        Raises:
            UserError: the two networks differ in more than widths and densities.
        """
        smaller = self._base()
        if smaller is None:
            return None
        base, _ = smaller.network(classes, input_shape)
        kind = "sgd" if self.training().optimizer == "sgd" else "adam"
        _, sparsifier = self.network(classes, input_shape)
        density = sparsifier.densities if sparsifier is not None else None
        return mu_parametrize(model, base, density=density, optimizer=kind)

    @property
    def teachers(self) -> list[str]:
        """The run directories whose networks teach."""
        runs = self.settings.get(_TEACHER, [])
        return list(runs) if isinstance(runs, list | tuple) else [runs]

    def training(self) -> TrainingConfig:
        """Return the settings of the training."""
        return TrainingConfig.of(self.settings)

    def network(
        self, classes: int, input_shape: tuple[int, ...], *, initial: bool = True
    ) -> tuple[nn.Module, Sparsifier | None]:
        """Build the network and its sparsifier, which is None if no weight is masked.

        Initialization and masks depend on the seed and, if ``initial`` is true, on the weights of
        the ``init`` run only.

        Raises:
            UserError: settings that do not fit the network, or an ``init`` run that does not.
        """
        ref = reference(self.model)
        allowed = _model_settings(ref.build)
        arguments = {k: v for k, v in self.settings.items() if k in allowed}
        if stages := below(self.settings, _ACTIVATION):
            arguments[_ACTIVATION] = _with_stages(
                arguments.get(_ACTIVATION, allowed.get(_ACTIVATION)), stages
            )
        seed = self.training().seed
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            with user_code(self.model, "model"):
                model = ref.build(**_task_arguments(ref.build, classes, input_shape), **arguments)
        if not isinstance(model, nn.Module):
            raise UserError(
                f"model '{self.model}': gives {type(model).__name__}, not a torch.nn.Module"
            )
        if self.settings.get(_VARIATIONAL, False):
            return to_variational(model), None
        density, by_layer = self.settings.get(_WEIGHT, 1.0), below(self.settings, _WEIGHT)
        init = self.settings.get(_INIT) if initial else None
        if init is not None:
            load_weights(model, str(init))
            rearranged(model, self.settings)
        model = with_winners(model, self.settings, torch.zeros(2, *input_shape))
        sparsifier = self.sparsity().sparsifier(
            model, density, by_layer, rescale=init is None, seed=seed
        )
        if self.settings.get(_INT8, False):
            quantize(model)
        return model, sparsifier if sparsifier.masked else None


def _merge(defaults: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Update ``defaults`` by ``settings``; a density of all layers replaces those of layers."""
    for base in (_WEIGHT, _ACTIVATION):
        if base in settings:
            defaults = {k: v for k, v in defaults.items() if not k.startswith(base + ".")}
    return {**defaults, **settings}


def _model_settings(build: Callable[..., nn.Module]) -> dict[str, Any]:
    """Return names and defaults of the settings that a model's function takes."""
    return {
        name: parameter.default
        for name, parameter in inspect.signature(build).parameters.items()
        if name not in _TASK_ARGUMENTS and parameter.kind is not inspect.Parameter.VAR_KEYWORD
    }


def _task_arguments(
    build: Callable[..., nn.Module], classes: int, input_shape: tuple[int, ...]
) -> dict[str, Any]:
    """Return the arguments of a model's function that the task determines, if it takes them."""
    parameters = inspect.signature(build).parameters.values()
    every = any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)
    names = {p.name for p in parameters}
    arguments = {"classes": classes, "input_shape": input_shape}
    return {name: value for name, value in arguments.items() if every or name in names}


def _with_stages(densities: Any, stages: Mapping[str, float]) -> tuple[float, ...]:
    """Return ``densities`` of (conv1, conv2, ..., linear1) with those in ``stages`` replaced."""
    if not isinstance(densities, Sequence):
        raise UserError(
            f"no setting '{_ACTIVATION}.{next(iter(stages))}': the model takes no "
            f"{_ACTIVATION} for each of its stages"
        )
    values = list(densities)
    names = [f"conv{i + 1}" for i in range(len(values) - 1)] + ["linear1"]
    for name, value in stages.items():
        if name not in names:
            raise UserError(f"no setting '{_ACTIVATION}.{name}': {nearest(name, names)}")
        values[names.index(name)] = value
    return tuple(values)
