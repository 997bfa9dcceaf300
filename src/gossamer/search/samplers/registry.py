"""Named samplers."""

from __future__ import annotations

from gossamer.errors import UserError, nearest
from gossamer.search.samplers.gp import GPSampler
from gossamer.search.samplers.optuna import NAMED, REFUSED, Named, OptunaSampler, gp, tpe
from gossamer.search.samplers.sampler import RandomSampler, Sampler

# Prefix of the names of Optuna's samplers.
_OPTUNA = "optuna:"
SAMPLERS: dict[str, Sampler] = {
    "gp": GPSampler(),
    "optuna_gp": OptunaSampler(gp),
    "tpe": OptunaSampler(tpe),
    "random": RandomSampler(),
}


def read_sampler(sampler: object) -> Sampler:
    """Return the sampler named by a text, or the sampler itself.

    Raises:
        UserError: neither a name nor a sampler, or a sampler of Optuna that cannot be used.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, str):
        if sampler in SAMPLERS:
            return SAMPLERS[sampler]
        if sampler.startswith(_OPTUNA):
            return _optunas(sampler.removeprefix(_OPTUNA))
        raise UserError(f"unknown sampler {sampler!r}; {nearest(sampler, SAMPLERS)}")
    hint = "; pass an instance, with ()" if isinstance(sampler, type) else ""
    raise UserError(f"sampler must be a name or a gossamer.search.Sampler, not {sampler!r}{hint}")


def _optunas(name: str) -> Sampler:
    """Return Optuna's sampler of that name.

    Raises:
        UserError: there is none, or it cannot be used here.
    """
    if name in NAMED:
        return NAMED[name](Named(name))
    if name in REFUSED:
        raise UserError(f"sampler '{_OPTUNA}{name}' cannot be used: {REFUSED[name]}")
    raise UserError(f"unknown sampler '{_OPTUNA}{name}'; {nearest(name, NAMED)}")


def sampler_name(sampler: Sampler) -> str | None:
    """Return the name by which `read_sampler` makes the sampler; None if it has none."""
    if isinstance(sampler, OptunaSampler) and isinstance(sampler.make, Named):
        return f"{_OPTUNA}{sampler.make.name}"
    return next((name for name, known in SAMPLERS.items() if known == sampler), None)
