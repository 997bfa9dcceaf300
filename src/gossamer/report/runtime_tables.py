"""Terminal tables of how a network runs: its profile, and its time beside other runtimes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rich.table import Table

from gossamer.report import units
from gossamer.report.terminal import plain_table

if TYPE_CHECKING:
    from gossamer.deploy import Result
    from gossamer.runtime import NetworkProfile


def profile_table(profile: NetworkProfile, title: str = "") -> Table:
    """A row for each kernel call and their total; per example."""
    limits = profile.limits
    caption = (
        f"{profile.machine}; batch {profile.batch}, {profile.threads} thread(s). Per example. "
        "Time measured; multiply-adds and bytes counted, for active inputs at their measured "
        f"density. Limit measured: {units.short(limits.macs)} multiply-adds/s, "
        f"{units.storage(limits.bandwidth)}/s over {units.storage(limits.bytes)}; a layer in a "
        "nearer cache may pass it. Called whole: "
        f"{units.duration(profile.seconds)} a call."
    )
    shown = plain_table(title, caption)
    shown.add_column("Layer\nkernel")
    for heading in ("Time", "Share", "MACs\ndone", "MACs\ndense", "Bytes", "Of\nlimit", "Threads"):
        shown.add_column(heading, justify="right")
    total = sum(row.seconds for row in profile.rows) or 1.0

    def counted(figure: float) -> str:
        return units.short(figure) if figure else units.NOTHING

    for row in profile.rows:
        shown.add_row(
            f"{row.node}\n  {row.kernel.rpartition(' ')[0]}",
            units.duration(row.seconds),
            units.percent(row.seconds / total),
            counted(row.macs),
            counted(row.dense_macs),
            units.storage(row.bytes) if row.bytes else units.NOTHING,
            units.percent(limits.share(row)),
            str(row.threads),
        )
    shown.add_section()
    shown.add_row(
        "all",
        units.duration(total),
        "100 %",
        counted(sum(row.macs for row in profile.rows)),
        counted(sum(row.dense_macs for row in profile.rows)),
        units.storage(sum(row.bytes for row in profile.rows)),
        units.percent(profile.share),
        str(profile.threads),
    )
    return shown


def bench_table(result: Result) -> Table:
    """A row for each runtime and network, and how many times the engine is faster."""
    shown = plain_table(
        result.model,
        f"{result.machine}; batch {result.batch}, {result.threads} thread(s), {result.clock} time. "
        "Measured in turns in one process: the median over the quiet turns of the mean time of a "
        "call. Dense: the same layers with all weights, and ReLU for k-winners. Difference: "
        "largest of the outputs, as a share of the largest output.",
    )
    shown.add_column("Runtime")
    shown.add_column("Network")
    for heading in ("Time a call", "Engine is faster", "Difference", "Quiet turns"):
        shown.add_column(heading, justify="right")
    ratios = result.ratios()
    for c in result.contestants:
        ratio = ratios.get(c.network, {}).get(c.name)
        shown.add_row(
            c.name,
            c.network,
            units.duration(c.seconds),
            units.NOTHING if ratio is None else f"{ratio:.2f}×",
            units.NOTHING if c.difference is None else f"{c.difference:.1e}",
            f"{c.quiet} of {c.turns}",
        )
    return shown
