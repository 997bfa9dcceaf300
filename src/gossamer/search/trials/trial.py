"""A trial as `train` receives it, and its record."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from gossamer.search.trials.attachments import TrialFile, attach

State = Literal["complete", "failed", "stopped", "running", "waiting"]

# States in which a trial has ended for good.
ENDED: tuple[State, ...] = ("complete", "failed", "stopped")


class TrialStopped(Exception):
    """A stopping rule has stopped the trial after a report; do not `tell` its result."""


@dataclass(frozen=True)
class Report:
    """Report of a trial during its training.

    Attributes:
        step: such as the epoch, counted from 1.
        of: steps it means to make in all; None if it did not say.
        values: the finite numbers reported, by name.
        seconds: since the trial was asked for.
    """

    step: int
    of: int | None
    values: dict[str, float]
    seconds: float


# (step, values, of) -> why the trial is to stop, None to go on.
Reporter = Callable[[int, Mapping[str, Any], int | None], str | None]


@dataclass(frozen=True)
class Trial:
    """A point to evaluate.

    Attributes:
        number: in the experiment.
        parameters: name -> value.
        fidelity: the cheaper task's name; None for the full one.
        settings: the experiment's settings, with those of the fidelity over them.
        files: the folder of its files, which may not be there yet; None where the experiment has
            no place for them.
        origin: the trial whose parameters it has, as in `TrialRecord`.
        continued: round of longer training, as in `TrialRecord`.
    """

    number: int
    parameters: dict[str, Any]
    fidelity: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    _reporter: Reporter | None = field(default=None, compare=False, repr=False)
    files: Path | None = field(default=None, compare=False, repr=False)
    origin: int | None = None
    continued: int = 0

    def report(self, step: int, values: Mapping[str, Any], of: int | None = None) -> None:
        """Report intermediate values; call this during training, such as after every epoch.

        Args:
            step: such as the epoch, from 1; it must increase from report to report.
            values: name -> number, of metrics or anything else; numbers that are not finite are
                left out.
            of: total number of steps; needed if it differs between trials.

        The reports of a trial that was constructed by hand are ignored.

        Raises:
            TrialStopped: a stopping rule has stopped the trial; do not catch it.
        """
        if self._reporter is not None:
            reason = self._reporter(step, values, of)
            if reason is not None:
                raise TrialStopped(reason)

    def attach(self, path: str | os.PathLike[str], name: str | None = None) -> Path:
        """Store a file with the trial, such as an image or a log; also after it has ended.

        Args:
            path: of the file, which is copied.
            name: to store it under, in place of one of the same name; its own by default.

        Returns:
            Where it is stored.

        Raises:
            UserError: it cannot be read or stored.
        """
        return attach(self.files, path, name)

    def reporting(self, reporter: Reporter | None) -> Trial:
        """Return the trial with another receiver of its reports."""
        return replace(self, _reporter=reporter)


@dataclass(frozen=True)
class TrialRecord:
    """Record of a trial.

    Attributes:
        number: counted from 0 in the order in which trials were first asked for.
        state: "complete"; "failed" or "stopped" early (see `reason`); "running"; "waiting" (to
            be run again with the same parameters, because its process was stopped).
        parameters: name -> value.
        values: every finite number that was returned, metrics first.
        reason: one line on why it failed or was stopped, else None.
        seconds: from `ask` to `tell`, None until then.
        fidelity: the cheaper task that it ran, None for the full one.
        reports: its reports during training, in order.
        expected: of a stopped trial, the metrics it would have ended with, as estimated then.
        worker: host and process that asked for it: "host/pid".
        attempts: how often it was started.
        started: when it was last started, in seconds since 1970.
        origin: the trial whose parameters it has: one of a lower fidelity, or the one that it
            trains for longer.
        noise: standard deviation of the values that came with one, or whose trial was repeated
            (see `with_noise_of_repeats`).
        note: free text that somebody wrote about it.
        files: stored with it, by name.
        continued: rounds of longer training of its parameters, see `Continuation`; 0 for a new
            trial. Each round trains for as long as all before it.
    """

    number: int
    state: State
    parameters: dict[str, Any]
    values: dict[str, float]
    reason: str | None
    seconds: float | None
    fidelity: str | None = None
    reports: tuple[Report, ...] = ()
    expected: dict[str, float] = field(default_factory=dict)
    worker: str | None = None
    attempts: int = 1
    started: float | None = None
    origin: int | None = None
    noise: dict[str, float] = field(default_factory=dict)
    note: str | None = None
    files: tuple[TrialFile, ...] = ()
    continued: int = 0

    @property
    def comparable(self) -> bool:
        """Whether it is complete, and of the full task: values of cheaper ones do not compare."""
        return self.state == "complete" and self.fidelity is None
