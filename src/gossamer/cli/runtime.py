"""The commands that run networks: ``run``, ``profile``, ``bench``."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gossamer.cli.app import Json, answer, app, print_json
from gossamer.cli.pairs import pairs
from gossamer.console import err, out, say
from gossamer.errors import UserError

if TYPE_CHECKING:
    from gossamer.runtime import Engine


Model = Annotated[Path, typer.Argument(help="ONNX file.")]
Threads = Annotated[
    int | None, typer.Option(min=1, max=256, help="Threads; all usable cores by default.")
]
PlanFile = Annotated[
    Path | None,
    typer.Option(
        "--plan",
        help="File with the choice of kernels; replaced if made on another machine.",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        min=1, max=1_000_000, help="Examples at a time; all of --input, or one, by default."
    ),
]
InputFile = Annotated[
    Path | None, typer.Option("--input", help=".npy or .npz to measure on; noise by default.")
]
Shapes = Annotated[
    list[str] | None,
    typer.Option(
        "--shape",
        metavar="NAME=SIZES",
        help="Sizes of an input that the file leaves free, as in x=1,3,640,640; -1 first leaves "
        "the batch free. Can be repeated.",
    ),
]


Values = Annotated[
    list[str] | None,
    typer.Option(
        "--value",
        metavar="NAME=NUMBERS",
        help="Numbers of an input that is the same in every call, as in sr=16000; it is then no "
        "input anymore. Can be repeated.",
    ),
]


def _values(texts: list[str] | None) -> dict[str, float | list[float]]:
    def read(written: str) -> float | list[float]:
        numbers = [json.loads(number) for number in written.split(",")]
        if not all(isinstance(number, int | float) for number in numbers):
            raise ValueError
        return numbers if len(numbers) > 1 else numbers[0]

    return pairs("--value", texts, "sr=16000, or x=0.5,1,2", read, str.rpartition)


def _shapes(texts: list[str] | None) -> dict[str, tuple[int, ...]]:
    from gossamer.numbers import digits

    def read(sizes: str) -> tuple[int, ...]:
        return tuple(int(digits(size)) for size in sizes.split(","))

    return pairs("--shape", texts, "x=1,3,640,640", read, str.rpartition)


def _opened(
    model: Path,
    threads: int | None,
    plan: Path | None,
    input_file: Path | None,
    shapes: list[str] | None,
    values: list[str] | None,
) -> tuple[Engine, list[Any] | None]:
    """Return the engine, planned on the inputs of a file if there is one, and these inputs."""
    from gossamer.runtime import Engine, read_arrays
    from gossamer.runtime.importer import read

    graph = read(model, _shapes(shapes), _values(values))
    inputs = None if input_file is None else read_arrays(input_file, graph.inputs)
    with _bar("choosing kernels") as on_progress:
        engine = Engine(graph, threads=threads, plan=plan, sample=inputs, on_progress=on_progress)
    _warn_stale(plan, engine.stale)
    return engine, inputs


def _warn_stale(plan: Path | None, stale: str | None) -> None:
    """Print that a saved plan did not fit and was replaced."""
    if stale is not None:
        say(f"{plan}: {stale}; the kernels were measured again and the file was renewed", err)


@app.command()
def run(
    model: Model,
    input: Annotated[
        Path, typer.Option("--input", help=".npy, or .npz with an array for each input.")
    ],
    output: Annotated[
        Path, typer.Option("--output", help=".npy to write; .npz where there are several outputs.")
    ],
    threads: Threads = None,
    plan: PlanFile = None,
    shape: Shapes = None,
    value: Values = None,
    as_json: Json = False,
) -> None:
    """Run a network on the arrays in a file."""
    from gossamer.files import is_stream, refuse_overwrite
    from gossamer.runtime import write_arrays

    refuse_overwrite(output, (model, input, plan))
    engine, inputs = _opened(model, threads, plan, input, shape, value)
    assert inputs is not None
    started = time.perf_counter()
    results = engine(*inputs)
    seconds = time.perf_counter() - started
    outputs = dict(
        zip(engine.graph.outputs, results if isinstance(results, list) else [results], strict=True)
    )
    write_arrays(output, outputs)
    for name, array in outputs.items():
        if count := int((array != array).sum()):
            say(f"gossamer: {name}: {count:,} of {array.size:,} numbers are NaN", err)
    shapes = {name: list(array.shape) for name, array in outputs.items()}
    if as_json:
        result = {"output": str(output), "shapes": shapes, "seconds": seconds}
        print_json({**result, "threads": engine.threads})
        return
    listed = ", ".join(f"{name} {shape}" for name, shape in shapes.items())
    # A stream holds the array alone.
    say(f"{output}: {listed} in {seconds * 1e3:.3g} ms", err if is_stream(output) else out)


@app.command()
def profile(
    model: Model,
    batch: Batch = None,
    input_file: InputFile = None,
    threads: Threads = None,
    plan: PlanFile = None,
    shape: Shapes = None,
    value: Values = None,
    forecast: Annotated[
        bool,
        typer.Option(
            "--forecast",
            help="Measure instead what each layer would gain from zeros, before anyone trains.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Profile a network: kernel, time, multiply-adds, bytes, for each layer."""
    if forecast:
        from gossamer.deploy import forecast as measure
        from gossamer.deploy.forecast import CHOICES
        from gossamer.report import forecast_table

        if plan is not None:
            raise UserError("--forecast plans networks of its own; leave out --plan")
        sizes, numbers = _shapes(shape), _values(value)
        with _bar("measuring") as on_choice:
            gains = measure(
                model,
                batch=batch,
                threads=threads,
                inputs=input_file,
                shapes=sizes,
                values=numbers,
                choices=CHOICES,
                on_choice=on_choice,
            )
        answer(as_json, gains.as_dict, lambda: forecast_table(gains))
        return
    from gossamer.report import profile_table
    from gossamer.runtime import network_profile
    from gossamer.runtime.arrays import batches

    engine, inputs = _opened(model, threads, plan, input_file, shape, value)
    if inputs is None:
        inputs = engine.noise(batch)
    elif batch is not None and all(len(x) for x in inputs):
        inputs = batches(engine.graph, inputs, batch, 1)[0]
    measured = network_profile(engine, inputs)
    answer(as_json, measured.as_dict, lambda: profile_table(measured, str(model)))


