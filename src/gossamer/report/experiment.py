"""Texts of an experiment's figures; values in one text are always of one trial."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import TYPE_CHECKING

from gossamer.errors import one_line
from gossamer.report import units
from gossamer.report.provenance import is_count

if TYPE_CHECKING:  # reports of runs do not need the search's packages
    from gossamer.search import Experiment, LinearConstraint, Snapshot, TrialRecord
    from gossamer.search.metrics import Metric


def snapshot_of(experiment: Experiment | Snapshot, *, importances: bool = False) -> Snapshot:
    """Return a snapshot as it is, or one of an experiment; see `Snapshot.of`."""
    from gossamer.search import Snapshot

    if isinstance(experiment, Snapshot):
        return experiment
    return Snapshot.of(experiment, importances)


def role(metric: Metric) -> str:
    """Write the goal of a metric."""
    return metric.goal if metric.optimized else "constraint"


def limit(metric: Metric) -> str:
    """Write the threshold, such as "≥ 0.965" with a non-breaking space; empty without one."""
    if metric.threshold is None:
        return ""
    sign = "≥" if metric.goal.sign > 0 else "≤"
    return f"{sign}\u00a0{units.plain(metric.threshold, 15)}"


def split(snapshot: Snapshot, metric: Metric) -> str:
    """Write the split that a metric was measured on; empty if it is unknown."""
    return snapshot.label(metric).removesuffix(metric.name).strip()


@lru_cache(maxsize=8)
def _digits(snapshot: Snapshot) -> Mapping[str, int]:
    """Return the number of significant digits that distinguish the values of each metric."""
    needed = {}
    for metric in snapshot.metrics:
        values = [trial.values[metric.name] for trial in snapshot.complete]
        values += [] if metric.threshold is None else [metric.threshold]
        if values and not is_count(metric.name):
            needed[metric.name] = units.digits_between(min(values), max(values))
    return needed


def digits_of(snapshot: Snapshot, name: str) -> int:
    """Return the number of significant digits of a trial's value.

    Of a count, which may be a mean over examples, fractions say nothing.
    """
    return _digits(snapshot).get(name, 3 if is_count(name) else 4)


def missed(metric: Metric, trial: TrialRecord) -> bool:
    """Return whether a trial is on the wrong side of a metric's threshold."""
    return metric.violation(trial.values[metric.name]) > 0


def beside(snapshot: Snapshot) -> list[str]:
    """Return the names of values that trials returned in addition to the metrics."""
    names = dict.fromkeys(name for trial in snapshot.trials for name in trial.values)
    metrics = {metric.name for metric in snapshot.metrics}
    return [name for name in names if name not in metrics]


def all_missed(snapshot: Snapshot, trial: TrialRecord) -> list[str]:
    """Return the names of the metrics whose thresholds a trial misses."""
    return [m.name for m in snapshot.metrics if m.name in trial.values and missed(m, trial)]


def value(snapshot: Snapshot, metric: Metric, trial: TrialRecord) -> str:
    """Write a trial's value of a metric, never rounded to a threshold that it misses."""
    number, most = trial.values[metric.name], digits_of(snapshot, metric.name)
    text = units.plain(number, most)
    while most < 17 and missed(metric, trial) and text == units.plain(metric.threshold, 15):
        most += 1
        text = units.plain(number, most)
    return with_deviation(text, trial.noise.get(metric.name))


def values(snapshot: Snapshot, trial: TrialRecord) -> str:
    """Write all metrics of a trial."""
    return ", ".join(f"{snapshot.label(m)} {value(snapshot, m, trial)}" for m in snapshot.metrics)


def with_deviation(text: str, deviation: float | None) -> str:
    """Add the standard deviation to a value's text, if it is known and not 0."""
    return f"{text} ±\u00a0{units.plain(deviation, 2)}" if deviation else text


def parameter(trial: TrialRecord, name: str) -> str:
    """Write a parameter's value; a dash if the trial does not have it."""
    return units.plain(trial.parameters[name]) if name in trial.parameters else units.NOTHING


def texts(snapshot: Snapshot, trial: TrialRecord) -> dict[str, str]:
    """Return a trial's texts: ``parameter:NAME``, ``value:NAME``, ``expected:NAME``, ``seconds``.

    Values are those of the metrics and all others that the trial returned.
    """
    written = {f"parameter:{name}": units.plain(v) for name, v in trial.parameters.items()}
    for kind, numbers in (("value", trial.values), ("expected", trial.expected)):
        for name, number in numbers.items():
            deviation = trial.noise.get(name) if kind == "value" else None
            text = units.plain(number, digits_of(snapshot, name))
            written[f"{kind}:{name}"] = with_deviation(text, deviation)
    written["seconds"] = units.NOTHING if trial.seconds is None else units.duration(trial.seconds)
    return written


def constraint(constraint: LinearConstraint) -> str:
    """Write a constraint, such as "start − end ≤ 0"."""
    words: list[str] = []
    for name, factor in constraint.coefficients.items():
        size = "" if abs(factor) == 1 else f"{units.plain(abs(factor))} · "
        sign = ("− " if factor < 0 else "+ ") if words else ("−" if factor < 0 else "")
        words.append(f"{sign}{size}{name}")
    return f"{' '.join(words)} ≤\u00a0{units.plain(constraint.at_most)}"


