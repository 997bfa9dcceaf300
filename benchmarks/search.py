"""Samplers side by side: trials to the first one inside, hypervolume, and CPU time.

    python benchmarks/search.py run RESULTS.jsonl --budget-minutes 60
    python benchmarks/search.py table RESULTS.jsonl --out docs/results/samplers

`run` works through the cells that the file lacks, the cheapest and most telling first, and appends
one line for each; stopped at any moment, it goes on from there. A search whose suggestions take
more CPU time than `--cell-minutes` counts as far as it got. `--python ax=PATH` and
`--python sigoptlite=PATH` name the Python of an environment that holds these two; without, they
are left out. bbob-biobj needs `pip install coco-experiment`. `table` is made from whatever lines
there are.

A cell is one search: problem, sampler, seed and number of trials, one after the other or
`AT_A_TIME`. CPU seconds are those of the process that suggests, all its threads.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

sys.path.insert(0, str(Path(__file__).parent))
from optuna.distributions import CategoricalDistribution, FloatDistribution
from search_problems import FREE, PROBLEMS, Parameter, Problem, hypervolume, inside

from gossamer.search import Choice, Experiment, Minimize
from gossamer.search.definition import to_mapping

MARKS = (50, 100, 300, 1000)
CURRENT = 100  # trials up to which a line with "before", of an earlier `gossamer`, does not count
FREE_TRIALS = 60  # on problems without thresholds
AT_A_TIME = {8: 96, 32: 128}  # how many trials at a time -> trials of such a search
CONDITIONAL = ("mixed",)  # conditions are not passed on to samplers elsewhere
SEEDS = 5


class Contestant(Protocol):
    """A sampler at work on one problem."""

    def ask(self) -> tuple[dict[str, Any], float]:
        """A point, and the CPU seconds since the last `tell` and for it."""

    def tell(self, point: dict[str, Any], values: list[float]) -> None:
        """The metrics of a point that was asked for."""

    def close(self) -> None:
        """Ends what was started."""


class Ours:
    """Gossamer as its users call it, trials in memory."""

    def __init__(self, problem: Problem, sampler: str, seed: int) -> None:
        metrics = [Minimize(f"f{i}", limit) for i, limit in enumerate(problem.thresholds)]
        self._experiment = Experiment(
            problem.name, problem.parameters, metrics, budget=10**6, sampler=sampler, seed=seed
        )
        self._open: list[Any] = []

    def ask(self) -> tuple[dict[str, Any], float]:
        before = time.process_time()
        trial = self._experiment.ask()
        self._open.append(trial)
        return trial.parameters, time.process_time() - before

    def tell(self, point: dict[str, Any], values: list[float]) -> None:
        trial = next(t for t in self._open if t.parameters == point)
        self._open.remove(trial)
        self._experiment.tell(trial, {f"f{i}": value for i, value in enumerate(values)})

    def close(self) -> None:
        pass


class Optuna:
    """Optuna as its users call it, thresholds as constraints on the objectives."""

    def __init__(self, problem: Problem, sampler: str, seed: int) -> None:
        import optuna

        optuna.logging.set_verbosity(optuna.logging.ERROR)
        samplers: dict[str, Callable[[], optuna.samplers.BaseSampler]] = {
            "optuna_gp": lambda: optuna.samplers.GPSampler(seed=seed),
            "optuna_tpe": lambda: optuna.samplers.TPESampler(seed=seed, multivariate=True),
            "optuna_nsga2": lambda: optuna.samplers.NSGAIISampler(seed=seed),
        }
        directions = ["minimize"] * len(problem.thresholds)
        self._study = optuna.create_study(directions=directions, sampler=samplers[sampler]())
        self._parameters = problem.parameters
        self._thresholds = problem.thresholds
        self._open: list[Any] = []
        self._spent = 0.0

    @staticmethod
    def _suggest(trial: Any, parameter: Parameter) -> None:
        of: Any = parameter.distribution()
        if isinstance(of, CategoricalDistribution):
            trial.suggest_categorical(parameter.name, of.choices)
            return
        suggest = trial.suggest_float if isinstance(of, FloatDistribution) else trial.suggest_int
        suggest(parameter.name, of.low, of.high, step=of.step, log=of.log)

    def ask(self) -> tuple[dict[str, Any], float]:
        before = time.process_time()
        trial = self._study.ask()
        self._open.append(trial)
        for parameter in self._parameters:
            if all(trial.params.get(n) in values for n, values in parameter.when.items()):
                self._suggest(trial, parameter)
        spent = self._spent + time.process_time() - before
        self._spent = 0.0
        return dict(trial.params), spent

    def tell(self, point: dict[str, Any], values: list[float]) -> None:
        trial = next(t for t in self._open if t.params == point)
        self._open.remove(trial)
        before = time.process_time()
        for i, (value, limit) in enumerate(zip(values, self._thresholds, strict=True)):
            if limit is not None:
                trial.set_constraint(f"f{i}", value - limit)
        self._study.tell(trial, values)
        self._spent += time.process_time() - before

    def close(self) -> None:
        pass


class Elsewhere:
    """A sampler in another environment, see `search_peers.py`; not for parallel trials."""

    def __init__(self, problem: Problem, sampler: str, seed: int, python: str, trials: int) -> None:
        described = to_mapping(problem.parameters, [], [])["parameters"]
        for name, parameter in zip(described, problem.parameters, strict=True):
            if isinstance(parameter, Choice):
                described[name]["options"] = [str(option) for option in parameter.options]
        self._options = {
            p.name: {str(option): option for option in p.options}
            for p in problem.parameters
            if isinstance(p, Choice)
        }
        script = Path(__file__).parent / "search_peers.py"
        self._process = subprocess.Popen(
            [python, str(script), sampler],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._say(
            {
                "seed": seed,
                "budget": trials,
                "parameters": described,
                "thresholds": {f"f{i}": limit for i, limit in enumerate(problem.thresholds)},
            }
        )

    def _say(self, message: Any) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(message) + "\n")
        self._process.stdin.flush()

    def ask(self) -> tuple[dict[str, Any], float]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"the peer ended with status {self._process.wait()}")
        answer = json.loads(line)
        point = answer["point"]
        for name, options in self._options.items():
            point[name] = options[point[name]]
        return point, answer["cpu"]

    def tell(self, point: dict[str, Any], values: list[float]) -> None:
        self._say(values)

    def close(self) -> None:
        self._process.kill()
        self._process.communicate()


OURS = ("gossamer", "random")
OPTUNAS = ("optuna_gp", "optuna_tpe", "optuna_nsga2")
ELSEWHERE = ("ax", "sigoptlite")


@dataclass(frozen=True)
class Cell:
    """One search."""

    problem: str
    sampler: str
    seed: int
    trials: int
    parallel: int = 1

    @property
    def key(self) -> str:
        return f"{self.problem}/{self.sampler}/{self.seed}/{self.trials}/{self.parallel}"


def cells() -> Iterator[Cell]:
    """Every cell, the cheapest and most telling first."""

    def rounds(
        samplers: Sequence[str], trials: int, parallel: int = 1, seeds: Sequence[int] = range(SEEDS)
    ) -> Iterator[Cell]:
        for seed in seeds:
            for problem in PROBLEMS:
                for sampler in samplers:
                    if not (problem in CONDITIONAL and sampler in ELSEWHERE):
                        yield Cell(problem, sampler, seed, trials, parallel)

    quick = ("gossamer", "optuna_tpe", "optuna_nsga2", "random")
    for seed in range(SEEDS):
        for name in FREE:
            for sampler in ("gossamer", "optuna_gp", "random"):
                yield Cell(name, sampler, seed, FREE_TRIALS)
    yield from rounds(quick, 100)
    for seed in range(SEEDS):
        for parallel, trials in AT_A_TIME.items():
            yield from rounds((*quick, "optuna_gp"), trials, parallel, (seed,))
    yield from rounds(("optuna_gp",), 100, seeds=range(3))
    yield from rounds(ELSEWHERE, 100, seeds=range(1))
    yield from rounds(("optuna_gp", *ELSEWHERE), 100)
    yield from rounds(("gossamer", "optuna_nsga2", "random"), 1000, seeds=range(1))
    yield from rounds(("gossamer", "optuna_nsga2"), 960, parallel=32, seeds=range(1))
    yield from rounds(quick, 300)
    yield from rounds(quick, 1000)
    yield from rounds(("gossamer", "optuna_nsga2"), 960, parallel=32)
    yield from rounds(("optuna_gp", *ELSEWHERE), 300)
    yield from rounds(("optuna_gp", *ELSEWHERE), 1000)


def search(cell: Cell, pythons: dict[str, str], minutes: float) -> dict[str, Any]:
    """The line of a cell; once suggesting took so many CPU minutes, of what was done until then."""
    problem = {**PROBLEMS, **FREE}[cell.problem]()
    contestant: Contestant
    if cell.sampler in OURS:
        contestant = Ours(problem, "gp" if cell.sampler == "gossamer" else "random", cell.seed)
    elif cell.sampler in OPTUNAS:
        contestant = Optuna(problem, cell.sampler, cell.seed)
    else:
        python = pythons[cell.sampler]
        contestant = Elsewhere(problem, cell.sampler, cell.seed, python, cell.trials)
    values: list[list[float]] = []
    seconds: list[float] = []
    rng = np.random.default_rng(cell.seed)
    with contextlib.closing(contestant):
        while len(values) < cell.trials:
            batch = []
            for _ in range(min(cell.parallel, cell.trials - len(values))):
                point, spent = contestant.ask()
                batch.append(point)
                seconds.append(spent)
            for point in batch:
                values.append(problem.evaluate(point))
                # What the sampler sees; the results are of the values without the noise.
                seen = np.array(values[-1]) + problem.noise * rng.standard_normal(len(values[-1]))
                contestant.tell(point, seen.tolist())
            if sum(seconds) > 60.0 * minutes:
                break
    found = np.array(values)
    hits = np.flatnonzero(inside(found, problem.corner))
    marks = sorted({mark for mark in MARKS if mark <= len(found)} | {len(found)})
    return {
        "cell": cell.key,
        **vars(cell),
        "trials": len(found),
        "thresholds": list(problem.corner),
        "first": int(hits[0]) + 1 if len(hits) else None,
        "hypervolume": {mark: hypervolume(found[:mark], problem.corner) for mark in marks},
        # Of the ten suggestions before each mark.
        "cpu": {mark: statistics.fmean(seconds[mark - 10 : mark]) for mark in marks},
        "total_cpu": sum(seconds),
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} cores",
    }


def run(arguments: argparse.Namespace) -> None:
    """The missing cells, until the time is up."""
    pythons = dict(pair.split("=", 1) for pair in arguments.python)
    deadline = time.monotonic() + 60.0 * arguments.budget_minutes
    path: Path = arguments.results
    done = {line["cell"] for line in read(path)} if path.exists() else set()
    for cell in cells():
        if cell.key in done:
            continue
        if cell.sampler in ELSEWHERE and cell.sampler not in pythons:
            continue
        if arguments.samplers and cell.sampler not in arguments.samplers:
            continue
        if arguments.problems and cell.problem not in arguments.problems:
            continue
        if cell.trials > arguments.trials or time.monotonic() > deadline:
            continue
        try:
            line = search(cell, pythons, arguments.cell_minutes)
        except (ImportError, FileNotFoundError) as error:
            print(f"{cell.key}: left out ({error})", file=sys.stderr)
            continue
        except RuntimeError as error:
            line = {"cell": cell.key, **vars(cell), "error": str(error)}
        done.add(cell.key)
        with path.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(cell.key, line.get("error", line.get("first")), file=sys.stderr, flush=True)


def read(path: Path) -> list[dict[str, Any]]:
    """The lines of a results file; a last one that was cut off is left out."""
    found = []
    for line in path.read_text().splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            found.append(json.loads(line))
    return found


_INTRODUCTION = """# Samplers side by side

    python benchmarks/search.py run RESULTS.jsonl --python ax=PATH --python sigoptlite=PATH
    python benchmarks/search.py table RESULTS.jsonl --out docs/results/samplers

