"""The experiment: parameters, metrics, a budget, and what was tried."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from typing import Any

import numpy as np
from optuna.storages import BaseStorage

from gossamer.errors import UserError, nearest
from gossamer.search import definition
from gossamer.search.budget import Budget
from gossamer.search.commands import Command
from gossamer.search.constraints import LinearConstraint
from gossamer.search.curves import Curve
from gossamer.search.databases import open_storage
from gossamer.search.fidelity import Fidelity, Ladder
from gossamer.search.frontier import Frontier, frontier
from gossamer.search.history import History
from gossamer.search.importances import importances
from gossamer.search.loggers import Logger
from gossamer.search.metrics import Maximize, Metric, Minimize, as_number
from gossamer.search.parameters import Parameter
from gossamer.search.progress import Board
from gossamer.search.reporting import Receive
from gossamer.search.samplers import SAMPLERS, Sampler
from gossamer.search.space import Space
from gossamer.search.starting import Earlier, WarmStart, start_points
from gossamer.search.stopping import Situation, StoppingRule, rules_to_mapping
from gossamer.search.storage import EndedError, Store
from gossamer.search.trials import ENDED, Report, Trial, TrialRecord
from gossamer.search.values import check_name, is_number
from gossamer.search.workers import Crew, Here, Outcome, Train, Workers

# So many trials that all fail are no accident: a run stops and says why.
_HOPELESS = 5


class Experiment:
    """A search for the parameters that meet every metric's threshold.

    Args:
        name: of the experiment; together with `storage` it says where the trials are.
        parameters: what is searched over.
        metrics: what is searched for. With several, the trade-off between them.
        constraints: linear, between parameters; every suggestion keeps them.
        budget: trials in all, failed and stopped ones included; one of a fidelity counts as its
            cost.
        storage: database URL such as ``sqlite:///speech.db``; None keeps trials in memory.
        sampler: a key of `SAMPLERS`: "gp" (few, costly trials), "tpe", "random".
        seed: for everything random; with one worker the same seed gives the same search.
        settings: fixed values to be passed on to training; kept with the experiment.
        start: known good points, tried first; what one leaves open is in its middle.
        warm_start: an earlier experiment to learn from; it is read once, when this one begins.
        stopping: rules that give trials up before their end; see `STOPPING`.
        fidelities: cheaper tasks to try settings on first; see `Fidelity`.
        command: command line that evaluates a trial, where no Python function does.

    An experiment that its storage knows already is gone on with. Its parameters, metrics and
    constraints must be the same then, and its settings' task and model; thresholds, budget,
    sampler and seed may have changed.

    Raises:
        UserError: for input that makes no sense, storage that cannot be used, and a stored
            experiment of the same name that is another one.
    """

    def __init__(
        self,
        name: str,
        parameters: Sequence[Parameter],
        metrics: Sequence[Metric],
        constraints: Sequence[LinearConstraint] = (),
        budget: int = 100,
        storage: str | None = None,
        sampler: str = "gp",
        seed: int = 0,
        settings: Mapping[str, Any] | None = None,
        start: Sequence[Mapping[str, Any]] = (),
        warm_start: WarmStart | None = None,
        stopping: Sequence[StoppingRule] = (),
        fidelities: Sequence[Fidelity] = (),
        command: Command | str | None = None,
    ) -> None:
        check_name(name, "experiment")
        _check_metrics(metrics)
        _check_whole("budget", budget, 1)
        _check_whole("seed", seed, 0)
        if sampler not in SAMPLERS:
            raise UserError(f"unknown sampler '{sampler}'; {nearest(str(sampler), SAMPLERS)}")
        self.name = name
        self.parameters = list(parameters)
        self.metrics = list(metrics)
        self.constraints = list(constraints)
        self.budget = budget
        self.settings = copy.deepcopy(dict(settings or {}))
        self._space = Space(self.parameters, self.constraints)
        points = start_points(self._space, start)
        self._sampler = Sampler(sampler, self._space, self.metrics, seed, points)
        self._lock = threading.RLock()
        self.stopping = list(stopping)
        self.fidelities = list(fidelities)
        self.command = Command(command) if isinstance(command, str) else command
        self._ladder = Ladder(self.metrics, self.fidelities)
        self._loggers: list[Logger] = []
        described = definition.to_mapping(
            self.parameters,
            self.metrics,
            self.constraints,
            name=name,
            budget=budget,
            sampler=sampler,
            seed=seed,
            settings=_plain(self.settings),
            **definition.beginning(start, warm_start),
            stopping=rules_to_mapping(self.stopping),
            fidelity=[
                {
                    "name": f.name,
                    "settings": _plain(f.settings),
                    "cost": f.cost,
                    "reduction": f.reduction,
                }
                for f in self.fidelities
            ],
            **({"command": self.command.as_mapping()} if self.command else {}),
        )
        self._open(open_storage(storage), described)
        self._earlier = None if warm_start is None else self._read_earlier(warm_start)

    def _open(self, storage: BaseStorage, described: dict[str, Any]) -> None:
        optimised = [m for m in self.metrics if m.optimised]
        self._store = Store(storage, self.name, [m.goal for m in optimised])
        stored = self._store.definition
        if stored is None and self._store.frozen():
            # Whoever made the trials wrote the definition before them, maybe this very moment.
            stored = self._store.definition
            if stored is None:
                raise UserError(
                    f"the storage has a study '{self.name}' that gossamer did not make; "
                    "choose another name or another storage"
                )
        if stored is not None:
            differs = definition.difference(stored, described)
            if differs:
                raise UserError(
                    f"experiment '{self.name}' is in the storage with another definition: "
                    f"{differs}; give this one another name or storage, or undo the change"
                )
            # Optuna keeps values in the order in which the metrics were first given.
            described["metrics"] = {m: described["metrics"][m] for m in stored["metrics"]}
        if stored != described:
            self._store.definition = described
        known = {m.name for m in optimised}
        self._stored_order = [name for name in described["metrics"] if name in known]

    def _read_earlier(self, warm_start: WarmStart) -> Earlier:
        """The earlier experiment as it was when it was first read, whatever became of it."""
        asked = dataclasses.asdict(warm_start)
        kept = self._store.earlier
        if kept is None or kept["asked"] != asked:
            before = Experiment.from_storage(warm_start.storage, warm_start.experiment)
            found = Earlier.of(self._space, self.metrics, before._full(), warm_start.best)
            kept = self._store.earlier = {"asked": asked, **found.to_mapping()}
        return Earlier.from_mapping(kept)

    @classmethod
    def from_toml(cls, path: str | os.PathLike[str], **changes: Any) -> Experiment:
        """The experiment that a TOML file describes.

        Args:
            path: the file.
            changes: arguments of `Experiment` to use in place of the file's, such as
                `storage` or `budget`; None leaves the file's.

        Raises:
            UserError: naming the file and the field.
        """
        arguments = definition.read_toml(path)
        arguments.update({key: value for key, value in changes.items() if value is not None})
        try:
            return cls(**arguments)
        except UserError as error:
            raise UserError(f"{path}: {error}") from None

    @classmethod
    def from_storage(cls, url: str, name: str | None = None) -> Experiment:
        """The experiment as it is stored, without the script or file that made it.

        Args:
            url: the database.
            name: of the experiment; not needed when the storage has only one.

        Raises:
            UserError: when there is none, or several and no name.
        """
        studies = {study.study_name for study in open_storage(url, create=False).get_all_studies()}
        if not studies:
            raise UserError(f"storage '{url}' has no experiment yet")
        if name is None and len(studies) > 1:
            raise UserError(
                f"storage '{url}' has several experiments; give one's name: "
                + ", ".join(sorted(studies))
            )
        chosen = studies.pop() if name is None else name
        if name is not None and name not in studies:
            raise UserError(f"storage '{url}' has no experiment '{name}'; {nearest(name, studies)}")
        stored = Store(open_storage(url), chosen, None).definition
        if stored is None:
            raise UserError(f"storage '{url}': gossamer did not make the study '{chosen}'")
        return cls(**definition.from_mapping(stored), storage=url)

    # Trial by trial

    def set_threshold(self, metric: str, threshold: float | None) -> None:
        """Changes what is still acceptable, also while the search runs, here or elsewhere.

        It steers from the next suggestion of any process that works on the experiment, and is
        kept in its storage. A file that is opened again with another threshold wins over it.

        Args:
            metric: its name.
            threshold: the worst acceptable value; None accepts any.

        Raises:
            UserError: for an unknown metric, or a threshold that it cannot have.
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
        """Takes over thresholds that another process has changed."""
        described = self._store.definition
        assert described is not None
        for i, metric in enumerate(self.metrics):
            threshold = described["metrics"][metric.name].get("threshold")
            if threshold != metric.threshold:
                self.metrics[i] = dataclasses.replace(metric, threshold=threshold)

    def ask(self) -> Trial:
        """The next trial: one that was put back, else a promising one of a lower fidelity to be
        repeated at the next, else a new suggestion.

        Asking does not look at the budget. To be called from one process at a time for the
        sampler to see every running trial; several processes are safe all the same. The process
        that asked is taken to run the trial: when it is gone, the trial is put back.
        """
        trial = self._ask(math.inf)
        assert trial is not None
        return trial

    def _ask(self, total: float) -> Trial | None:
        """The next trial that a budget of `total` has room for beside those of all processes;
        None if it has none."""
        budget = Budget(total, self._ladder.cost)
        with self._lock:
            while True:
                self._store.put_back_abandoned()
                self._follow_thresholds()
                waiting = self._store.claim_waiting(budget)
                if waiting is not None:
                    return self._trial(waiting.number, waiting.parameters, waiting.fidelity)
                records = self.trials()
                spent = budget.spent(Counter(r.fidelity for r in records))
                if not budget.holds(spent + budget.cost(self._ladder.lowest)):
                    return None
                point, fidelity, origin = self._next_point(records, total - spent)
                distributions = self._space.distributions()
                used = {name: distributions[name] for name in point}
                number = self._store.create(point, used, budget, fidelity, origin)
                if number is not None:
                    return self._trial(number, point, fidelity)
                # Another process took the room meanwhile: what is left is seen the next time.

    def _next_point(
        self, records: Sequence[TrialRecord], room: float
    ) -> tuple[dict[str, Any], str | None, int | None]:
        """Parameters of a trial to be made, its fidelity, and the trial that it repeats."""
        climbing = self._ladder.next_up(records, room)
        if climbing is None:
            return self._sampler.suggest(self._history(records)), self._ladder.lowest, None
        source, fidelity = climbing
        return dict(source.parameters), fidelity, source.number

    def _trial(self, number: int, point: Mapping[str, Any], fidelity: str | None) -> Trial:
        began = time.time()

        def report(step: int, values: Mapping[str, Any], of: int | None) -> str | None:
            return self._report(trial, began, step, values, of)

        settings = {**self.settings, **self._ladder.settings(fidelity)}
        trial = Trial(number, dict(point), fidelity, settings, report)
        return trial

    def _report(
        self, trial: Trial, began: float, step: int, values: Mapping[str, Any], of: int | None
    ) -> str | None:
        """Keeps a report; why the trial has been stopped because of it, None if it goes on.

        Raises:
            UserError: a report that makes no sense, or of a trial that has ended.
        """
        _check_whole(f"trial {trial.number}: a report's step", step, 0)
        if of is not None:
            _check_whole(f"trial {trial.number}: a report's 'of'", of, max(step, 1))
        if not isinstance(values, Mapping):
            raise UserError(f"report takes a mapping of names to numbers, not {values!r}")
        numbers = {str(name): as_number(value) for name, value in values.items()}
        finite = {k: v for k, v in numbers.items() if v is not None and is_number(v)}
        report = Report(step, of, finite, time.time() - began)
        with self._lock:
            self._store.report(trial.number, report)
            for logger in self._loggers:
                logger.report(self.name, trial, report)
            if not self.stopping or step == of:  # at its end it is not worth stopping any more
                return None
            seen = self._situation(trial)
            reason = next((r for rule in self.stopping if (r := rule.reason(seen))), None)
            if reason is not None:
                self._store.stop(trial.number, reason, seen.expected())
            return reason

    def _situation(self, trial: Trial) -> Situation:
        """Only trials of the same fidelity are like this one, and the thresholds are those of
        the full task."""
        metrics = self.metrics
        if trial.fidelity is not None:
            metrics = [(Maximize if m.goal == "maximize" else Minimize)(m.name) for m in metrics]
        like = [r for r in self.trials() if r.fidelity == trial.fidelity and r.reports]
        curves = {record.number: Curve.of_record(record, metrics) for record in like}
        return Situation(
            metrics,
            curves[trial.number],
            finished=[curves[r.number] for r in like if r.state == "complete"],
            others=[curve for number, curve in curves.items() if number != trial.number],
        )

    def tell(
        self,
        trial: Trial,
        values: Mapping[str, Any] | None = None,
        *,
        error: str | None = None,
        stopped: str | None = None,
    ) -> TrialRecord:
        """Ends a trial.

        Not to be called for one whose `report` raised `TrialStopped`: that one has ended.

        Args:
            trial: as `ask` returned it.
            values: name -> number, of every metric; further numbers are kept beside them, what
                is no finite number is left out. A metric that is no finite number fails the
                trial.
            error: why there are none.
            stopped: why you stopped it yourself.

        Returns:
            The trial as it is now remembered.

        Raises:
            UserError: for a metric that is not among the values (the trial has failed then), a
                trial that has ended already or is unknown, or neither values nor an error.
        """
        if [values, error, stopped].count(None) != 2:
            raise UserError("tell needs either values or an error or why it was stopped")
        if stopped is not None:
            with self._lock:
                expected = self._situation(trial).expected() if self._reports(trial) else {}
            self._store.stop(trial.number, _one_line(stopped), expected)
            return self._record(trial.number)
        if values is None:
            self._store.fail(trial.number, _one_line(str(error)), {})
            return self._record(trial.number)
        if not isinstance(values, Mapping):
            raise UserError(f"values must be a mapping of metrics to numbers, not {values!r}")
        numbers = {str(name): as_number(value) for name, value in values.items()}
        finite = {k: v for k, v in numbers.items() if v is not None and is_number(v)}
        missing = next((m.name for m in self.metrics if m.name not in numbers), None)
        if missing is not None:
            reason = f"train returned no metric '{missing}'; " + (
                nearest(missing, numbers).replace("Known:", "it returned:")
                if numbers
                else "it returned nothing"
            )
            self._store.fail(trial.number, reason, finite)
            raise UserError(reason)
        wrong = next((m.name for m in self.metrics if m.name not in finite), None)
        if wrong is not None:
            self._store.fail(trial.number, f"metric '{wrong}' is {values[wrong]!r}", finite)
            return self._record(trial.number)
        self._store.complete(
            trial.number,
            finite,
            [finite[name] for name in self._stored_order],
            {m.name: m.violation(finite[m.name]) for m in self.metrics if m.threshold is not None},
        )
        return self._record(trial.number)

    def trials(self) -> list[TrialRecord]:
        """Every trial, by number."""
        return self._store.records([m.name for m in self.metrics])

    def frontier(self) -> Frontier:
        """Non-dominated trials inside all thresholds; if there are none, the nearest misses.

        Trials of the full task only.
        """
        self._follow_thresholds()
        return frontier(self.metrics, self._full())

    def importances(self) -> dict[str, dict[str, float]]:
        """Each parameter's share in what moves each metric, most important first.

        The shares of a metric sum to 1; a metric with too few trials, or that never changed,
        has none.
        """
        records = [
            dataclasses.replace(record, parameters=self._space.whole(record.parameters))
            for record in self._full()
        ]
        return importances(self.metrics, self._space.distributions(), records)

    def _full(self) -> list[TrialRecord]:
        return [record for record in self.trials() if record.fidelity is None]

    def _reports(self, trial: Trial) -> bool:
        return bool(self._record(trial.number).reports)

    # All of them

    def run(
        self,
        train: Train | None = None,
        workers: int = 1,
        trials: int | None = None,
        progress: bool = True,
        loggers: Sequence[Logger] = (),
        crew: Callable[[Train, Receive], Crew] | None = None,
    ) -> None:
        """Asks, trains and tells until the budget is used up.

        A trial that raises, dies or returns no finite number fails with its reason, and the
        search goes on. Stopped at any moment, it goes on from there when run again: what had
        ended is kept, what was running is run again with the same parameters.

        Args:
            train: takes a `Trial`, returns a mapping of metric name to number; the experiment's
                command by default.
            workers: 1 trains in this process; more train in as many processes, each with its
                share of the cores.
            trials: at most so many in this run.
            progress: show a progress bar.
            loggers: told of reports and ends, see `LOGGERS`.
            crew: what runs the trials instead of `workers`, such as `on_ray`; called with train
                and with what takes reports.

        Raises:
            UserError: when train never returned one of the metrics, or the first 5 trials all
                failed; the message quotes the reason.
            KeyboardInterrupt: on Ctrl-C, after the running trials were put back.
        """
        _check_whole("workers", workers, 1)
        if trials is not None:
            _check_whole("trials", trials, 1)
        train = train or self.command
        if train is None:
            raise UserError(
                f"experiment '{self.name}' has no command; give run() a function that trains"
            )
        search = _Run(self, trials)
        if crew is not None:
            team = crew(train, search.receive)
        else:
            team = Here(train) if workers == 1 else Workers(train, workers, search.receive)
        records = self.trials()
        ended = sum(self._ladder.cost(r.fidelity) for r in records if r.state in ENDED)
        total = self.budget if trials is None else min(self.budget, ended + trials)
        board = Board(self.name, self.metrics, total, records, self._ladder.cost, show=progress)
        others = self._store.mine()  # asked for by hand, and not this run's to put back
        self._loggers = list(loggers)
        try:
            with board:
                self._go(search, team, board, others, records)
        finally:
            for logger in self._loggers:
                logger.close()
            self._loggers = []

    def _go(
        self,
        search: _Run,
        crew: Crew,
        board: Board,
        others: set[int],
        records: Sequence[TrialRecord],
    ) -> None:
        try:
            search.go(crew, board, any(record.state == "complete" for record in records))
        except BaseException as error:
            try:
                back = sum(map(self._store.put_back, self._store.mine() - others))
            finally:
                crew.close(kill=True)
            if isinstance(error, KeyboardInterrupt):
                raise KeyboardInterrupt(
                    f"stopped after {search.ended} trials; {back} put back, "
                    "to be run again when the search goes on"
                ) from None
            raise
        crew.close(kill=False)

    def _history(self, records: Sequence[TrialRecord] | None = None) -> History:
        """What the sampler sees: each point once, with what is known best of its full cost.

        A stopped trial counts with the values that it was expected to end with.
        """
        records = self.trials() if records is None else records
        climbed = {r.origin for r in records if r.state in ("complete", "stopped")}
        full = self._ladder.at_full_cost(records)
        known: list[tuple[dict[str, Any], list[float]]] = []
        failed, pending = [], []
        for record in records:
            values = record.values if record.state == "complete" else record.expected
            if record.state in ("running", "waiting"):
                pending.append(record.parameters)
            elif record.number in climbed:
                continue
            elif all(m.name in values for m in self.metrics) and record.state != "failed":
                known.append((record.parameters, full(record, values)))
            else:
                failed.append(record.parameters)
        return History(
            points=[point for point, _ in known],
            values=np.array([values for _, values in known]).reshape(-1, len(self.metrics)),
            failed=failed,
            pending=pending,
            earlier=self._earlier,
        )

    def _record(self, number: int) -> TrialRecord:
        return self.trials()[number]