def verdict(snapshot: Snapshot) -> str:
    """Describe the frontier and its first trial: the best in the first metric, or the nearest."""
    front = snapshot.frontier.trials
    if not front:
        return _verdict_of_cheaper(snapshot) or "no trial is complete yet"
    first = front[0]
    named = f"trial {first.number} with {values(snapshot, first)}"
    kind = snapshot.frontier.kind
    if not snapshot.frontier.feasible:
        more = f"; {units.whole(len(front))} are shown" if len(front) > 1 else ""
        return f"no trial is inside the thresholds; the nearest is {named}{more}"
    trials = f"{units.whole(len(front))} trial{'' if len(front) == 1 else 's'}"
    if kind == "region":
        steps = snapshot.coverage_so_far
        covered = f", covering {units.percent(steps[-1][1])} of the space" if steps else ""
        return f"{trials} inside the thresholds{covered}"
    inside = ", inside the thresholds" if snapshot.has_thresholds else ""
    best = next((m.name for m in snapshot.metrics if m.optimized), "")
    if kind == "solutions":
        assert snapshot.solutions is not None
        of = f"{units.whole(len(front))} of {units.whole(snapshot.solutions.count)}"
        return f"{of} distinct solutions{inside}; best in {best} is {named}"
    return f"{trials} on the frontier{inside}; best in {best} is {named}"


def _verdict_of_cheaper(snapshot: Snapshot) -> str:
    """Describe the best trial of the dearest cheaper task; empty if none is complete."""
    from gossamer.search.frontier import best

    ended = [t for t in snapshot.trials if t.state == "complete" and t.fidelity is not None]
    names = {t.fidelity or "" for t in ended}
    dearest = max(sorted(names), key=lambda name: snapshot.costs.get(name, 0.0), default="")
    chosen = best(snapshot.metrics, [t for t in ended if t.fidelity == dearest])
    if chosen is None:
        return ""
    trial, inside = chosen
    rank = "best" if inside or not snapshot.has_thresholds else "nearest to the thresholds"
    return (
        f"no trial of the full task is complete yet; of the cheaper {dearest} the {rank} is "
        f"trial {trial.number} with {values(snapshot, trial)}"
    )


# Number of trials listed of a region, those that differ most.
_LISTED = 12


def listed(snapshot: Snapshot) -> list[TrialRecord]:
    """Return the frontier's trials that tables show, in their order."""
    front = snapshot.frontier
    region = front.kind == "region" and front.feasible
    return front.trials[:_LISTED] if region else front.trials


def title(snapshot: Snapshot) -> str:
    """Return the heading of the trials that `listed` returns."""
    front = snapshot.frontier
    if not front.trials:
        return "Best trials"
    if not front.feasible:
        return "Nearest to the thresholds"
    more = len(front.trials) > _LISTED
    return {
        "frontier": "Best parameters: the frontier",
        "solutions": "Distinct solutions",
        "region": f"Inside the thresholds{', those that differ most' if more else ''}",
    }[front.kind]


def place(snapshot: Snapshot) -> str:
    """Write the text after the frontier's number of trials, such as "on the frontier"."""
    front = snapshot.frontier
    if not front.feasible:
        return "nearest to the thresholds"
    places = {"frontier": "on the frontier", "solutions": "distinct solutions"}
    return places.get(front.kind, "inside the thresholds")


def measure(snapshot: Snapshot) -> tuple[str, str]:
    """Return name and value of the quantity that grows in the search (hypervolume, coverage)."""
    if not any(metric.optimized for metric in snapshot.metrics):
        steps = snapshot.coverage_so_far
        return "of the space covered", units.percent(steps[-1][1]) if steps else units.NOTHING
    steps = snapshot.hypervolume_so_far
    text = units.plain(steps[-1][1]) if steps else units.NOTHING
    return "hypervolume inside the thresholds", text


def counts(snapshot: Snapshot) -> str:
    """Write the numbers of trials by state, and the budget."""
    states = snapshot.states
    listed = [(len(snapshot.complete), "complete")]
    if snapshot.has_thresholds:
        listed.append((len(snapshot.inside), "inside the thresholds"))
    unfinished = states["running"] + states["waiting"]
    for count, what in (
        (snapshot.cheaper, "of a cheaper task"),
        (states["failed"], "failed"),
        (states["stopped"], "stopped early"),
        (unfinished, "unfinished"),
    ):
        listed += [(count, what)] if count else []
    parts = ", ".join(f"{units.whole(count)} {what}" for count, what in listed)
    sign = f"; {snapshot.sign}" if snapshot.sign else ""
    return f"{of_budget(snapshot, len(snapshot.trials), 'trials')}: {parts}{sign}"


def of_budget(snapshot: Snapshot, count: int, what: str = "") -> str:
    """Write a number of trials beside the budget, which counts trials of the full task."""
    number, noun = units.whole(count), what and f" {what}"
    one = noun.replace("trials", "trial") if count == 1 else noun
    if snapshot.budget is None:
        return f"{number}{one}"
    budget = units.whole(snapshot.budget)
    if not snapshot.costs:
        return f"{number} of {budget}{noun}"
    return f"{number}{one}, as much as {snapshot.spent:.1f} of {budget} full ones"


def failures(snapshot: Snapshot) -> list[tuple[str, list[int]]]:
    """Return reasons of failures with the trials' numbers, the most frequent first."""
    reasons: dict[str, list[int]] = {}
    for trial in snapshot.trials:
        if trial.state == "failed":
            reason = one_line(trial.reason or "no reason recorded")
            reasons.setdefault(reason, []).append(trial.number)
    return sorted(reasons.items(), key=lambda item: (-len(item[1]), item[0]))
