"""The layers of a run: their weights, inputs and multiply-adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from gossamer.deploy.metrics import Run, value
from gossamer.report import units
from gossamer.report.provenance import Provenance


@dataclass(frozen=True)
class Layer:
    """One sparsifiable layer of a run; multiply-adds are per inference."""

    name: str
    kind: str
    weights: float | None
    nonzero: float | None
    density: float | None
    input_density: float | None
    dense: float | None
    weights_only: float | None
    both: float | None


def layers_of(run: Run) -> list[Layer]:
    """Return the layers of a run, in the network's order; empty if the run lists none."""
    listed = run.get("layers") or ()
    return [
        Layer(
            str(layer.get("name", "")),
            str(layer.get("kind", "")),
            value(layer, "weights"),
            value(layer, "nonzero"),
            value(layer, "density"),
            value(layer, "input_density"),
            value(layer, "macs_dense"),
            value(layer, "macs_weights"),
            value(layer, "macs_both"),
        )
        for layer in listed
        if isinstance(layer, Mapping)
    ]


# Columns of the per-layer tables: heading, how known, how to write a layer's cell.
LAYER_COLUMNS: tuple[tuple[str, Provenance, Callable[[Layer], str]], ...] = (
    ("Weights", "counted", lambda layer: _written(layer.weights, units.whole)),
    ("Non-zero", "counted", lambda layer: _written(layer.nonzero, units.whole)),
    ("Density", "counted", lambda layer: _written(layer.density, units.percent)),
    ("Input density", "measured", lambda layer: _written(layer.input_density, units.percent)),
    ("Multiply-adds, dense", "counted", lambda layer: _written(layer.dense, units.short)),
    ("weights only", "counted", lambda layer: _written(layer.weights_only, units.short)),
    ("weights × activations", "counted", lambda layer: _written(layer.both, units.short)),
)


def _written(figure: float | None, write: Callable[[float], str]) -> str:
    return units.NOTHING if figure is None else write(figure)
