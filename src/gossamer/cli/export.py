"""``gossamer export``: a trained network as ONNX or as C."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from gossamer import console
from gossamer.cli.app import Trust, app
from gossamer.console import say
from gossamer.errors import UserError
from gossamer.files import copy_file, is_stream, refuse_overwrite, write_text

if TYPE_CHECKING:
    from torch import nn

# Examples by which --int8 finds the ranges of activations.
_CALIBRATED = 512


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run directory; with --c also an ONNX file.")],
    out: Annotated[
        Path | None,
        typer.Option(
            "-o", "--out", help="File to write; model.onnx or model.c.", show_default=False
        ),
    ] = None,
    as_c: Annotated[
        bool, typer.Option("--c", help="Write one self-contained C99 file instead.")
    ] = False,
    int8: Annotated[
        bool,
        typer.Option("--int8", help="Give a 32-bit network 8-bit weights and activations."),
    ] = False,
    float16: Annotated[
        bool,
        typer.Option("--float16", help="Round the weights to 16 bits: half the bytes."),
    ] = False,
    calibrate: Annotated[
        Path | None,
        typer.Option(
            help="With --int8: inputs as an .npy file; default: training examples of the run's "
            "task.",
            show_default=False,
        ),
    ] = None,
    trust: Trust = False,
) -> None:
    """Write a run's network as ONNX, or as C.

    A reference network is built again and checked against torch. For a network of your own, export
    copies the file that training wrote, unless --trust lets it run your Python code.
    """
    if calibrate is not None and not int8:
        raise UserError("--calibrate needs --int8; add it, or leave --calibrate out")
    files = ("config.toml", "metrics.json", "model.onnx", "model.safetensors")
    suffix = ".c" if as_c else ".onnx"
    out = out or Path(f"model{suffix}")
    refuse_overwrite(out, (run, calibrate, *(run / name for name in files)))
    if out.suffix != suffix and not is_stream(out):
        written = "C" if as_c else "ONNX; --c writes C"
        raise UserError(f"{out}: name a file that ends in {suffix}: export writes {written}")
    if int8 and float16:
        raise UserError("--int8 and --float16 exclude each other; leave one out")
    if as_c:
        if int8 or float16:
            option = "--int8" if int8 else "--float16"
            raise UserError(f"{option} writes ONNX: export without --c, then that file with --c")
        _write_c(run, out)
        return
    if run.suffix == ".onnx" and run.is_file():
        raise UserError(f"{run} is an ONNX file already; add --c to write it as C")
    import torch

    from gossamer.models import MODELS
    from gossamer.nn import export as write
    from gossamer.training import load_config, load_description, load_network, onnx_of

    if not (trust or int8 or float16 or load_config(run)["model"] in MODELS):
        copy_file(onnx_of(run), out)
        _written(out, "as training wrote it")
        return
    model, _, shape = load_network(run, trust=trust)
    if int8:
        _to_8_bits(model, run, calibrate, shape, trust=trust)
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, *shape, generator=generator)
    write(model, example, out, load_description(run), float16=float16)
    floats = run / "model.onnx"
    fewer = (int8 or float16) and floats.is_file()
    beside = f"in 32 bits {floats.stat().st_size:,}; " if fewer else ""
    _written(out, f"{beside}agrees with torch")


def _to_8_bits(
    model: nn.Module, run: Path, inputs: Path | None, shape: tuple[int, ...], *, trust: bool
) -> None:
    import numpy as np
    import torch

    from gossamer.nn import quantize
    from gossamer.runtime.arrays import read_arrays
    from gossamer.training import EXAMPLES, load_recipe

    if inputs is None and (run / EXAMPLES).is_file():
        inputs = run / EXAMPLES
    if inputs is not None:
        (array,) = read_arrays(inputs, ["input"])
        if array.shape[1:] != shape or not array.size or array.dtype.kind not in "fiub":
            raise UserError(
                f"{inputs}: holds {array.dtype} {list(array.shape)}, the network takes numbers "
                f"[batch, {', '.join(map(str, shape))}]"
            )
        with np.errstate(over="ignore"):  # infinity is refused below
            x = np.array(array[:_CALIBRATED], np.float32)
    else:
        task = load_recipe(run, trust=trust).load()
        x = task.features(task.train.x[:_CALIBRATED])
    quantize(model, torch.from_numpy(x))


def _write_c(source: Path, out: Path) -> None:
    from gossamer.runtime.c.source import to_c

    if source.is_dir():
        source = source / "model.onnx"
        if not source.is_file():
            raise UserError(
                f"{source.parent}: not a run directory with a model.onnx; "
                "give one that 'gossamer train' finished, or an ONNX file"
            )
    text = to_c(source, out.stem)
    write_text(out, text)
    _written(out, "C99; its head lists the sizes")


def _written(out: Path, about: str) -> None:
    """Report what was written; on standard error if the file goes to standard output."""
    stream = is_stream(out)
    size = "" if stream else f"{out.stat().st_size:,} bytes, "
    say(f"{out}: {size}{about}", console.err if stream else console.out)
