"""Hooks of MkDocs: the page of the commands, and links that lead out of ``docs/``."""

from __future__ import annotations

import re
from typing import Any

# [text](../experiments/speech.toml), from a page; what is not in the site is named, not linked.
_OUTSIDE = re.compile(r"\[([^\]]+)\]\(((?:\.\./)+)([^)]+)\)")

# What is left of :class:`Name` in a docstring when it is read as Markdown.
_ROLE = re.compile(r":(?:attr|class|exc|func|meth|mod):(?=<code)")


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    depth = page.file.src_uri.count("/")

    def named(link: re.Match[str]) -> str:
        return link[1] if link[2].count("..") > depth else link[0]

    markdown = _OUTSIDE.sub(named, markdown)
    if page.file.src_uri == "reference/commands.md":
        markdown += commands()
    return markdown


def on_page_content(html: str, **_: Any) -> str:
    return _ROLE.sub("", html)


def commands() -> str:
    """Every command with its arguments and options, as its ``--help`` has them."""
    import typer

    from gossamer.cli import app

    return _commands(typer.main.get_command(app), "")


def _commands(group: Any, before: str) -> str:
    return "".join(
        _commands(command, f"{before}{name} ")
        if hasattr(command, "commands")
        else _command(command, before + name)
        for name, command in sorted(group.commands.items())
    )


def _command(command: Any, name: str) -> str:
    rows = [_row(parameter) for parameter in command.params if parameter.name != "help"]
    table = "| | | default |\n|---|---|---|\n" + "".join(rows) if rows else ""
    return f"\n## gossamer {name}\n\n{command.help or ''}\n\n{table}\n"


def _row(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        names = f"`{(parameter.metavar or parameter.name).upper()}`"
    else:
        names = ", ".join(f"`{name}`" for name in [*parameter.opts, *parameter.secondary_opts])
    default = parameter.default
    shown = "" if default in (None, False, ()) or callable(default) else f"`{default}`"
    text = (getattr(parameter, "help", None) or "").replace("|", "\\|")
    if parameter.required:
        shown = "required"
    return f"| {names} | {text} | {shown} |\n"
