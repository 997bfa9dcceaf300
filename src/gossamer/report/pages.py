"""Parts of pages: templates, and plotly.js without the addresses in it."""

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
    """The templates in the folders ``templates`` of packages, the first one's where names agree.

    Values are escaped; a name without a value is an error.
    """
    return jinja2.Environment(
        loader=jinja2.ChoiceLoader([jinja2.PackageLoader(p, "templates") for p in packages]),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


def asset(*names: str) -> bytes:
    """Scripts or styles that both pages share, one after the other."""
    folder = resources.files(__package__) / "templates"
    return b"\n".join((folder / name).read_bytes() for name in names)


@functools.cache
def plotly_js() -> str:
    """The installed plotly.js; texts in it that are addresses of other hosts are empty."""
    return _ADDRESS.sub(r"\1", get_plotlyjs())