`gossamer` is the default sampler `gp`. All samplers are called as their users call them. The others
get the thresholds as constraints on the objectives (Optuna), as outcome constraints (Ax) or as
metric thresholds (sigoptlite, which optimizes two metrics: a third one is a constraint).

**The problems** have ten parameters (`mixed`: eleven), two metrics (`dtlz2_3`, `mnist_table`:
three), and a small acceptable box.

- `zdt1` to `zdt3`: nine parameters are best at the edge; the middle of the tenth is the threshold
  of `zdt1` and `zdt3`.
- `dtlz2`, `dtlz2_3`: the best distance parameters are at 0.35. That is near the middle, where
  `gossamer` and Ax begin, so their start alone helps there.
- `dtlz2_noisy`: the samplers see metrics with a standard deviation of 0.03 of noise; the results
  are of the values without it.
- `biobj_f1` to `biobj_f21`, of bbob-biobj: boxes anywhere, which end at 1.4 times the values of the
  best compromise.
- `wfg4`: hills in every parameter.
- `mixed`: choices, whole numbers, and four parameters that exist only with some values of others;
  the metrics are the error and size of a network, worked out by a formula.
- `mnist_table`, `speech_table`: values of 60 recorded trainings each, interpolated by extremely
  randomized trees; 5 % of the trainings are inside the thresholds.

