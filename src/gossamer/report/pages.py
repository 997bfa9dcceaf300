"""Parts of pages: templates, scripts, styles, and plotly.js without addresses of other hosts."""

from __future__ import annotations

import functools
import re
from importlib import resources

import jinja2
from plotly.offline import get_plotlyjs

# Of its maps, and of a service to which its mode bar would upload a plot. Names of XML's
# vocabularies look like addresses, and are needed.
_ADDRESS = re.compile(r"""(["'`])https?://(?!www\.w3\.org/)[^"'`\\\s<>]*""")


def templates_of(*packages: str) -> jinja2.Environment:
    """Return the templates in the folders ``templates`` of packages, of which the first wins.

    Values are escaped; an undefined name is an error.
    """
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(p, "templates") for p in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(*names: str) -> bytes:
    """Return scripts or styles that both pages share, joined."""
    folder = resources.files(__package__) / "templates"
    return b"\n".join((folder / name).read_bytes() for name in names)


@functools.cache
def plotly_js() -> str:
    """Return the installed plotly.js with addresses of other hosts replaced by empty texts."""
    return _ADDRESS.sub(r"\1", get_plotlyjs())
