"""``gossamer export``: a trained network as ONNX or as C."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from gossamer.cli.main import app
from gossamer.errors import UserError

_out = Console()


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
) -> None:
    """Write a run's network as ONNX, checked against torch, or as C."""
    if as_c:
        _write_c(run, out or Path("model.c"))
        return
    if run.suffix == ".onnx" and run.is_file():
        raise UserError(f"{run} is an ONNX file already; add --c to write it as C")
    import torch

    from gossamer.nn import export as write
    from gossamer.training import load_description, load_network

    out = out or Path("model.onnx")
    model, _, shape = load_network(run)
    generator = torch.Generator().manual_seed(0)
    example = torch.randn(2, *shape, generator=generator)
    write(model, example, out, load_description(run))
    _out.print(f"{out}: {out.stat().st_size:,} bytes, agrees with torch", highlight=False)


def _write_c(source: Path, out: Path) -> None:
    from gossamer.files import replacing
    from gossamer.runtime.c import to_c

    if source.is_dir():
        source = source / "model.onnx"
        if not source.is_file():
            raise UserError(
                f"{source.parent}: not a run directory with a model.onnx; "
                "give one that 'gossamer train' finished, or an ONNX file"
            )
    text = to_c(source, out.stem)
    with replacing(out) as temporary:
        temporary.write_text(text, encoding="ascii")
    _out.print(f"{out}: {out.stat().st_size:,} bytes of C99; sizes stand at its head",
               highlight=False)  # fmt: skip
