"""The experiment file of a compression: its space, first trials, metrics and settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import tomli_w

from gossamer.compression.examination import FIRST, SMALL_BLOCKS, Examination
from gossamer.compression.space import TEACHER_SHARES, SearchSpace, limits_of
from gossamer.compression.tuning import Tuning
from gossamer.errors import one_line
from gossamer.files import write_text
from gossamer.search.definition import UNLIMITED, describe_metric
from gossamer.search.metrics import Metric
from gossamer.search.stopping.continuation import Continuation

_ROUNDS = 5  # of longer training: 32 times the shortest one is nearly the whole search
# Share of a training in which k-winners go from all units to their final share.
_ANNEALED = 0.5
# Further densities of the first trainings. Mostly FIRST is accurate enough and the lowest is not,
# and the fastest network that is lies between them.
_MIDDLE, _LAST = 0.16, 0.1
# In a first trial a layer keeps so many times its lowest density: a first convolution has few
# inputs.
_SPARED = 3
_LONGEST = -1  # of the lengths of training


def start(space: SearchSpace, tuning: Tuning) -> list[dict[str, Any]]:
    """Return the first trials: without training (seconds), then short and long trainings."""
    patterns = space.patterns

    def point(
        density: float, pattern: str, length: int, winners: float, own: bool
    ) -> dict[str, Any]:
        most = space.highest(pattern)
        made: dict[str, Any] = {"weight_density": min(max(density, space.network.least), most)}
        if len(patterns) > 1:
            made["pattern"] = pattern
        made["epochs"] = tuning.lengths[length]
        if not made["epochs"]:
            return made
        if tuning.learning_rate is not None:
            made |= {"rule": "granet", "teacher_share": TEACHER_SHARES[-1]}
            if tuning.first_rate is not None:
                made["learning_rate"] = tuning.first_rate
        if tuning.crop:  # a short training learns too little from varied examples
            made["crop"] = tuning.crop if length == _LONGEST else 0
        if len(space.allocations) > 1:
            made["allocation"] = "global"
        shares = space.shares
        share = min((s for s in shares if s >= winners), default=shares[-1])
        share = min(share, space.limits.get("activation_density", 1.0))
        made |= dict.fromkeys(space.winners, share)
        return {**made, **_own(space, made["weight_density"])} if own else made

    single, largest = patterns[0], patterns[-1]
    small = SMALL_BLOCKS if SMALL_BLOCKS in patterns else largest
    wanted: list[tuple[float, str, int, float, bool]] = [
        (0.5, single, 0, 1.0, False),
        (0.2, single, 0, 1.0, False),
        (0.5, largest, 0, 1.0, False),
        # The fastest structures, briefly: blocks in each layer, in first ones too, which the
        # largest weights of all leave dense. The promising ones are trained longer.
        *(
            (density, blocks, 1, 1.0, True)
            for density in (FIRST, _LAST, _MIDDLE)
            for blocks in (small, largest)
        ),
        (FIRST, single, 1, 1.0, False),
        # The fastest first again: continuation brings single weights to the accuracy meanwhile.
        (_MIDDLE, small, _LONGEST, 1.0, True),
        (_LAST, largest, _LONGEST, 1.0, True),
        (_LAST, largest, 1, 0.2, True),  # k-winners make some networks faster, others slower
        (FIRST, single, _LONGEST, 1.0, False),
        (FIRST, largest, _LONGEST, 1.0, False),
        (_LAST, largest, _LONGEST, 0.2, True),
        (_LAST, largest, _LONGEST, 0.1, True),
        (0.05, largest, _LONGEST, 0.1, True),
    ]
    points = [point(*each) for each in wanted]
    return [made for i, made in enumerate(points) if made not in points[:i]]


def _own(space: SearchSpace, density: float) -> dict[str, Any]:
    """Return a point's settings with the same density in each layer, as far as limits allow.

    Empty if that is not possible within the limits.
    """
    layers, least = space.layers, space.network.least
    if not layers and "uniform" in space.allocations and density >= space.network.evenly:
        return {"allocation": "uniform"}
    for times in (_SPARED, 1):
        spared = {n: min(times * low, 1.0) for n, low in layers.items() if low > least}
        shared = _highest_within(space.constraints, spared, least, density)
        if layers and shared >= least:
            each = {f"weight_density.{n}": max(shared, spared.get(n, 0.0)) for n in layers}
            return {"allocation": "uniform", "weight_density": shared, **each}
    return {}


def _highest_within(
    constraints: Sequence[Mapping[str, Any]],
    spared: Mapping[str, float],
    least: float,
    most: float,
) -> float:
    """Return the highest density of all layers within the constraints; below ``least`` if none is.

    Layers in ``spared`` have theirs at least.
    """

    def fits(shared: float) -> bool:
        return all(
            sum(
                factor * max(shared, spared.get(name.partition(".")[2], 0.0))
                for name, factor in bound["coefficients"].items()
            )
            <= bound["at_most"]
            for bound in constraints
        )

    if fits(most) or not fits(least):
        return most if fits(most) else 0.0
    for _ in range(50):
        middle = (least + most) / 2
        least, most = (middle, most) if fits(middle) else (least, middle)
    return least


def write_experiment(
    path: Path,
    network: Examination,
    tuning: Tuning,
    metrics: Sequence[Metric],
    settings: Mapping[str, Any],
    heading: Sequence[str],
    quality: Sequence[str],
) -> None:
    """Write the experiment file, with ``heading`` and ``Examination.sentences`` as comments.

    Args:
        path: of the file.
        network: the examined network.
        tuning: settings of fine-tuning.
        metrics: of the search.
        settings: that all trials share.
        heading: lines for its beginning.
        quality: metrics that training improves; one of ``metrics`` at least.

    Raises:
        UserError: the file cannot be written.
    """
    space = SearchSpace(network, limits_of(metrics))
    fixed: dict[str, Any] = {"rearrange": True} if network.rearranges else {}
    if network.small:
        fixed["exclude"] = list(network.small)
    if network.activations and tuning.learning_rate is not None:
        fixed["activation_anneal"] = _ANNEALED
    parameters = space.parameters(tuning)
    # A search refuses a setting whose place a parameter takes in every trial.
    searched = [name for name, entry in parameters.items() if "when" not in entry]
    shared = {**settings, **tuning.settings, **fixed}
    described = {
        "name": "compress",
        "budget": UNLIMITED,
        "storage": f"sqlite:///{path.parent / 'search.db'}",
        "sampler": "gp",
        "start": start(space, tuning),
        "settings": {name: value for name, value in shared.items() if name not in searched},
        "metrics": {metric.name: describe_metric(metric) for metric in metrics},
        "parameters": parameters,
        "continuation": asdict(
            Continuation([m.name for m in metrics if m.name in quality], rounds=_ROUNDS)
        ),
    }
    if space.constraints:
        described["constraints"] = space.constraints
    lines = [
        *(*heading, *network.sentences(), "epochs = 0 prunes at once and trains nothing"),
        "continuation: trials that nearly meet the goals are trained 2, 4, 8, ... times as long",
    ]
    comments = "".join(f"# {one_line(line)}\n" for line in lines)
    write_text(path, f"{comments}\n{tomli_w.dumps(described)}")