**To keep in mind**

- The most informative searches for their cost were run first; "not run" marks the others. Of Ax,
  sigoptlite and, several trials at a time, Optuna's GP there are one to four seeds: medians over
  few or unequal seeds are a first look.
- A search ends once its suggestions have taken more CPU time than `--cell-minutes` (here 1 to 4 for
  the peers), and is missing from the later columns. Optuna's GP, Ax and sigoptlite were not run to
  300 trials: long before that a suggestion takes them one to several CPU seconds.
- The settings of `gossamer` were chosen on the same problems with other seeds; `wfg4`, `mixed` and
  `dtlz2_noisy` came later and had a part only in how parallel trials are treated and in what is
  assumed of length scales (`docs/explanation/search.md`).
- Except for the shortest searches of Ax, all ran beside other work, on machines of different speed.
  CPU seconds are those of the suggesting process.
- Beyond 100 trials those of `gossamer` were run before it tried a quadratic mean, which it does up
  to 48 trials, and before it assumed length scales near a typical one, which it does until a trial
  is inside. Those 8 at a time and 32 at a time were run before the second of these.
"""


def tabulate(arguments: argparse.Namespace) -> None:
    """Write the results so far as Markdown, and the lines as JSON."""
    lines = [line for line in read(arguments.results) if "error" not in line]
    failed = [line for line in read(arguments.results) if "error" in line]
    single = [line for line in lines if line["parallel"] == 1]
    longest = _longest_of_all(single)
    alone = _longest_of_all([line for line in single if "before" not in line])
    ceiling = {
        problem: max(
            max(line["hypervolume"].values(), default=0.0)
            for line in lines
            if line["problem"] == problem
        )
        for problem in PROBLEMS
        if any(line["problem"] == problem for line in lines)
    }
    order = (*OURS[:1], *OPTUNAS, *ELSEWHERE, *OURS[1:])
    samplers = [s for s in order if any(line["sampler"] == s for line in alone)]
    rows = [
        _INTRODUCTION,
        "## Trials to the first one inside all thresholds",
        "",
        "Median over seeds (in brackets: how many seeds got inside, of how many); searches that "
        "did not get inside count as longer than any that did.",
        "",
        _row(["problem", *samplers, "ours / best peer run"]),
        _row(["---"] * (len(samplers) + 2)),
    ]
    rows += _firsts_of(alone, list(ceiling), samplers)
    for mark in MARKS:
        shown = longest if mark > CURRENT else alone
        reached = [line for line in shown if str(mark) in line["hypervolume"]]
        columns = [s for s in samplers if any(line["sampler"] == s for line in reached)]
        if not columns:
            continue
        rows += [
            "",
            f"## Hypervolume inside the thresholds after {mark} trials",
            "",
            "Median over seeds, as a share of the largest that any search of that problem reached.",
            "",
            _row(["problem", *columns]),
            _row(["---"] * (len(columns) + 1)),
        ]
        for problem, most in ceiling.items():
            if any(line["problem"] == problem for line in reached):
                rows.append(_volumes(reached, problem, columns, mark, most))
    for parallel in AT_A_TIME:
        rows += _at_a_time(parallel, lines, samplers, ceiling)
    rows += _without_thresholds(single, samplers)
    rows += [
        "",
        "## CPU seconds for a suggestion",
        "",
        "Median over problems and seeds of the mean of the ten suggestions before that trial.",
        "",
        _row(["trials", *samplers]),
        _row(["---"] * (len(samplers) + 1)),
    ]
    for mark in MARKS:
        shown = longest if mark > CURRENT else alone
        spent = [
            [w["cpu"][str(mark)] for w in shown if w["sampler"] == s and str(mark) in w["cpu"]]
            for s in samplers
        ]
        rows.append(
            _row([str(mark), *(f"{statistics.median(c):.3f}" if c else "not run" for c in spent)])
        )
    long = sorted(
        (line for line in lines if line["trials"] > 300),
        key=lambda w: (
            list(PROBLEMS).index(w["problem"]),
            w["parallel"],
            order.index(w["sampler"]),
        ),
    )
    if long:
        heads = [
            "problem",
            "at a time",
            "sampler",
            "seed",
            "trials",
            "first inside",
            "hypervolume",
            "CPU",
        ]
        rows += [
            "",
            "## Searches of more than 300 trials",
            "",
            "One line each, those included that `--cell-minutes` ended early: how many trials ran "
            "at a time, how many were reached, the first inside, the hypervolume as a share of the "
            "largest, and CPU seconds for each of the last ten suggestions.",
            "",
            _row(heads),
            _row(["---"] * len(heads)),
        ]
    for line in long:
        share = max(line["hypervolume"].values()) / (ceiling[line["problem"]] or 1.0)
        spent = line["cpu"][str(line["trials"])]
        named = [line[key] for key in ("problem", "parallel", "sampler", "seed", "trials")]
        entries = [*named, line["first"] or "none", f"{share:.3f}", f"{spent:.3f}"]
        rows.append(_row([str(entry) for entry in entries]))
    rows += ["", f"Searches: {len(lines)}, on {', '.join(sorted({w['machine'] for w in lines}))}."]
    for line in failed:
        rows.append(f"Stopped with an error: {line['cell']}: {line['error']}.")
    out: Path = arguments.out
    out.with_suffix(".md").write_text("\n".join(rows) + "\n")
    out.with_suffix(".json").write_text(json.dumps(lines + failed, indent=0) + "\n")
    print("\n".join(rows))


def _firsts_of(
    lines: list[dict[str, Any]], problems: Sequence[str], samplers: Sequence[str]
) -> list[str]:
    """Every problem's row, and what they say together."""
    rows, ratios = [], {}
    for problem in problems:
        row, ratio = _firsts(lines, problem, samplers)
        rows.append(row)
        if ratio is not None:
            ratios[problem] = ratio
    if not ratios:
        return rows
    behind = [
        f"{p} ({r:.2f})" if r < float("inf") else f"{p} (not inside)"
        for p, r in ratios.items()
        if r > 1.0
    ]
    return [
        *rows,
        "",
        f"Median of the last column, where a peer got inside: "
        f"{statistics.median(ratios.values()):.2f}. `gossamer` needs more trials than the best "
        f"peer on {len(behind)} of {len(ratios)} problems"
        + (f": {', '.join(behind)}." if behind else "."),
    ]


