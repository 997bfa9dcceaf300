"""How pages are made of templates."""

from __future__ import annotations

import jinja2


def templates_of(package: str) -> jinja2.Environment:
    """The templates in the folder ``templates`` of a package: what they are given is escaped,
    and what they are not given is an error."""
    return jinja2.Environment(
        loader=jinja2.PackageLoader(package, "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
