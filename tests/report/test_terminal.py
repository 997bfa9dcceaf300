"""The terminal tables, as they are printed."""

from __future__ import annotations

import dataclasses
import re

from report_fakes import experiment, goal, pair, record, run, snapshot
from rich.console import Console, Group
from rich.table import Table

from gossamer.console import show
from gossamer.report import figures, frontier_table, layer_table, table, trials_table, units
from gossamer.report.figures import MAIN
from gossamer.search import Float, Snapshot


def printed(shown: Table | Group, width: int = 200) -> str:
    console = Console(width=width, color_system=None)
    with console.capture() as caught:
        console.print(shown)
    return caught.get()


def row(shown: Table | Group, label: str) -> list[str]:
    lines = (line.strip() for line in printed(shown).splitlines())
    line = next(line for line in lines if line.startswith(f"{label} "))
    return re.split(r"\s{2,}", line)


def after(shown: Table | Group, label: str) -> list[str]:
    lines = printed(shown).splitlines()
    place = next(i for i, line in enumerate(lines) if line.strip().startswith(f"{label} "))
    return re.split(r"\s{2,}", lines[place + 1].strip())


def test_table_shows_figure_provenance_runs_and_gain() -> None:
    shown = table(pair(), title="Side by side")
    assert row(shown, "Non-zero weights") == [
        "Non-zero weights",
        "1,716,000",
        "193,280",
        "8.9× fewer",
    ]
    assert after(shown, "Non-zero weights") == ["counted, of 1,716,000"]
    assert after(shown, "Accuracy")[0] == "measured"
    assert "Side by side" in printed(shown)


def test_two_runs_fit_80_columns_with_labels_and_gains_on_one_line() -> None:
    names = ("dense", "runs/a_name_that_is_longer_than_figures")
    runs = dict(zip(names, pair().values(), strict=True))
    console = Console(width=80, color_system=None)
    with console.capture() as caught:
        show(table(runs), console)
    text = caught.get()
    assert max(map(len, text.splitlines())) <= 80
    lines = figures.compare(runs)
    for line in lines:
        if len(line.label) <= 32:
            (gain,) = line.gains
            shown = next(t for t in text.splitlines() if t.strip().startswith(f"{line.label} "))
            assert shown.strip().endswith(gain.text if gain else units.NOTHING)
    assert sum(len(line.label) > 32 for line in lines) <= 4


def test_three_runs_have_their_gains_below_their_figures() -> None:
    three = table({**pair(), "smaller": run()})
    label = "Non-zero weights"
    assert row(three, label) == [label, "1,716,000", "193,280", "193,280"]
    lines = printed(three).splitlines()
    below = next(i for i, line in enumerate(lines) if label in line) + 1
    assert re.split(r"\s{2,}", lines[below].strip()) == ["counted", "8.9× fewer", "8.9× fewer"]


def test_many_runs_fit_80_columns_in_tables_that_all_begin_with_the_first() -> None:
    runs = {**pair(), **{f"number {i}": run() for i in range(6)}}
    shown = printed(table(runs, title="Eight"), 80)
    headings = [line.split() for line in shown.splitlines() if line.strip().startswith("Figure")]
    assert len(headings) > 1
    assert all(heading[1] == "dense" for heading in headings)
    assert " ".join(" ".join(h[2:]) for h in headings) == " ".join(list(runs)[1:])
    assert shown.count("Eight") == 1
    assert "…" not in shown
    # No figure is broken.
    assert shown.count("193,280") == 7


def test_a_brief_table_has_ten_rows_within_80_columns() -> None:
    text = printed(table(pair(), brief=True), 80)
    assert {row.label for row in figures.ROWS} > MAIN
    assert len(MAIN) == 10
    assert max(map(len, text.splitlines())) <= 80
    assert row(table(pair(), brief=True), "Non-zero weights")[2:4] == ["1,716,000", "193,280"]
    console = Console(width=80, color_system=None)
    with console.capture() as caught:
        show(table(pair(), brief=True), console)
    for label in (figures.TIME, "Time, engine, batch 64", "Size of model.onnx"):
        assert f" {label} " in caught.get()  # on one line
    assert "of 1,716,000" not in text
    assert "Loss" not in text
    assert "Times: 1 thread" in " ".join(text.split())


def test_of_a_long_frontier_the_best_are_shown() -> None:
    fake = experiment(120)
    text = printed(frontier_table(fake, most=2))
    (heads,) = (line.split() for line in text.splitlines() if line.strip().startswith("Trial "))
    assert heads == ["Trial", *(f"{trial.number}" for trial in fake.frontier.trials[:2])]
    assert len(fake.frontier.trials) > 2
    assert f"{len(fake.frontier.trials)} trials" in text


def test_one_run_has_no_gain() -> None:
    one = table({"sparse": run()})
    assert "Gain" not in printed(one)
    assert len(row(one, "Accuracy")) == 2


def test_synthetic_data_stands_under_the_table() -> None:
    assert "Synthetic data" in printed(table({"a": run(synthetic=True)}))
    assert "Synthetic data" not in printed(table(pair()))


def test_names_are_not_markup() -> None:
    shown = printed(table({"[bold]x[/bold]": run(), "[/red]": run()}, title="[blue]t[/nothing]"))
    assert "[bold]x[/bold]" in shown
    assert "[/red]" in shown
    assert "[blue]t[/nothing]" in shown


def test_layer_table() -> None:
    shown = layer_table(run(), title="Layers")
    assert row(shown, "conv2") == [
        "conv2",
        "Conv2d",
        "102,400",
        "20,480",
        "20.0 %",
        "9.5 %",
        "10.2 M",
        "2.05 M",
        "195 k",
    ]
    assert len(layer_table({}).rows) == 0


