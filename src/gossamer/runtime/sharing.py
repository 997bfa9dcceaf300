"""The steps of a program that one thread computes alone, because sharing them takes longer."""

from __future__ import annotations

import math

import numpy as np

from gossamer.kernels._kernels import Program
from gossamer.runtime.examples import synthetic
from gossamer.runtime.graph import Graph

LONG_NS = 200_000_000  # of a run: in so long a one, sharing short steps costs nothing that counts
SHARING_NS = 40_000_000  # spent on what threads should share
SHARED_FROM_NS = (0, 1_000, 4_000, 16_000)  # on one thread: shorter steps are not shared
ALONE = 0.9  # of the time with sharing: a network is not shared if one thread takes less


def single_threaded(program: Program, graph: Graph, steps: int) -> list[int]:
    """Return the steps of a program of so many that one thread should compute alone.

    Measured, in wall time and interleaved, is sharing the steps that take at least a certain time
    on one thread, for several such times, and sharing none. While another program has a core, its
    thread comes late and the others do its part, so that sharing is no faster, but little slower:
    then steps are shared, as is best when the core is free.
    """
    x = [np.ascontiguousarray(values, np.float32) for values in synthetic(graph, 1)]
    alone = list(range(steps))
    program.single_threaded(alone)
    once = program.profile(x, 1, False)
    if sum(once[0]) > LONG_NS:
        return []
    each = np.min(once + program.profile(x, 3, False), axis=0)
    choices = [[step for step in alone if each[step] < ns] for ns in SHARED_FROM_NS]
    choices.append(alone)
    fastest, spent = [math.inf] * len(choices), 0
    while spent < SHARING_NS:
        for i, choice in enumerate(choices):
            program.single_threaded(choice)
            runs = [max(1, sum(times)) for times in program.profile(x, 3, False)]
            fastest[i], spent = min(fastest[i], *runs), spent + sum(runs)
    best = int(np.argmin(fastest[:-1]))
    return alone if fastest[-1] < ALONE * fastest[best] else choices[best]