class _Run:
    """The loop of `Experiment.run`, and what it must know when it is interrupted."""

    def __init__(self, experiment: Experiment, trials: int | None) -> None:
        self._experiment = experiment
        self._limit = trials
        self.ended = 0
        self._running: dict[Future[Outcome], Trial] = {}
        self._by_number: dict[int, Trial] = {}

    def receive(
        self, number: int, step: int, values: Mapping[str, Any], of: int | None
    ) -> str | None:
        """A report from elsewhere."""
        reporter = self._by_number[number]._reporter
        assert reporter is not None
        return reporter(step, values, of)

    def go(self, crew: Crew, board: Board, promising: bool) -> None:
        """Until nothing is left to do; `promising`: some trial completed before this run."""
        running = self._running
        while True:
            while len(running) < crew.room and (trial := self._next()) is not None:
                self._by_number[trial.number] = trial
                running[crew.submit(trial)] = trial
            if not running:
                # What a lost process ran has used up its share of the budget until put back.
                if self._experiment._store.put_back_abandoned():
                    continue
                return
            done, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in done:
                trial = running.pop(future)
                record = self._tell(trial, crew.collect(future), promising)
                del self._by_number[trial.number]
                self.ended += 1
                board.add(record)
                for logger in self._experiment._loggers:
                    logger.end(self._experiment.name, record)
                promising = promising or record.state in ("complete", "stopped")
                if not promising and self.ended >= _HOPELESS:
                    raise UserError(
                        f"the first {self.ended} trials all failed, the last with: "
                        f"{record.reason}; mend that and run again"
                    )

    def _next(self) -> Trial | None:
        if self._limit is not None and self.ended + len(self._running) >= self._limit:
            return None
        return self._experiment._ask(self._experiment.budget)

    def _tell(self, trial: Trial, outcome: Outcome, promising: bool) -> TrialRecord:
        experiment = self._experiment
        try:
            if outcome.stopped is not None:
                return experiment.tell(trial, stopped=outcome.stopped)
            if outcome.error is not None:
                return experiment.tell(trial, error=outcome.error)
            return experiment.tell(trial, outcome.values)
        except EndedError:
            # Stopped by a rule; or taken to be lost, and told by another who ran it again.
            return experiment._record(trial.number)
        except UserError:
            # Missing from one trial: that trial's failure. Missing from all: train's mistake.
            record = experiment._record(trial.number)
            if record.state != "failed" or not promising:
                raise
            return record


def _check_metrics(metrics: Sequence[Metric]) -> None:
    if not metrics:
        raise UserError("an experiment needs at least one metric")
    if not any(m.optimised for m in metrics):
        raise UserError("an experiment needs at least one metric to maximize or minimize")
    names = [m.name for m in metrics]
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"metric '{name}' is given twice; rename or remove one")


def _check_whole(what: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise UserError(f"{what} must be a whole number of at least {least}, not {value!r}")


def _plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """`settings` as JSON keeps them."""
    try:
        plain: dict[str, Any] = json.loads(json.dumps(settings, allow_nan=False))
    except (TypeError, ValueError) as error:
        raise UserError(
            f"settings may hold texts, numbers, true/false, lists and tables only: {error}"
        ) from None
    return plain


def _one_line(text: str) -> str:
    return " ".join(text.split())