@app.command()
def bench(
    model: Model,
    against: Annotated[
        str, typer.Option(help="Peers, separated by commas: onnxruntime, openvino, torch.")
    ] = "onnxruntime",
    batch: Batch = None,
    input_file: InputFile = None,
    threads: Threads = None,
    turns: Annotated[int, typer.Option(min=3, help="Turns of each contestant.")] = 30,
    plan: PlanFile = None,
    shape: Shapes = None,
    value: Values = None,
    as_json: Json = False,
) -> None:
    """Time a network and other runtimes, which run its dense network and the same file."""
    from gossamer.deploy import bench as measure
    from gossamer.report import bench_table

    names = [name.strip() for name in against.split(",") if name.strip()]
    if not names:
        raise UserError("--against names no peer; write it as --against onnxruntime,torch")
    sizes = _shapes(shape)
    with _bar("choosing kernels") as on_progress, _bar("measuring") as on_turn:
        timed = measure(
            model,
            names,
            batch=batch,
            threads=threads,
            turns=turns,
            inputs=input_file,
            plan=plan,
            shapes=sizes,
            values=_values(value),
            on_progress=on_progress,
            on_turn=on_turn,
        )
    _warn_stale(plan, timed.stale)
    data = asdict(timed) | {"ratios": timed.ratios()}
    answer(as_json, lambda: data, lambda: bench_table(timed))


@contextmanager
def _bar(description: str) -> Iterator[Callable[[int, int], None]]:
    """Show a progress bar from the first step, when all arguments are checked, to the last."""
    from gossamer.progress import progress_bar

    progress = progress_bar(transient=True)
    task = progress.add_task(description, total=None)

    def on_progress(done: int, total: int) -> None:
        progress.update(task, completed=done, total=total)
        if done < total:
            progress.start()
        else:
            progress.stop()

    try:
        yield on_progress
    finally:
        progress.stop()