def _firsts(
    lines: list[dict[str, Any]], problem: str, samplers: Sequence[str]
) -> tuple[str, float | None]:
    """A problem's row: the median number of trials to the first inside, by sampler; and ours as a
    share of the best peer's, None where no peer got inside."""
    medians = {}
    entries = []
    for sampler in samplers:
        runs = _longest(lines, problem, sampler)
        firsts = [line["first"] or float("inf") for line in runs]
        if not runs:
            entries.append("not run")
            continue
        middle = statistics.median_high(firsts)
        medians[sampler] = middle
        shortest = min(line["trials"] for line in runs)
        hit = sum(first < float("inf") for first in firsts)
        text = f"{middle:.0f}" if middle < float("inf") else f"> {shortest}"
        entries.append(f"{text} ({hit}/{len(runs)})")
    peers = [m for s, m in medians.items() if s != "gossamer" and m < float("inf")]
    ours = medians.get("gossamer")
    ratio = ours / min(peers) if ours is not None and peers else None
    entries.append("-" if ratio is None or ratio == float("inf") else f"{ratio:.2f}")
    return _row([problem, *entries]), ratio


def _at_a_time(
    parallel: int,
    lines: list[dict[str, Any]],
    samplers: Sequence[str],
    ceiling: dict[str, float],
) -> list[str]:
    """The section on searches of so many trials at a time, as far as they were run."""
    trials = AT_A_TIME[parallel]
    lines = [line for line in lines if line["parallel"] == parallel and line["trials"] <= trials]
    samplers = [s for s in samplers if any(line["sampler"] == s for line in lines)]
    problems = [p for p in ceiling if any(line["problem"] == p for line in lines)]
    if not lines:
        return []
    rows = [
        "",
        f"## {parallel} trials at a time",
        "",
        f"Trials to the first one inside all thresholds, of {trials}; as above.",
        "",
        _row(["problem", *samplers, "ours / best peer run"]),
        _row(["---"] * (len(samplers) + 2)),
        *_firsts_of(lines, problems, samplers),
        "",
        f"Hypervolume inside the thresholds after {trials} trials; as above.",
        "",
        _row(["problem", *samplers]),
        _row(["---"] * (len(samplers) + 1)),
    ]
    for problem in problems:
        runs = [line for line in lines if line["problem"] == problem]
        rows.append(_volumes(runs, problem, samplers, trials, ceiling[problem]))
    return rows


