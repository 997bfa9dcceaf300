"""Output of the commands: in every encoding, at every width, no number split in the middle."""

from __future__ import annotations

import codecs
import sys
import textwrap
import unicodedata

from rich.console import Console, Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from gossamer.errors import one_line

out = Console()
err = Console(stderr=True)

# In place of signs that an encoding lacks.
_PLAIN = {
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "·": "*",
    "µ": "u",
    "μ": "u",
    "±": "+-",
    "≤": "<=",
    "≥": ">=",
    "≈": "~",
    "→": "->",
    "’": "'",
    "“": '"',
    "”": '"',
}


def _plain(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = (
        _PLAIN.get(sign) or unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
        for sign in text
    )
    return "".join(sign or "?" for sign in plain), error.end


codecs.register_error("gossamer", _plain)


def accept_every_encoding() -> None:
    """Replace characters that the output's encoding lacks by the nearest ones that it has."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="gossamer")


def say(text: str | Text, to: Console = out) -> None:
    """Print a sentence: one line in a pipe, wrapped between words in a terminal."""
    _print(Text(text) if isinstance(text, str) else text, to, wrapped=to.is_terminal)


def show(shown: RenderableType, to: Console = out) -> None:
    """Print tables and texts; a table that is too wide for its numbers is written as a list."""
    if isinstance(shown, Group):
        for part in shown.renderables:
            show(part, to)
    elif isinstance(shown, Text):
        _print(shown, to, wrapped=True)
    elif isinstance(shown, Table):
        # rich would wrap these to the table's width, and split what is longer.
        title, caption = (Text(one_line(text)) for text in (shown.title or "", shown.caption or ""))
        shown.title = shown.caption = None
        if title:
            show(Text(title.plain, "bold"), to)
        fitted = _fitted(shown, to.width)
        if fitted is shown:
            to.print(shown, crop=False)
        else:
            show(fitted, to)
        if caption:
            show(Text(caption.plain, "dim"), to)
    else:
        to.print(shown, crop=False)


def _print(text: Text, to: Console, *, wrapped: bool) -> None:
    lines = text.plain.splitlines()
    if wrapped:  # rich splits a word that is longer than a line
        lines = [part for line in lines for part in _wrapped(line, max(to.width, 1))]
    to.print(Text("\n".join(lines), text.style), soft_wrap=True)


def _wrapped(line: str, width: int) -> list[str]:
    """Return a line's parts, each indented as the line is, also where a word is too long."""
    text = line.lstrip()
    indent = line[: len(line) - len(text)]
    words = textwrap.TextWrapper(
        width,
        initial_indent=indent,
        subsequent_indent=indent,
        break_long_words=False,
        break_on_hyphens=False,
    )
    return words.wrap(text) or [""]


def _fitted(table: Table, width: int) -> RenderableType:
    """``table`` with columns that split no word, or a list where even those are too wide."""
    room = Console(width=10_000)
    overhead = Measurement.get(room, room.options, table).maximum
    least, most = [], []
    for column in table.columns:
        cells = [
            Measurement.get(room, room.options, cell) for cell in (column.header, *column.cells)
        ]
        longest = max(cell.minimum for cell in cells)
        # A column with a limit splits longer words.
        least.append(min(longest, column.max_width or longest))
        wanted = max(max(cell.maximum for cell in cells), column.min_width or 0)
        most.append(min(wanted, column.max_width or wanted))
    overhead -= sum(most)
    spare = width - overhead - sum(least)
    if spare < 0:
        return _listed(table)
    # The columns that need least get what they need first.
    order = sorted(range(len(most)), key=lambda index: most[index] - least[index])
    for place, index in enumerate(order):
        more = min(most[index] - least[index], spare // (len(order) - place))
        table.columns[index].width = least[index] + more
        spare -= more
    return table


def _listed(table: Table) -> Group:
    """Each row as a heading, its first cell, and a line for each further cell."""
    headings = [one_line(column.header) for column in table.columns]
    lines = []
    for row in zip(*(column.cells for column in table.columns), strict=True):
        lines.append(Text(one_line(row[0]), "bold"))
        for heading, cell in zip(headings[1:], row[1:], strict=True):
            if text := one_line(cell):
                lines.append(Text(f"  {heading}: {text}" if heading else f"  {text}"))
    return Group(*lines)
