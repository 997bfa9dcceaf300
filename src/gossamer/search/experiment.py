"""The experiment: parameters, metrics, a budget, and its trials."""

from __future__ import annotations

import copy
import dataclasses
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args

from gossamer.errors import UserError, nearest, one_line
from gossamer.numbers import whole
from gossamer.search import definition, schema
from gossamer.search.added import read_added
from gossamer.search.definition import UNLIMITED
from gossamer.search.distinct import Solutions
from gossamer.search.execution.commands import Command
from gossamer.search.execution.loggers import Logger
from gossamer.search.execution.runner import MakeExecutor, RunSettings, run
from gossamer.search.execution.workers import Train
from gossamer.search.frontier import Frontier, frontier
from gossamer.search.importances import Importance, importances
from gossamer.search.improvement import no_better, stalled, usual_patience
from gossamer.search.metrics import Metric, check_metrics
from gossamer.search.opening import Opening
from gossamer.search.samplers.history import History
from gossamer.search.samplers.registry import read_sampler, sampler_name
from gossamer.search.samplers.sampler import Sampler
from gossamer.search.samplers.suggester import Suggester
from gossamer.search.samplers.warm_start import Earlier, WarmStart, start_points
from gossamer.search.space.constraints import LinearConstraint
from gossamer.search.space.parameters import Parameter
from gossamer.search.space.space import Space
from gossamer.search.stopping.context import LearningCurves
from gossamer.search.stopping.continuation import Continuation
from gossamer.search.stopping.fidelity import Fidelity, Ladder
from gossamer.search.stopping.rules import StoppingRule, check_rules
from gossamer.search.trials.attachments import files_folder, files_of, trial_folder
from gossamer.search.trials.budget import Budget, Room
from gossamer.search.trials.ending import End
from gossamer.search.trials.repeats import with_noise_of_repeats
from gossamer.search.trials.results import Returned, read_report, read_returned
from gossamer.search.trials.storage import Store
from gossamer.search.trials.table import Trials
from gossamer.search.trials.trial import Trial, TrialRecord
from gossamer.search.validation import check_list, check_minutes, check_name, plain

# For so long a suggestion is made again whenever another process made a trial meanwhile; after
# that only if it made the same one.
_FRESH_SECONDS = 30.0
_DELETED = "it was deleted"
_CONSTRAINT = 'LinearConstraint({"start": 1, "end": -1}, at_most=0)'


