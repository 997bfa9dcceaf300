"""The problems that samplers are compared on, and what a search of one records."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from gossamer.search.space.space import Space

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def search(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    import search

    yield search
    for name in ("search", "search_problems"):
        del sys.modules[name]


def test_wfg4_is_the_published_one(search):
    problem = search.PROBLEMS["wfg4"]()
    names = [parameter.name for parameter in problem.parameters]
    point = dict(zip(names, np.linspace(0.05, 0.95, 10), strict=True))
    # Of pymoo 0.6's WFG4(10, 2, k=4, l=6).
    assert problem.evaluate(point) == pytest.approx([1.32809101, 3.92150604], abs=1e-8)
    best = dict.fromkeys(names, 0.35) | dict.fromkeys(names[:4], 0.2)
    first, second = problem.evaluate(best)
    assert (first / 2) ** 2 + (second / 4) ** 2 == pytest.approx(1.0)


def test_conditions_of_the_mixed_problem_reach_every_sampler(search):
    problem = search.PROBLEMS["mixed"]()
    space = Space(problem.parameters)
    for contestant in (search.Ours(problem, "random", 0), search.Optuna(problem, "optuna_tpe", 0)):
        for _ in range(15):
            point, _ = contestant.ask()
            assert space.pruned(space.with_defaults(point)) == point
            contestant.tell(point, problem.evaluate(point))


def test_samplers_see_noise_and_results_do_not(search, monkeypatch):
    problem = replace(search.PROBLEMS["dtlz2_noisy"](), corner=(2.5, 2.5))
    monkeypatch.setitem(search.PROBLEMS, "dtlz2_noisy", lambda: problem)
    seen = []

    class Listening(search.Ours):
        def tell(self, point, values):
            seen.append((problem.evaluate(point), values))
            super().tell(point, values)

    monkeypatch.setattr(search, "Ours", Listening)
    line = search.search(search.Cell("dtlz2_noisy", "random", 0, 60, 8), {}, 1.0)
    true, noisy = (np.array(column) for column in zip(*seen, strict=True))
    assert 0.02 < (noisy - true).std() < 0.04
    assert line["hypervolume"][60] == search.hypervolume(true, problem.corner) > 0


def test_the_table_says_where_the_default_sampler_is_behind(search):
    def line(problem, sampler, first):
        named = {"problem": problem, "sampler": sampler, "first": first}
        return {**named, "seed": 0, "trials": 100}

    lines = [line("zdt1", "gossamer", 6), line("zdt1", "optuna_gp", 12), line("zdt1", "random", 99)]
    lines += [line("zdt2", "gossamer", 12), line("zdt2", "optuna_gp", 10)]
    lines += [line("zdt3", "gossamer", None), line("zdt3", "optuna_gp", 10)]
    samplers = ("gossamer", "optuna_gp", "random")
    *rows, blank, said = search._firsts_of(lines, ["zdt1", "zdt2", "zdt3"], samplers)
    assert [row.split(" | ")[-1] for row in rows] == ["0.50 |", "1.20 |", "- |"]
    assert blank == ""
    assert "where a peer got inside: 1.20." in said
    assert "on 2 of 3 problems: zdt2 (1.20), zdt3 (not inside)." in said
