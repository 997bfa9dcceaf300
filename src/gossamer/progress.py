"""The progress bar on standard error, with the time left."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Iterable
from importlib.util import find_spec

from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.measure import Measurement
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    Task,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.text import Text

# Seconds between the lines that stand for the bar where standard error is no terminal.
_EVERY = 30.0


def _seconds_left(task: Task) -> float | None:
    """Return the seconds until a task with a deadline ends; None without a deadline."""
    deadline: float = task.fields.get("deadline", math.inf)
    if not math.isfinite(deadline):
        return None
    by_speed = math.inf if task.time_remaining is None else task.time_remaining
    return min(by_speed, max(deadline - time.monotonic(), 0.0))


def _clock(seconds: float) -> str:
    """Write a duration, such as ``1:02:03``."""
    minutes, rest = divmod(math.ceil(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}"


class _TimeLeft(TimeRemainingColumn):
    """The time left, to a task's field ``deadline`` at the latest."""

    def render(self, task: Task) -> Text:
        left = None if task.finished else _seconds_left(task)
        return super().render(task) if left is None else Text(_clock(left), "progress.remaining")


class _Bar(Progress):
    """A bar whose tasks may have fields ``below``, a text on the next line, and ``deadline``.

    A long text on the same line would leave no room for the numbers.
    """

    in_one_line = False  # as in a notebook, whose output has no fixed width
    _stopping: threading.Event | None = None
    _logging: threading.Thread | None = None

    @property
    def _moves(self) -> bool:
        return self.console.is_terminal or self.console.is_jupyter

    def start(self) -> None:
        if self._moves:
            super().start()
        elif not self.disable and self._stopping is None:
            self._stopping = threading.Event()
            self._logging = threading.Thread(target=self._log, args=(self._stopping,), daemon=True)
            self._logging.start()

    def stop(self) -> None:
        if self._moves:
            super().stop()
        elif self._stopping is not None and self._logging is not None:
            self._stopping.set()
            self._logging.join()
            self._stopping = self._logging = None
            if not self.live.transient:
                if self.in_one_line:
                    self._print_lines()
                else:
                    self.console.print(Group(*self.get_renderables()))

    def _log(self, stopping: threading.Event) -> None:
        """Print a line regularly, for logs."""
        while not stopping.wait(_EVERY):
            self._print_lines()

    def _print_lines(self) -> None:
        for task in self.tasks:
            self.console.print(_line(task), soft_wrap=True)

    def get_renderables(self) -> Iterable[RenderableType]:
        if self.in_one_line:
            yield from map(_line, self.tasks)
            return
        yield _Fitted(self)
        for task in self.tasks:
            if below := task.fields.get("below"):
                yield Text(f"  {below}")


def _line(task: Task) -> Text:
    """Write a task's state on one line."""
    minutes, seconds = divmod(int(task.elapsed or 0), 60)
    steps = f"{task.completed:,.10g}" + (f"/{task.total:,.10g}" if task.total else "")
    line = f"{task.description} {steps}, {minutes}:{seconds:02d}"
    left = _seconds_left(task)
    line += "" if left is None else f", {_clock(left)} left"
    return Text(f"{line}; {below}" if (below := task.fields.get("below")) else line)


class _Fitted:
    """Display of tasks that drops columns if the terminal is narrow, first the bar, then times."""

    def __init__(self, bar: _Bar) -> None:
        self._bar = bar

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        bar, columns = self._bar, self._bar.columns
        room = options.update_width(10_000)
        try:
            for dropped in ((), (1,), (1, 4, 5), (1, 3, 4, 5)):
                bar.columns = tuple(c for i, c in enumerate(columns) if i not in dropped)
                table = bar.make_tasks_table(bar.tasks)
                if Measurement.get(console, room, table).maximum <= options.max_width:
                    break
        finally:
            bar.columns = columns
        yield table


def progress_bar(
    *,
    show: bool = True,
    transient: bool = False,
    speed_seconds: float = 30.0,
) -> Progress:
    """Return a bar with steps done, time spent and time left, to which the caller adds tasks.

    A task's field ``below`` is written on a separate line. A field ``deadline``, on the monotonic
    clock, limits the time left.

    If standard error is no terminal, a line is written every 30 seconds, and the last state once,
    except for a transient bar. So it is in a notebook without widgets, where rich would warn
    instead of showing the bar. In all notebooks the bar is one line.

    Args:
        show: False shows nothing.
        transient: remove the bar at the end.
        speed_seconds: the time left is computed from the speed in this many last seconds.
    """
    console = Console(stderr=True)
    notebook = console.is_jupyter
    if notebook and not find_spec("ipywidgets"):
        console = Console(stderr=True, force_jupyter=False)
    bar = _Bar(
        TextColumn("{task.description}"),
        BarColumn(bar_width=20),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        _TimeLeft(),
        console=console,
        disable=not show,
        transient=transient,
        speed_estimate_period=speed_seconds,
    )
    bar.in_one_line = notebook
    return bar
