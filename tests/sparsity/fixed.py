"""A sparsifier of fixed random masks, for tests of what is the same for every pattern and rule."""

from gossamer.sparsity import FanIn, Sparsifier, Static, Uniform


def fixed(model, density=None, **options):
    """A `Sparsifier` with equal fan-in in every layer and static masks, unless named otherwise."""
    parts = {"pattern": FanIn(), "allocation": Uniform(), "rule": Static()}
    return Sparsifier(model, density, **{**parts, **options})
