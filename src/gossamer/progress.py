"""The progress bar: on standard error, with the time left."""

from __future__ import annotations

from importlib.util import find_spec

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)


def progress_bar(
    *columns: ProgressColumn,
    show: bool = True,
    transient: bool = False,
    speed_seconds: float = 30.0,
) -> Progress:
    """A bar with steps done, time spent and time left; its tasks are the caller's to add.

    Where standard error is no terminal nothing moves: the last state is written once, of a
    transient bar not even that. A notebook without widgets counts as no terminal; rich would
    warn of the widgets in place of the bar.

    Args:
        columns: more of them, on the right.
        show: False shows nothing.
        transient: leave no trace when done.
        speed_seconds: the time left is reckoned from the speed of so many last seconds.
    """
    console = Console(stderr=True, force_jupyter=None if find_spec("ipywidgets") else False)
    watched = console.is_terminal or console.is_jupyter
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        *columns,
        console=console,
        disable=not show or (transient and not watched),
        transient=transient,
        speed_estimate_period=speed_seconds,
    )