def test_frontier_table_lists_metrics_thresholds_and_parameters() -> None:
    fake = experiment(120)
    best = fake.frontier
    shown = frontier_table(fake)
    text = printed(shown)
    assert "on the frontier, inside the thresholds" in text
    assert "≥\u00a00.965" in text
    assert "measured" in text
    assert "counted" in text
    heads = [line.split()[1:] for line in text.splitlines() if line.strip().startswith("Trial ")]
    assert [int(number) for head in heads for number in head] == [t.number for t in best.trials]
    first = best.trials[0]
    assert row(shown, "accuracy")[1] == f"{first.values['accuracy']:.4g}"
    assert row(shown, "density")[1] == f"{first.values['density']:.4g}"
    assert row(shown, "rule")[1] == first.parameters["rule"]


def test_tables_say_which_trial_was_trained_longer() -> None:
    values = [{"accuracy": 0.97, "density": 0.1}, {"accuracy": 0.98, "density": 0.1}]
    short = record(0, values=values[0])
    fake = snapshot([short, record(1, values=values[1], origin=0, continued=2)])
    assert row(frontier_table(fake), "times as long") == ["times as long", "4"]
    assert "trial 0, 4 times as long" in printed(trials_table(fake))
    assert "as long" not in printed(frontier_table(snapshot([short])))


def test_frontier_table_says_when_nothing_is_inside() -> None:
    fake = experiment(30, (goal("accuracy", "maximize", 0.999), goal("density", "minimize")))
    text = printed(frontier_table(fake))
    assert "no trial is inside the thresholds; the nearest is trial" in text


def test_frontier_table_of_nothing() -> None:
    fake = experiment(0)
    assert "no trial is complete yet" in printed(frontier_table(fake))


def test_narrow_terminal_loses_no_digit() -> None:
    fake = experiment(120)
    frontier = frontier_table(fake)
    for shown in (table(pair()), layer_table(run()), frontier):
        text = printed(shown, width=80)
        assert "…" not in text
        assert max(map(len, text.splitlines())) <= 80


LONG = (
    "network.stem.linear1.weight_density",
    "network.blocks.conv2.weight_density",
    "network.blocks.conv3.activation_density",
    "network.features.expansion.squeeze.weight_density",
    "optimizer.learning_rate",
    "optimizer.learning_rate_final",
    "optimizer.weight_decay",
    "optimizer.momentum",
    "regrow.prune_fraction.start",
    "schedule.rule",
)


def many_parameters(names: tuple[str, ...], trials: int) -> Snapshot:
    """A search whose trials are all on the frontier, the first of them the most accurate."""
    records = []
    for i in range(trials):
        chosen = {name: 1.234e-05 * (j + 1) * (i + 1) ** 3 for j, name in enumerate(names)}
        values = {"accuracy": 0.975 - 0.001 * i, "density": 0.1499 / (i + 1)}
        rule = {"schedule.rule": "constrained"}
        records.append(record(1000 + 37 * i, "complete", chosen | rule, values))
    return snapshot(records, parameters=[Float(name, 0.0, 1.0) for name in names])


def blocks(text: str) -> list[list[list[str]]]:
    """The tables of a printed frontier: lines of words, the heading first."""
    found: list[list[list[str]]] = []
    for line in text.splitlines():
        words = line.split()
        if words[:1] == ["Trial"]:
            found.append([])
        if found and words:
            found[-1].append(words)
    return found


def test_frontier_of_long_names_breaks_no_name_and_no_number_in_80_columns() -> None:
    fake = many_parameters(LONG, 7)
    text = printed(frontier_table(fake), width=80)
    assert max(map(len, text.splitlines())) <= 80
    numbers = []
    for heading, *lines in blocks(text):
        shown = [int(number.replace(",", "")) for number in heading[1:]]
        numbers += shown
        records = [next(r for r in fake.trials if r.number == number) for number in shown]
        for name in ("accuracy", "density"):
            assert [name, *(f"{r.values[name]:.4g}" for r in records)] in lines
        for name in LONG[:-1]:
            assert [name, *(units.plain(r.parameters[name]) for r in records)] in lines
        assert ["schedule.rule", *("constrained" for _ in records)] in lines
        assert ["maximize,", "≥", "0.965,", "measured"] in lines
        assert ["minimize,", "≤", "0.15,", "counted"] in lines
    assert numbers == [1000 + 37 * i for i in range(7)]


def test_short_names_leave_room_for_more_trials_side_by_side() -> None:
    def side_by_side(names: tuple[str, ...]) -> list[int]:
        fake = many_parameters(names, 7)
        text = printed(frontier_table(fake), width=80)
        return [len(heading) - 1 for heading, *_ in blocks(text)]

    assert side_by_side(("optimizer.learning_rate",)) == [4, 3]
    assert side_by_side(("x" * 60, "y")) == [1] * 7


def test_values_that_miss_their_threshold_are_red() -> None:
    goals = (goal("accuracy", "maximize", 0.9999), goal("density", "minimize", 0.15))
    fake = many_parameters(LONG, 3)
    fake = dataclasses.replace(fake, metrics=goals)
    console = Console(width=80, color_system="standard", force_terminal=True, no_color=False)
    with console.capture() as caught:
        console.print(frontier_table(fake))
    red = re.findall(r"\x1b\[31m\s*([\d.]+)", caught.get())
    assert red == ["0.975"]  # the nearest alone is shown: no other is nearer in anything
