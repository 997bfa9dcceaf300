"""Optional packages, and the extra of the installation that brings each."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from gossamer.errors import UserError

# Module -> distribution, where the name is another or a dependency of what an extra names.
_DISTRIBUTIONS = {"markupsafe": "jinja2", "mlflow": "mlflow-skinny"}


class MissingPackage(UserError, ImportError):
    """A package that the base installation lacks; the message names the extra to install."""


@contextmanager
def needed(purpose: str, prefer: str = "") -> Iterator[None]:
    """Wrap imports that fail if an extra is not installed.

    Args:
        purpose: what needs the package; the start of the message.
        prefer: the extra to name if several contain the package.

    Raises:
        MissingPackage: a package of an extra is not installed, or a module of gossamer itself.
    """
    try:
        yield
    except ImportError as error:
        package = (error.name or "").partition(".")[0]
        if package == "gossamer":
            if isinstance(error, ModuleNotFoundError):
                raise MissingPackage(f"{error.name} is missing; install gossamer again") from None
            raise
        extra = extra_of(package, prefer)
        if extra is None:
            raise
        raise MissingPackage(
            f"{purpose} needs the package {package}: pip install 'gossamer[{extra}]'"
        ) from None


def extra_of(package: str, prefer: str = "") -> str | None:
    """Return an extra that contains a package: ``prefer`` if it does, else the first, or None."""
    from importlib import metadata  # slow to load, and seldom needed

    name = _normalized(_DISTRIBUTIONS.get(package, package))
    extras = [
        marker["extra"]
        for line in metadata.requires("gossamer") or []
        if (marker := re.search(r"extra == ['\"](?P<extra>[^'\"]+)", line))
        and _normalized(re.split(r"[^\w.-]", line, maxsplit=1)[0]) == name
    ]
    return prefer if prefer in (*extras, "all") and extras else next(iter(extras), None)


def _normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()
