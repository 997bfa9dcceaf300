"""What was gained, with the evidence: terminal tables and one self-contained HTML page."""

from gossamer.report.compare import comparison, markdown, write_comparison
from gossamer.report.html import page, report
from gossamer.report.running import bench_table, profile_table
from gossamer.report.sources import ExperimentLike, load_run, named_runs
from gossamer.report.terminal import frontier_table, layer_table, table

__all__ = [
    "ExperimentLike",
    "bench_table",
    "comparison",
    "frontier_table",
    "layer_table",
    "load_run",
    "markdown",
    "named_runs",
    "page",
    "profile_table",
    "report",
    "table",
    "write_comparison",
]
