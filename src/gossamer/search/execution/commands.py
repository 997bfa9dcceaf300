"""Trials evaluated by an external program in any language, which prints JSON."""

from __future__ import annotations

import json
import math
import os
import re
import shlex
import signal
import subprocess
import tempfile
import threading
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import IO, Any

from gossamer.errors import UserError, nearest, one_line
from gossamer.files import make_folder
from gossamer.search.metrics import Numbers, as_numbers
from gossamer.search.trials.trial import Trial
from gossamer.search.validation import is_number, make_plain

_FIELD = re.compile(r"\{([^{}]+)\}")
# What begins as an object does, even in Python's spelling, and not as a line of a log.
_OBJECT = re.compile(r"""\s*\{\s*(["']|$)""")
# What a line may hold beside parameters and settings.
_NUMBER = "trial"
_TAIL = 300
_FILES = "GOSSAMER_FILES"
# Keys that say how far a program is, and are no metrics.
_PROGRESS = ("step", "epoch", "of", "epochs")
# A program that gets SIGTERM has so long to end.
_GRACE_SECONDS = 5.0


class CommandError(Exception):
    """The program failed; the message becomes the trial's reason."""


@dataclass(frozen=True)
class Command:
    """An objective that runs a program for each trial and reads its metrics as a line of JSON.

    Args:
        line: the command line, not passed to a shell. ``{name}`` stands for a parameter's or
            setting's value, ``{trial}`` for the trial's number.
        timeout: seconds after which a trial fails; None for no limit.

    Lines of standard output that are JSON objects are read, all others ignored. The last object
    contains the metrics, each a number or an array of the number and its standard deviation. The
    objects before it are reports during training: "step" or "epoch" is the progress (the number of
    the report if absent), "of" the total. A report with a step is evaluated immediately, so that
    the trial can be stopped early. All parameters are also in the environment variable
    ``GOSSAMER_PARAMETERS``, as JSON. ``GOSSAMER_FILES`` names a folder; files that the program
    writes there are stored with the trial (unset if the experiment cannot store files).

    Raises:
        UserError: the line is empty or cannot be parsed, or the timeout is not positive.
    """

    line: str
    timeout: float | None = None

    def __post_init__(self) -> None:
        make_plain(self)
        if not isinstance(self.line, str) or not self._words():
            raise UserError(f"command must be a command line, not {self.line!r}")
        if self.timeout is not None and not (is_number(self.timeout) and self.timeout > 0):
            raise UserError(
                f"command: timeout must be a number of seconds above 0, not {self.timeout!r}"
            )

    @classmethod
    def from_entry(cls, entry: Any) -> Command:
        """Return the command of an entry: a text, or a table with ``line`` and ``timeout``."""
        if isinstance(entry, str):
            return cls(entry)
        if not isinstance(entry, dict) or "line" not in entry:
            raise UserError(f"command must be a text or a table with 'line', not {entry!r}")
        for key in entry:
            if key not in ("line", "timeout"):
                raise UserError(f"command: unknown key '{key}'; {nearest(key, ['timeout'])}")
        return cls(**entry)

    def as_mapping(self) -> dict[str, Any]:
        """Return the entry that `from_entry` reads."""
        return {
            "line": self.line,
            **({} if self.timeout is None else {"timeout": self.timeout}),
        }

    def check(self, names: Mapping[str, Any]) -> None:
        """Check before a search that every ``{name}`` is a parameter or setting.

        Raises:
            UserError: one is not; the message names it.
        """
        for name in _FIELD.findall(self.line):
            if name not in names and name != _NUMBER:
                raise UserError(
                    f"command: no parameter or setting '{{{name}}}'; "
                    f"{nearest(name, [*names, _NUMBER])}"
                )

    def __call__(self, trial: Trial) -> Numbers:
        """Run the program to its end and return its metrics.

        Raises:
            CommandError: it could not be started, exited with a status other than 0, took longer
                than the timeout, or printed no JSON object or an unreadable one last.
            TrialStopped: a stopping rule stopped the trial; the program has been ended.
        """
        values = {**trial.settings, **trial.parameters, _NUMBER: trial.number}
        self.check(values)
        words = [_FIELD.sub(lambda match: _text(values[match[1]]), word) for word in self._words()]
        environment = {**os.environ, "GOSSAMER_PARAMETERS": json.dumps(trial.parameters)}
        environment.pop(_FILES, None)
        if trial.files is not None:
            environment[_FILES] = str(make_folder(trial.files))
        with tempfile.TemporaryFile() as errors:
            try:
                process = subprocess.Popen(
                    words,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    errors="replace",
                    env=environment,
                    start_new_session=True,
                )
            except OSError as error:
                raise CommandError(
                    f"'{words[0]}' cannot be started: {error.strerror or error}"
                ) from None
            late = threading.Event()
            timer = threading.Timer(self.timeout or 0.0, _expire, (process, late))
            timer.daemon = True
            if self.timeout is not None:
                timer.start()
            assert process.stdout is not None
            try:
                last, unreadable = _follow(process.stdout, trial)
                status = process.wait()
            finally:
                timer.cancel()
                if process.poll() is None:
                    _end(process)
                process.stdout.close()
            if late.is_set():
                raise CommandError(f"took longer than {self.timeout:g} seconds{_tail(errors)}")
            if status != 0:
                ended = f"status {status}" if status > 0 else signal.Signals(-status).name
                raise CommandError(f"'{words[0]}' ended with {ended}{_tail(errors)}")
            if unreadable:  # the metrics may be in it, and those before are older ones
                raise CommandError(
                    f"'{words[0]}' printed an object last that cannot be read as JSON: "
                    f"{unreadable[:_TAIL]}; print the metrics as one whole line of JSON"
                )
            if last is None:
                raise CommandError(f"'{words[0]}' printed no line of JSON{_tail(errors)}")
            return _numbers(last)

    def _words(self) -> list[str]:
        try:
            return shlex.split(self.line)
        except ValueError as error:
            raise UserError(f"command {self.line!r}: {error}") from None


