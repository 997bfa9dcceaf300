"""What was gained, with the evidence: terminal tables and one self-contained HTML page."""

from gossamer.report.html import page, report
from gossamer.report.running import bench_table, profile_table
from gossamer.report.sources import ExperimentLike, load_run
from gossamer.report.terminal import frontier_table, layer_table, table

__all__ = [
    "ExperimentLike",
    "bench_table",
    "frontier_table",
    "layer_table",
    "load_run",
    "page",
    "profile_table",
    "report",
    "table",
]