def _volumes(
    lines: list[dict[str, Any]], problem: str, samplers: Sequence[str], mark: int, most: float
) -> str:
    """A problem's row: the median hypervolume after ``mark`` trials as a share, by sampler."""
    shares = []
    for sampler in samplers:
        runs = [w["hypervolume"] for w in lines if _of(w, problem, sampler)]
        found = [run[str(mark)] for run in runs if str(mark) in run]
        share = statistics.median(found) / (most or 1.0) if found else None
        shares.append("not run" if share is None else f"{share:.3f} ({len(found)})")
    return _row([problem, *shares])


def _without_thresholds(lines: list[dict[str, Any]], samplers: Sequence[str]) -> list[str]:
    """The section on problems without thresholds, as far as they were run."""
    columns = [s for s in samplers if any(_of(w, p, s) for w in lines for p in FREE)]
    if not columns:
        return []
    rows = [
        "",
        f"## Hypervolume without thresholds after {FREE_TRIALS} trials",
        "",
        "    python benchmarks/search.py run RESULTS.jsonl --samplers gossamer optuna_gp random "
        f"--trials {FREE_TRIALS} --problems {' '.join(FREE)}",
        "",
        "Median over seeds (in brackets: how many), as a share of the largest that any search of "
        "that problem reached. The hypervolume is measured from a corner that the samplers do not "
        "know: 1.1 times the frontier's worst values (`zdt1_free`, `dtlz2_free`), the worst of the "
        "recorded trainings (`speech_table_free`), or the worst possible values (`plateau_free`). "
        "`plateau_free` has a quality that is the same nearly everywhere, a size, and ten "
        "parameters, of which four have no effect.",
        "",
        _row(["problem", *columns]),
        _row(["---"] * (len(columns) + 1)),
    ]
    for problem in FREE:
        volumes = {
            s: [w["hypervolume"][str(FREE_TRIALS)] for w in lines if _of(w, problem, s)]
            for s in columns
        }
        most = max((v for found in volumes.values() for v in found), default=0.0) or 1.0
        shares = [
            f"{statistics.median(found) / most:.3f} ({len(found)})" if found else "not run"
            for found in volumes.values()
        ]
        rows.append(_row([problem, *shares]))
    return rows


