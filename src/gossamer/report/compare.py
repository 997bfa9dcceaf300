"""The side-by-side table as JSON and Markdown, and written to a file by its suffix."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gossamer
from gossamer.errors import UserError
from gossamer.files import refuse_overwrite
from gossamer.report import figures, units
from gossamer.report.html import page, write_page
from gossamer.report.provenance import PROVENANCE
from gossamer.report.sources import named_runs
from gossamer.report.summary import warnings

SUFFIXES = (".html", ".md", ".json")

Runs = Mapping[str, Mapping[str, Any]]


def comparison(runs: Runs) -> dict[str, Any]:
    """Return the table as plain data: each figure with values, texts and gains by run.

    A value is a number, a pair (lowest, highest), or None if the run lacks it. Gains are texts and
    compare with the first run.
    """
    names = list(runs)
    return {
        "gossamer": gossamer.__version__,
        "runs": names,
        "compared_with": names[0] if names else None,
        "figures": [
            {
                "figure": line.label,
                "provenance": line.provenance,
                "meaning": line.meaning,
                "note": line.note,
                "values": {
                    name: list(cell.value) if isinstance(cell.value, tuple) else cell.value
                    for name, cell in zip(names, line.cells, strict=True)
                },
                "texts": {n: cell.text for n, cell in zip(names, line.cells, strict=True)},
                "notes": {n: cell.note for n, cell in zip(names, line.cells, strict=True)},
                "gains": {
                    name: None if gain is None else gain.text
                    for name, gain in zip(names[1:], line.gains, strict=True)
                },
            }
            for line in figures.compare(runs)
        ],
        "provenance": dict(PROVENANCE),
        "warnings": warnings(runs),
    }


def _cell(*parts: str) -> str:
    return " ".join(part for part in parts if part).replace("|", "\\|").replace("\n", " ")


def markdown(runs: Runs) -> str:
    """Return the table as Markdown, with gains next to the figures of runs after the first."""
    names = list(runs)
    heading = ["Figure", "How known", names[0]]
    for name in names[1:]:
        heading += [name, f"Gain, {name}" if len(names) > 2 else "Gain"]
    lines = [
        "| " + " | ".join(_cell(part) for part in heading) + " |",
        "|---|---|" + "---:|" * (len(heading) - 2),
    ]
    for line in figures.compare(runs):
        notes = ", ".join(filter(None, (line.meaning, line.note)))
        cells = [_cell(line.label, f"({notes})" if notes else ""), line.provenance]
        for index, cell in enumerate(line.cells):
            cells.append(_cell(cell.text, f"({cell.note})" if cell.note else ""))
            if index:
                gain = line.gains[index - 1]
                cells.append(units.NOTHING if gain is None else _cell(gain.text))
        lines.append("| " + " | ".join(cells) + " |")
    known = "; ".join(f"*{how}*: {meaning}" for how, meaning in PROVENANCE.items())
    lines += ["", f"{known[0].upper()}{known[1:]}. Gains are over {_cell(names[0])}."]
    for warning in warnings(runs):
        lines += ["", f"> {warning}"]
    return "\n".join(lines) + "\n"


def write_comparison(
    *sources: str | os.PathLike[str], output: str | os.PathLike[str], title: str | None = None
) -> Path:
    """Write the side-by-side table of run directories in the format of ``output``'s suffix.

    Args:
        sources: run directories; the others are compared with the first.
        output: a file ending in ``.html`` (the whole page), ``.md`` or ``.json``.
        title: title of the page.

    Raises:
        UserError: a run is missing or damaged, an unknown suffix, or the file cannot be written.
    """
    target = Path(output)
    suffix = target.suffix.lower()
    if suffix not in SUFFIXES:
        raise UserError(f"-o {target}: the name must end in one of {', '.join(SUFFIXES)}")
    refuse_overwrite(target, (Path(source) / "metrics.json" for source in sources))
    runs = named_runs(sources)
    if suffix == ".html":
        return page(target, runs, title=title)
    text = markdown(runs) if suffix == ".md" else json.dumps(comparison(runs), indent=1) + "\n"
    write_page(target, text)
    return target
