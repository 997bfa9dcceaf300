"""The progress bar: on standard error, with the time left."""

from __future__ import annotations

from collections.abc import Iterable
from importlib.util import find_spec

from rich.console import Console, RenderableType
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class _Bar(Progress):
    """One whose tasks may have a line below them, their field ``below``.

    Beside the bar a long text would narrow every column until nothing is left of the numbers.
    """

    def get_renderables(self) -> Iterable[RenderableType]:
        yield self.make_tasks_table(self.tasks)
        for task in self.tasks:
            if below := task.fields.get("below"):
                yield Text(f"  {below}")


def progress_bar(
    *,
    show: bool = True,
    transient: bool = False,
    speed_seconds: float = 30.0,
) -> Progress:
    """A bar with steps done, time spent and time left; its tasks are the caller's to add.

    What a task has in its field ``below`` is written on a line of its own.

    Where standard error is no terminal nothing moves: the last state is written once, of a
    transient bar not even that. A notebook without widgets counts as no terminal; rich would
    warn of the widgets in place of the bar.

    Args:
        show: False shows nothing.
        transient: leave no trace when done.
        speed_seconds: the time left is reckoned from the speed of so many last seconds.
    """
    console = Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)
    watched = console.is_terminal or console.is_jupyter
    return _Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=console,
        disable=not show or (transient and not watched),
        transient=transient,
        speed_estimate_period=speed_seconds,
    )