def _row(entries: Sequence[str]) -> str:
    return "| " + " | ".join(entries) + " |"


def _of(line: dict[str, Any], problem: str, sampler: str) -> bool:
    return line["problem"] == problem and line["sampler"] == sampler


def _longest(lines: list[dict[str, Any]], problem: str, sampler: str) -> list[dict[str, Any]]:
    """Of each seed the longest search."""
    found: dict[int, dict[str, Any]] = {}
    for line in lines:
        if _of(line, problem, sampler):
            known = found.get(line["seed"])
            if known is None or line["trials"] > known["trials"]:
                found[line["seed"]] = line
    return list(found.values())


def _longest_of_all(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each problem, sampler and seed the longest search."""
    return [
        line
        for problem in PROBLEMS
        for sampler in (*OURS, *OPTUNAS, *ELSEWHERE)
        for line in _longest(lines, problem, sampler)
    ]


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("results", type=Path)
    running.add_argument(
        "--budget-minutes", type=float, default=60.0, help="after these no search is begun"
    )
    running.add_argument(
        "--cell-minutes",
        type=float,
        default=20.0,
        help="a search whose suggestions take more CPU time is cut short",
    )
    running.add_argument("--python", action="append", default=[], metavar="SAMPLER=PATH")
    running.add_argument("--samplers", nargs="*", choices=[*OURS, *OPTUNAS, *ELSEWHERE])
    running.add_argument("--problems", nargs="*", choices=[*PROBLEMS, *FREE])
    running.add_argument("--trials", type=int, default=1000, help="no longer searches than this")
    running.set_defaults(do=run)
    tabling = commands.add_parser("table")
    tabling.add_argument("results", type=Path)
    tabling.add_argument("--out", type=Path, required=True, help="writes OUT.md and OUT.json")
    tabling.set_defaults(do=tabulate)
    arguments = parser.parse_args()
    arguments.do(arguments)


if __name__ == "__main__":
    main()
