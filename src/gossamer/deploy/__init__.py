"""Deployment of trained networks: ``compile`` for torch modules, ``bench`` against other runtimes,
metrics of a deployed network, and ``forecast`` of the speedup by zeros.

This room joins ``nn`` (torch, export) and ``runtime`` (no torch); neither imports it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from gossamer.deploy.bench import Contestant, Result, bench
from gossamer.deploy.forecast import Choice, Forecast, LayerForecast, forecast
from gossamer.deploy.metrics import METRICS, MeasureSettings, NetworkMetric
from gossamer.deploy.peers import PEERS

if TYPE_CHECKING:
    from gossamer.deploy.compiling import compile

__all__ = [
    "METRICS",
    "PEERS",
    "Choice",
    "Contestant",
    "Forecast",
    "LayerForecast",
    "MeasureSettings",
    "NetworkMetric",
    "Result",
    "bench",
    "compile",
    "forecast",
]
__dir__ = __all__.copy


def __getattr__(name: str) -> Any:
    if name == "compile":  # imports torch, which `bench` does without
        from gossamer.deploy import compiling

        return compiling.compile
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