def _follow(output: IO[str], trial: Trial) -> tuple[dict[str, Any] | None, str]:
    """Report each JSON object of the output as it arrives.

    Returns:
        The last one, and a line behind it that was to be one as well: cut off, say.
    """
    last: dict[str, Any] | None = None
    unreadable = ""
    reported = True
    count = 0
    for line in output:
        entry = _json(line)
        if entry is None:
            unreadable = line.strip() if _OBJECT.match(line) else unreadable
            continue
        unreadable = ""
        if last is not None and not reported:  # it was not the last one: a report after all
            count += 1
            _report(trial, count, last)
        last, step = entry, entry.get("step", entry.get("epoch"))
        reported = False
        if isinstance(step, int) and not isinstance(step, bool):
            count, reported = max(count + 1, step), True
            _report(trial, count, entry)
    return last, unreadable


def _report(trial: Trial, step: int, entry: Mapping[str, Any]) -> None:
    of = entry.get("of", entry.get("epochs"))
    planned = of if isinstance(of, int) and not isinstance(of, bool) and of >= step else None
    trial.report(step, _numbers(entry), planned)


def _numbers(entry: Mapping[str, Any]) -> Numbers:
    """Return the numbers of an object, NaN and infinity included: they fail a trial."""
    return {
        name: value
        for name, value in as_numbers(entry).items()
        if name not in _PROGRESS
        and isinstance(value, float | tuple)
        and not isinstance(entry[name], bool)
    }


def _json(line: str) -> dict[str, Any] | None:
    if not line.lstrip().startswith("{"):
        return None
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) else None


def _text(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and math.isfinite(value):
        return repr(value)
    return value if isinstance(value, str) else json.dumps(value)


def _expire(process: subprocess.Popen[str], late: threading.Event) -> None:
    late.set()
    _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    """End the program and all processes that it started."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _tail(errors: IO[bytes]) -> str:
    """Return the end of the program's standard error as one line."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - 4 * _TAIL))
    text = one_line(errors.read().decode(errors="replace"))
    return f": {text[-_TAIL:]}" if text else ""
