"""Reports of runs and experiments: terminal tables and one self-contained HTML page."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from gossamer.report.runtime_tables import bench_table, forecast_table, profile_table
from gossamer.report.sources import load_run, named_runs
from gossamer.report.terminal import frontier_table, layer_table, table, trials_table

if TYPE_CHECKING:
    from gossamer.report.compare import comparison, markdown, write_comparison
    from gossamer.report.html import page, report

__all__ = [
    "bench_table",
    "comparison",
    "forecast_table",
    "frontier_table",
    "layer_table",
    "load_run",
    "markdown",
    "named_runs",
    "page",
    "profile_table",
    "report",
    "table",
    "trials_table",
    "write_comparison",
]
__dir__ = __all__.copy

# The pages need packages that the tables of `profile` and `bench` do without.
_PAGES = {
    "comparison": "compare",
    "markdown": "compare",
    "page": "html",
    "report": "html",
    "write_comparison": "compare",
}


def __getattr__(name: str) -> Any:
    if name in _PAGES:
        return getattr(importlib.import_module(f"gossamer.report.{_PAGES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
