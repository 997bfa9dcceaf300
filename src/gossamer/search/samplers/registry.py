"""The samplers that have names."""

from __future__ import annotations

from gossamer.errors import UserError, nearest
from gossamer.search.samplers.gp import GPSampler
from gossamer.search.samplers.optuna import OptunaSampler, gp, tpe
from gossamer.search.samplers.sampler import RandomSampler, Sampler

SAMPLERS: dict[str, Sampler] = {
    "gp": GPSampler(),
    "optuna_gp": OptunaSampler(gp),
    "tpe": OptunaSampler(tpe),
    "random": RandomSampler(),
}


def read_sampler(sampler: object) -> Sampler:
    """The sampler of that name, or the sampler itself.

    Raises:
        UserError: it is neither.
    """
    if isinstance(sampler, Sampler):
        return sampler
    if isinstance(sampler, str):
        if sampler in SAMPLERS:
            return SAMPLERS[sampler]
        raise UserError(f"unknown sampler {sampler!r}; {nearest(sampler, SAMPLERS)}")
    hint = "; pass an instance, with ()" if isinstance(sampler, type) else ""
    raise UserError(f"sampler must be a name or a gossamer.search.Sampler, not {sampler!r}{hint}")


def sampler_name(sampler: Sampler) -> str | None:
    """The name in `SAMPLERS`; None for a sampler that has none."""
    return next((name for name, known in SAMPLERS.items() if known == sampler), None)
