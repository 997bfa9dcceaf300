"""Terminal tables of a network's profile, benchmark and forecast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from gossamer.report import units
from gossamer.report.terminal import plain_table

if TYPE_CHECKING:
    from gossamer.deploy import Forecast, Result
    from gossamer.runtime import NetworkProfile

LEAST_LISTED = 0.01  # least share of the time of an operation without weights that has a row


def profile_table(profile: NetworkProfile, title: str = "") -> Table:
    """Return a table with a row for each kernel call and their total, per example."""
    limits, items = profile.limits, profile.items_per_example
    per = "example" if items == 1 else f"{items} rows of the input, the batch that the file fixes"
    caption = (
        f"{profile.machine}; batch {profile.batch}, {profile.threads} thread(s). Per {per}. "
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
    """Return a table with a row for each runtime and network, and the engine's speedup."""
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


def forecast_table(forecast: Forecast) -> Table:
    """Return a table of each layer's and the network's speedup for each choice of zeros."""
    choices = forecast.choices
    best = max(range(len(choices)), key=lambda i: forecast.faster[i])
    zeros, block = choices[best].zeros, choices[best].block
    shown = plain_table(
        f"{forecast.model}: times faster than dense",
        f"Most: {units.times(forecast.faster[best])} at {zeros:.0%} zeros, "
        f"{'single weights' if block == 1 else f'blocks of {block}'}"
        f"{', with winners' if choices[best].winners else ''}. "
        f"{forecast.machine}; batch {forecast.batch}, {forecast.threads} thread(s); dense "
        f"{units.duration(forecast.seconds)} a call. Measured in turns with the dense network, "
        "layers by their kernels. Speed only: what accuracy is left, training shows. Winners: 10 % "
        f"of the inputs of a layer behind another are active. {units.NOTHING}: the layer stays "
        "dense.",
    )
    shown.add_column("Layer\nzeros, in blocks of", min_width=19, max_width=24, overflow="fold")
    shown.add_column("Share", justify="right")
    for choice in choices:
        if not choice.winners:
            heading = f"{choice.zeros:.0%}\n{choice.block}"
            shown.add_column(heading, justify="right", no_wrap=True)

    def row(name: str, share: str, faster: Sequence[float | None]) -> None:
        for winners in (False, True):
            cells = [
                units.NOTHING if gain is None else f"{gain:.{1 if gain < 9.95 else 0}f}"
                for choice, gain in zip(choices, faster, strict=True)
                if choice.winners == winners
            ]
            shown.add_row("  with winners" if winners else name, "" if winners else share, *cells)

    for layer in forecast.layers:
        if not layer.dense:
            row(layer.name, units.percent(layer.share), layer.faster)
    shown.add_section()
    rest = sorted((x for x in forecast.layers if x.dense), key=lambda x: -x.share)
    listed = [x for x in rest if x.share >= LEAST_LISTED or not x.dense.endswith("no weights")]
    for layer in listed:
        shown.add_row(f"{layer.name} ({layer.operation})", units.percent(layer.share))
    if len(rest) > len(listed):
        share = sum(x.share for x in rest if x not in listed)
        shown.add_row(f"{len(rest) - len(listed)} without weights", units.percent(share))
    shown.add_section()
    row("whole network", "100 %", forecast.faster)
    return shown
