"""The layers of a run: their weights, inputs and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from gossamer.deploy.metrics import Run, value
from gossamer.report import units
from gossamer.report.provenance import Provenance


class Layer(NamedTuple):
    """One sparsifiable layer of a run; ``figures`` are those of `LAYER_COLUMNS`, by key."""

    name: str
    kind: str
    figures: Mapping[str, float | None]


class Column(NamedTuple):
    """A figure of each layer, with its key in ``metrics.json``; multiply-adds are per inference."""

    heading: str
    provenance: Provenance
    key: str
    write: Callable[[float], str]

    def text(self, layer: Layer) -> str:
        """Write the figure of a layer; a dash if the run does not have it."""
        figure = layer.figures[self.key]
        return units.NOTHING if figure is None else self.write(figure)


LAYER_COLUMNS = (
    Column("Weights", "counted", "weights", units.whole),
    Column("Non-zero", "counted", "nonzero", units.whole),
    Column("Density", "counted", "density", units.percent),
    Column("Input density", "measured", "input_density", units.percent),
    Column("Multiply-adds, dense", "counted", "macs_dense", units.short),
    Column("weights only", "counted", "macs_weights", units.short),
    Column("weights × activations", "counted", "macs_both", units.short),
)


def layers_of(run: Run) -> list[Layer]:
    """Return the layers of a run, in the network's order; empty if the run lists none."""
    return [
        Layer(
            str(layer.get("name", "")),
            str(layer.get("kind", "")),
            {column.key: value(layer, column.key) for column in LAYER_COLUMNS},
        )
        for layer in run.get("layers") or ()
        if isinstance(layer, Mapping)
    ]