class Experiment:
    """A search for the parameters that meet every metric's threshold.

    Args:
        name: of the experiment in `storage`.
        parameters: to search over.
        metrics: to optimize, or to keep within thresholds; if several are optimized, their frontier
            is searched.
        constraints: linear, between parameters; every suggestion satisfies them.
        budget: number of trials, stopped ones included; a trial of a fidelity counts as its cost.
            A failed trial counts only until the next run, which replaces it. None: no limit.
        minutes: running time of trials, over all runs, after which `run` starts no more; None for
            no limit.
        storage: database URL such as ``sqlite:///speech.db``; None keeps trials in memory.
        sampler: a `Sampler`, or the name of one in `SAMPLERS`: "gp" (few, costly trials), "tpe",
            "random"; or one of Optuna's, such as "optuna:TPESampler".
        seed: of all random numbers; with one worker, the same seed repeats the same search.
        settings: fixed values that are passed to training; stored with the experiment.
        start: known good points, tried first; missing parameters are at the middle of their range.
        warm_start: an earlier experiment to learn from; it is read once, when this one starts.
        stopping: rules that stop trials early; see `STOPPING`.
        fidelities: cheaper tasks to try parameters on first; see `Fidelity`.
        command: command line that evaluates a trial, in place of a Python function.
        files: folder for files of trials, see `Trial.attach`; with an SQLite storage ``x.db`` it is
            ``x.files`` next to it by default.
        solutions: search for several distinct solutions in place of one best point; requires
            exactly one optimized metric.
        continuation: longer training of promising trials; see `Continuation`.
        patience: number of ended trials without an improvement after which `run` starts no more;
            None for no limit.

    An experiment that is already in its storage is continued. Its parameters, constraints, task and
    model must be the same; thresholds, budget, minutes, sampler and seed may differ, and bounds may
    be wider. A new parameter needs a default: the value that earlier trials had. Metrics may be
    removed, added if all complete trials returned that number, or change between optimized and
    constrained.

    Raises:
        UserError: invalid input, a storage that cannot be used, or a stored experiment of the
            same name with another definition.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[Parameter],
        metrics: Sequence[Metric],
        constraints: Sequence[LinearConstraint] = (),
        budget: int | None = 100,
        storage: str | None = None,
        sampler: str | Sampler = "gp",
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        start: Sequence[Mapping[str, Any]] = (),
        warm_start: WarmStart | None = None,
        stopping: Sequence[StoppingRule] = (),
        fidelities: Sequence[Fidelity] = (),
        command: Command | str | None = None,
        minutes: float | None = None,
        files: str | os.PathLike[str] | None = None,
        solutions: Solutions | None = None,
        patience: int | None = None,
        continuation: Continuation | None = None,
    ) -> None:
        check_name(name, "experiment")
        check_metrics(metrics)
        chosen = read_sampler(sampler)
        if not isinstance(settings, Mapping | None):
            raise UserError(f"settings must map names to values, not {settings!r}")
        self.name = str(name)
        self.parameters = check_list("parameters", parameters, get_args(Parameter), "Float(...)")
        self.metrics = list(metrics)
        self.constraints = check_list("constraints", constraints, LinearConstraint, _CONSTRAINT)
        self.budget = None if budget is None else whole(budget, 1, "budget")
        self.minutes = check_minutes(minutes)
        self.patience = None if patience is None else whole(patience, 1, "patience")
        if not isinstance(solutions, Solutions | None):
            raise UserError(f"solutions must be Solutions(count, distance), not {solutions!r}")
        self.solutions = solutions
        if solutions is not None:
            solutions.check(self.metrics)
        seed = whole(seed, 0, "seed")
        self.settings = plain(settings or {})
        self.space = Space(self.parameters, self.constraints)
        chosen.check(self.space)
        points = start_points(self.space, start)
        self._suggester = Suggester(chosen, self.space, self.metrics, seed, points)
        self._lock = threading.RLock()
        self.stopping = check_list("stopping", stopping, StoppingRule, "Halving()")
        check_rules(self.stopping, self.metrics)
        self.fidelities = check_list("fidelities", fidelities, Fidelity, 'Fidelity("small")')
        self.command = Command(command) if isinstance(command, str) else command
        if not isinstance(self.command, Command | None):
            raise UserError(f"command must be a command line or a Command, not {command!r}")
        if not isinstance(warm_start, WarmStart | None):
            raise UserError(f"warm_start must be a WarmStart, not {warm_start!r}")
        if not isinstance(continuation, Continuation | None):
            raise UserError(f"continuation must be a Continuation, not {continuation!r}")
        self.continuation = continuation
        if continuation is not None:
            continuation.check(self.space.parameters, self.metrics)
        self._ladder = Ladder(self.metrics, self.fidelities)
        self._curves = LearningCurves()
        stated = None if files is None else os.fspath(files)
        described = definition.to_mapping(
            self.parameters,
            self.metrics,
            self.constraints,
            name=name,
            budget=UNLIMITED if self.budget is None else self.budget,
            minutes=self.minutes,
            sampler=sampler_name(chosen),
            seed=seed,
            settings=self.settings,
            start=plain(start),
            warm_start=warm_start,
            stopping=self.stopping,
            fidelities=self.fidelities,
            continuation=continuation,
            command=self.command,
            files=stated,
            solutions=None if solutions is None else dataclasses.asdict(solutions),
            patience=self.patience,
        )
        self.storage = storage
        self.files = files_folder(storage, stated, self.name)
        # By number: a trial, the metrics, and what they make of it. Whoever compares trials from
        # one reading to the next finds the same objects.
        self._judged: dict[int, tuple[TrialRecord, tuple[str, ...], TrialRecord]] = {}
        self._opening = Opening(storage, self.name, described)
        self._earlier = None if warm_start is None else self._read_earlier(warm_start)

    @property
    def _store(self) -> Store:
        """The store for writing."""
        with self._lock:
            return self._opening.writing({m.name: m.goal for m in self.metrics if m.optimized})

    def _read_earlier(self, warm_start: WarmStart) -> Earlier:
        """Return the earlier experiment as it was when it was first read."""
        asked, reading = dataclasses.asdict(warm_start), self._opening.reading
        stored = None if reading is None else reading.earlier
        if stored is not None and stored["asked"] == asked:
            return Earlier.from_mapping(stored)
        before = Experiment.from_storage(warm_start.storage, warm_start.experiment)
        earlier = Earlier.of(self.space, self.metrics, before._full(), warm_start.best)
        self._opening.earlier = {"asked": asked, **earlier.to_mapping()}
        return earlier

    @classmethod
    def from_toml(
        cls,
        path: str | os.PathLike[str],
        *,
        check: Callable[[Experiment], object] | None = None,
        **changes: Any,
    ) -> Experiment:
        """Return the experiment that a TOML file describes.

        Args:
            path: the file.
            check: called with the experiment in memory before its storage is opened, so that a
                file that it refuses can be corrected and run again.
            changes: arguments of `Experiment` that replace the file's, such as `storage` or
                `budget`; None does not replace.

        Raises:
            UserError: the file is invalid; the message names the file and the field.
        """
        arguments = definition.read_toml(path)
        arguments.update({key: value for key, value in changes.items() if value is not None})
        try:
            if check is not None:
                check(cls(**{**arguments, "storage": None, "warm_start": None}))
            return cls(**arguments)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def from_storage(cls, url: str, name: str | None = None) -> Experiment:
        """Return a stored experiment, without the script or file that defined it.

        Args:
            url: of the database.
            name: of the experiment; not needed if the storage has only one.

        Raises:
            UserError: there is no such experiment, or there are several and no name.
        """
        return cls(**schema.stored_arguments(url, name))

    @property
    def split(self) -> str | None:
        """The split that gossamer's training measures metrics on; None for other objectives."""
        trained = self.command is None and {"task", "model"} <= set(self.settings)
        return "validation" if trained else None

    def set_data(self, fingerprints: Mapping[str, str]) -> None:
        """State what data the trials train and validate on, of which metrics can be compared.

        It is stored with the first trial, and compared whenever the experiment is continued.
        `TrainNetwork.for_experiment` states the data of its tasks.

        Args:
            fingerprints: name of the data -> a text that differs if the data do, such as
                :attr:`gossamer.data.Task.fingerprint`.

        Raises:
            UserError: the storage has trials of other data.
        """
        with self._lock:
            if (reading := self._opening.reading) is not None:
                schema.agree_on_data(reading, fingerprints)
            self._opening.data = dict(fingerprints)

    # Trial by trial

    def set_threshold(self, metric: str, threshold: float | None) -> None:
        """Change a metric's threshold, also while the search runs, in this process or another.

        It is stored, and in effect from the next suggestion of any process of the experiment. The
        threshold of a file that is opened later overrides it.

        Args:
            metric: name of the metric.
            threshold: the worst acceptable value; None accepts any.

        Raises:
            UserError: the metric is unknown, or the threshold is invalid.
        """
        with self._lock:
            names = [m.name for m in self.metrics]
            if metric not in names:
                raise UserError(f"no metric '{metric}'; {nearest(metric, names)}")
            at = names.index(metric)
            changed = dataclasses.replace(self.metrics[at], threshold=threshold)
            described = copy.deepcopy(self._store.definition)
            assert described is not None
            described["metrics"][metric] = definition.describe_metric(changed)
            self._store.definition = described
            self.metrics[at] = changed

    def _follow_thresholds(self) -> None:
        """Read thresholds and roles of metrics that another process has changed."""
        reading = self._opening.reading
        if not self._opening.agreed or reading is None:
            return  # those of this object win, and are stored with its first trial
        described = reading.definition
        assert described is not None
        for i, metric in enumerate(self.metrics):
            entry = described["metrics"].get(metric.name)  # None: not a metric any more there
            if entry is not None and entry != definition.describe_metric(metric):
                self.metrics[i] = definition.read_metric(metric.name, entry)

    def ask(self) -> Trial:
        """Return the next trial to run, whatever the budget.

        It is a trial that was put back, else a promising one to train for longer or, of a lower
        fidelity, to repeat at the next, else a new suggestion. Several processes may ask at once;
        the sampler sees every running trial only if one asks at a time. The process that asked must
        run the trial: if it dies, the trial is put back.
        """
        trial = self.ask_within(math.inf)
        assert trial is not None
        return trial

    def ask_within(self, budget: float, seconds: float = math.inf) -> Trial | None:
        """Return the next trial as `ask` does; None if all processes have used up the budget.

        Args:
            budget: number of trials; a trial of a fidelity counts as its cost.
            seconds: time that is left; no trial is continued that would take longer.
        """
        allowed = Budget(budget, self._ladder.cost)
        patience = time.monotonic() + _FRESH_SECONDS
        with self._lock:
            while True:
                self._store.put_back_abandoned()
                self._follow_thresholds()
                waiting = self._store.claim_waiting(allowed)
                if waiting is not None:
                    point = self.space.with_defaults(waiting.parameters)
                    origin, rounds = waiting.origin, waiting.continued
                    what = Trial(-1, point, waiting.fidelity, origin=origin, continued=rounds)
                    return self._started(what, waiting.number)
                everything = self._records(deleted=True)
                deleted = self._store.edits.deleted
                records = with_noise_of_repeats([r for r in everything if r.number not in deleted])
                spent = allowed.spent(Counter(r.fidelity for r in records))
                if not allowed.holds(spent + allowed.cost(self._ladder.lowest)):
                    return None
                trial = self._next(records, budget - spent, seconds)
                distributions = self.space.distributions()
                used = {name: distributions[name] for name in trial.parameters}
                room = Room(allowed, len(everything), strict=time.monotonic() < patience)
                number = self._store.create(trial, used, room)
                if number is not None:
                    return self._started(trial, number)
                # Another process made a trial meanwhile: this one is chosen again.

    def add(
        self,
        parameters: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        stopped: str | None = None,
        seconds: float | None = None,
        source: str | None = None,
    ) -> TrialRecord:
        """Store a trial that was run elsewhere; the sampler learns from it.

        It counts toward the budget as any other trial of the full task.

        Args:
            parameters: name -> value, of every parameter that such a trial has.
            values: name -> number, of every metric, as for `tell`.
            error: why it failed.
            stopped: why it was stopped early.
            seconds: its duration.
            source: its name in the tool that ran it.

        Raises:
            UserError: a value is invalid for its parameter or metric; nothing is stored.
        """
        point, end = read_added(self.space, self.metrics, parameters, values, error, stopped)
        distributions = self.space.distributions()
        used = {name: distributions[name] for name in point}
        with self._lock:
            number = self._store.add(point, used, end, seconds, source)
        return self.record(number)

    def check_add(
        self,
        parameters: Mapping[str, Any],
        values: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        stopped: str | None = None,
    ) -> None:
        """Raise the `UserError` that `add` would raise, without storing anything."""
        read_added(self.space, self.metrics, parameters, values, error, stopped)

    def sources(self) -> frozenset[str]:
        """Return the sources of added trials, deleted ones included."""
        reading = self._opening.reading
        return frozenset() if reading is None else reading.sources()

    def suggest(self, history: History) -> dict[str, Any]:
        """Suggest a point after the trials of `history`, which need not be this experiment's."""
        return self._suggester.suggest(history)

    def _next(self, records: Sequence[TrialRecord], room: float, seconds: float) -> Trial:
        """Return what the next new trial runs, with a number that does not count yet."""
        climbing = self._ladder.next_up(records, room)
        if climbing is not None:
            source, fidelity = climbing
            return Trial(-1, dict(source.parameters), fidelity, origin=source.number)
        if self.continuation is not None:
            longer = self.continuation.next_up(self.metrics, records, seconds)
            if longer is not None:
                point, rounds = dict(longer.parameters), longer.continued + 1
                return Trial(-1, point, origin=longer.number, continued=rounds)
        return Trial(-1, self._suggester.suggest(self._history(records)), self._ladder.lowest)

    def _history(self, records: Sequence[TrialRecord]) -> History:
        """Return the trials in the form that samplers read."""
        return History.of_trials(records, self.metrics, self._ladder, self._earlier, self.solutions)

    def _started(self, what: Trial, number: int) -> Trial:
        """Return the trial that runs `what` under its number, and can report."""
        began = time.time()

        def report(step: int, values: Mapping[str, Any], of: int | None) -> str | None:
            return self._report(trial, began, step, values, of)

        trial = dataclasses.replace(
            what,
            number=number,
            settings={**self.settings, **self._ladder.settings(what.fidelity)},
            files=trial_folder(self.files, number),
            _reporter=report,
        )
        return trial

    def _report(
        self, trial: Trial, began: float, step: int, values: Mapping[str, Any], of: int | None
    ) -> str | None:
        """Store a report; return why the trial was stopped because of it, or None.

        Raises:
            UserError: an invalid report, or of a trial that has ended.
        """
        report = read_report(trial.number, step, values, of, time.time() - began)
        with self._lock:
            self._store.report(trial.number, report)
            if trial.number in self._store.edits.deleted:
                self._store.end(trial.number, End.stopped(_DELETED, {}))
                return _DELETED
            if not self.stopping or step == of:  # at its end it is not worth stopping any more
                return None
            context = self._curves.context(trial, self._records(), self.metrics)
            reason = next((r for rule in self.stopping if (r := rule.reason(context))), None)
            if reason is not None:
                self._store.end(trial.number, End.stopped(reason, context.expected()))
            return reason

    def tell(
        self,
        trial: Trial,
        values: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        stopped: str | None = None,
    ) -> TrialRecord:
        """End a trial.

        Do not call it for a trial whose `report` raised `TrialStopped`: that trial has ended.

        Args:
            trial: a trial that `ask` returned.
            values: name -> number, or (number, standard deviation), of every metric. A metric that
                is not a finite number fails the trial. Other finite numbers are stored too.
            error: why the trial failed.
            stopped: why you stopped it.

        Returns:
            The trial as it is now stored.

        Raises:
            UserError: a metric is missing (the trial has failed then), the trial has ended or is
                unknown or another experiment's, or not exactly one of values, error and stopped
                is passed.
        """
        if not isinstance(trial, Trial):
            raise UserError(f"tell: the first argument must be a trial of ask(), not {trial!r:.60}")
        if [values, error, stopped].count(None) != 2:
            raise UserError("tell needs exactly one of values, error and stopped")
        stored = self._records(deleted=True)[trial.number : trial.number + 1]
        # A parameter that was added since is in the stored one alone.
        if any(
            name not in record.parameters or record.parameters[name] != value
            for record in stored
            for name, value in trial.parameters.items()
        ):
            raise UserError(
                f"trial {trial.number} of experiment '{self.name}' has other parameters; tell the "
                "experiment whose ask() returned this one"
            )
        if stopped is not None:
            self._store.end(trial.number, End.stopped(one_line(stopped), self._expected(trial)))
        elif values is None:
            self._store.end(trial.number, End.failed(one_line(error), {}))
        else:
            self._complete(trial, read_returned(values, self.metrics))
        return self.record(trial.number)

    def _complete(self, trial: Trial, returned: Returned) -> None:
        wrong = returned.mistake or returned.wrong
        end = End.failed(wrong, returned.values) if wrong else End.complete(returned, self.metrics)
        self._store.end(trial.number, end)
        if returned.mistake is not None:
            raise UserError(returned.mistake)

    def _expected(self, trial: Trial) -> dict[str, float]:
        """Return forecasts of the final metrics of a trial that stops now."""
        with self._lock:
            records = self._records()
            if not any(r.number == trial.number and r.reports for r in records):
                return {}
            return self._curves.context(trial, records, self.metrics).expected()

    def trials(self) -> Trials:
        """Return all trials that were not deleted, by number."""
        records = with_noise_of_repeats(self._records())
        stored = self.files is not None and self.files.is_dir()
        return Trials(self._with_files(record) if stored else record for record in records)

    def record(self, number: int) -> TrialRecord:
        """Return a trial in its current state, also a deleted one.

        Raises:
            UserError: there is no trial of this number.
        """
        records = self._records(deleted=True)
        if not 0 <= whole(number, 0, "a trial's number") < len(records):
            raise UserError(
                f"experiment '{self.name}' has no trial {number}; it has {len(records):,}, "
                "counted from 0"
            )
        return self._with_files(records[number])

    def _with_files(self, record: TrialRecord) -> TrialRecord:
        files = files_of(trial_folder(self.files, record.number))
        return dataclasses.replace(record, files=files) if files else record

    def forget(self, *numbers: int) -> None:
        """Delete trials: samplers ignore them, and they do not count toward the budget.

        Their numbers are not used again. A running trial is stopped at its next report, and its
        result is ignored. Running searches take deletions into account.

        Raises:
            UserError: one of the numbers does not exist; nothing is deleted.
        """
        self._store.delete([self.record(number) for number in numbers])

    def correct(self, number: int, values: Mapping[str, Any]) -> TrialRecord:
        """Replace values of a complete trial, also while the search runs.

        Args:
            number: of the trial.
            values: name -> number, or (number, standard deviation), to replace or add.

        Raises:
            UserError: a value is not a finite number or is of a parameter, or the trial is not
                complete; nothing is changed.
        """
        record = self.record(number)
        if record.state != "complete":
            raise UserError(
                f"trial {number} is {record.state}, and only a complete trial's values can be "
                "corrected; add() stores a trial of your own"
            )
        known = {*record.values, *(metric.name for metric in self.metrics)}
        chosen = next((name for name in values if name in {*record.parameters} - known), None)
        if chosen is not None:
            raise UserError(
                f"correct: '{chosen}' is a parameter, and the trial ran with {chosen} = "
                f"{record.parameters[chosen]!r}; delete the trial, or correct a metric"
            )
        read = read_returned(values, [m for m in self.metrics if m.name in values])
        wrong = next((name for name in values if name not in read.values), None)
        if wrong is not None:
            raise UserError(f"correct: '{wrong}' must be a finite number, not {values[wrong]!r}")
        if read.wrong is not None:
            raise UserError(f"correct: {read.wrong}")
        if read.mistake is not None:
            raise UserError(f"correct: {read.mistake.removeprefix('train returned ')}")
        noise = read.noise
        self._store.correct(
            number, {k: (v, noise[k]) if k in noise else v for k, v in read.values.items()}
        )
        return self.record(number)

    def note(self, number: int, text: str) -> None:
        """Set a trial's note; "" removes it.

        Raises:
            UserError: the note is not a text, or there is no such trial.
        """
        if not isinstance(text, str):
            raise UserError(f"a note must be a text, not {text!r}")
        self.record(number)
        self._store.note(number, text.strip())

    def _records(self, *, deleted: bool = False) -> list[TrialRecord]:
        reading = self._opening.reading
        names = [m.name for m in self.metrics]
        records = [] if reading is None else reading.records(names, deleted=deleted)
        return list(map(self._as_now, records))

    def _as_now(self, record: TrialRecord) -> TrialRecord:
        """Return a trial under the current definition: with defaults of parameters that were added
        later, and failed if it did not return a metric that was."""
        known = self._judged.get(record.number)
        names = tuple(metric.name for metric in self.metrics)
        if known is None or known[0] is not record or known[1] != names:
            now = record
            point = self.space.with_defaults(record.parameters)
            if len(point) > len(record.parameters):
                now = dataclasses.replace(now, parameters=point)
            lacking = next((name for name in names if name not in record.values), None)
            if record.state == "complete" and lacking is not None:
                reason = f"it did not return metric '{lacking}', which came later"
                now = dataclasses.replace(now, state="failed", reason=reason)
            known = self._judged[record.number] = record, names, now
        return known[2]

    def frontier(self) -> Frontier:
        """Return the non-dominated trials inside all thresholds; if none is, the nearest misses.

        With `solutions` it is the distinct solutions; without an optimized metric, all trials
        inside. Only trials of the full task are considered.
        """
        self._follow_thresholds()
        return frontier(self.metrics, self._full(), self.space, self.solutions)

    @property
    def usual_patience(self) -> int:
        """Its patience or, if that is None, the trials after which a search has usually stalled."""
        return self.patience or usual_patience(len(self.parameters))

    def stalled(self) -> bool:
        """Whether no trial of the last `usual_patience` was better than all before them."""
        self._follow_thresholds()
        return self._stalled(self._records())

    def _stalled(self, records: Sequence[TrialRecord]) -> bool:
        return stalled(self.metrics, records, self.usual_patience, self.space, self.solutions)

    def sign(self, records: Sequence[TrialRecord]) -> str | None:
        """Return a remark if these trials have stopped improving, else None."""
        return no_better(self.usual_patience) if self._stalled(records) else None

    def importances(self) -> dict[str, dict[str, Importance]]:
        """Return each parameter's share of each metric's variation, most important first.

        Each share has a 90 % interval. The shares of a metric sum to 1. A metric that is constant,
        or has fewer than 10 trials or two per parameter, has none.
        """
        return importances(self.metrics, self.space, self._full())

    def _full(self) -> list[TrialRecord]:
        return [record for record in self.trials() if record.fidelity is None]

    # All of them

    def run(
        self,
        train: Train | None = None,
        workers: int = 1,
        trials: int | None = None,
        progress: bool = True,
        loggers: Sequence[Logger] = (),
        executor: MakeExecutor | None = None,
        threads: int | None = None,
        minutes: float | None = None,
    ) -> None:
        """Run trials until the budget is used up.

        A trial that raises, or returns a metric that is not finite, fails with its reason, and the
        search continues. A trial whose process dies is run again, five times at most. A run that is
        interrupted at any moment continues at the next call: ended trials remain, running ones are
        run again with the same parameters.

        Args:
            train: takes a `Trial`, returns a mapping of metric name to number; by default the
                experiment's command.
            workers: 1 runs trials in this process; more run in as many processes, which share the
                cores.
            trials: limit of this run.
            progress: whether to show a progress bar.
            loggers: receive reports and ends of trials, see `LOGGERS`.
            executor: runs the trials in place of `workers`, such as `on_ray`; called with `train`
                and the function that receives reports.
            threads: of each worker process; by default the cores divided by `workers`.
            minutes: after this time no trial is started; running ones are awaited.

        Raises:
            UserError: no trial returned one of the metrics, or the first 5 trials all failed; the
                message quotes the reason.
            KeyboardInterrupt: on Ctrl-C, after the running trials were put back.
        """
        train = train or self.command
        if train is None:
            raise UserError(
                f"experiment '{self.name}' has no command; give run() a function that trains"
            )
        settings = RunSettings(
            train, workers, trials, progress, loggers, executor, threads, minutes
        )
        run(self, self._store, self._ladder.cost, settings)
