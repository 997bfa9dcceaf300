"""``gossamer listen``: a keyword spotter on a microphone, on files or on standard input."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gossamer.cli.app import Json, app, print_json
from gossamer.console import err, say
from gossamer.errors import UserError

if TYPE_CHECKING:
    from gossamer.listen import Detection, Spotter


@app.command()
def listen(
    model: Annotated[Path, typer.Argument(help="ONNX file of a network trained on sound.")],
    wav: Annotated[
        list[Path] | None, typer.Option(help="WAV or FLAC file in place of the microphone; repeat.")
    ] = None,
    stdin: Annotated[bool, typer.Option(help="Raw samples of one channel on input.")] = False,
    rate: Annotated[
        int | None,
        typer.Option(min=1000, help="With --stdin: samples per second; as trained by default."),
    ] = None,
    form: Annotated[str, typer.Option("--format", help="With --stdin: s16le or f32le.")] = "s16le",
    device: Annotated[str | None, typer.Option(help="Number or name of the microphone.")] = None,
    labels: Annotated[
        str | None, typer.Option(help="Class names, comma-separated, in place of the file's.")
    ] = None,
    threshold: Annotated[float, typer.Option(help="Smoothed posterior to report.")] = 0.8,
    smoothing: Annotated[int, typer.Option(help="Windows averaged.")] = 3,
    refractory: Annotated[float, typer.Option(help="Seconds of quiet after a detection.")] = 1.0,
    as_json: Json = False,
) -> None:
    """Report keywords in sound as they are heard; Ctrl-C ends."""
    from gossamer.listen import Spotter, from_file, from_microphone, from_stream

    if wav and stdin:
        raise UserError("--wav and --stdin exclude each other; leave one out")
    if not stdin and (rate is not None or form != "s16le"):
        raise UserError("--rate and --format are for --stdin only; a sound file has its own")
    if device is not None and (wav or stdin):
        raise UserError("--device is for a microphone; leave it out, or --wav and --stdin")

    spotter = Spotter(
        model,
        classes=None if labels is None else [name.strip() for name in labels.split(",")],
        threshold=threshold,
        smoothing=smoothing,
        refractory=refractory,
    )
    paths: list[Path | None] = [*(wav or [])] or [None]
    for path in paths:
        spotter.restart()  # each file's time starts at 0
        if path is not None:
            blocks, name = from_file(path, spotter.rate), str(path)
        elif stdin:
            blocks, name = from_stream(sys.stdin.buffer, spotter.rate, rate, form), "input"
        else:
            blocks, name = from_microphone(spotter.rate, device), "microphone"
        _follow(spotter, blocks, name, as_json)
        if spotter.score.windows < smoothing:
            say(
                f"gossamer: {name} is too short for a detection: --smoothing averages {smoothing} "
                f"windows, it has {spotter.score.windows}",
                err,
            )


def _follow(spotter: Spotter, blocks: Iterator[Any], name: str, as_json: bool) -> None:
    from gossamer.data.audio import QUIET

    clock, processor = time.perf_counter(), time.process_time()
    if not as_json:
        words = ", ".join(spotter.detector.keywords)
        say(f"{name}: listening for {words}")
    broken = None
    try:
        for detection in spotter.listen(blocks):
            _print(detection, name, as_json)
    except KeyboardInterrupt:
        pass  # the usual end of listening
    except UserError as error:
        if not spotter.score.sound_seconds:
            raise
        broken = error  # what was heard until then counts
    share = (time.process_time() - processor) / max(time.perf_counter() - clock, 1e-9)
    score = spotter.score
    if as_json:
        factor = {"real_time_factor": score.real_time_factor, "cpu_share": share}
        print_json({"source": name, **asdict(score), **factor})
    else:
        network = score.network_seconds / max(score.windows, 1) * 1e6
        say(
            f"{name}: {score.detections} keywords in {score.sound_seconds:.1f} s of sound; "
            f"{score.real_time_factor:.4f} s of work a second of sound "
            f"({network:.0f} us a window in the network), CPU share {share:.1%}"
        )
    if broken is not None:
        raise broken
    if score.peak < QUIET:
        say(f"gossamer: {name} is almost silent (below -60 dB of full scale)", err)


def _print(detection: Detection, name: str, as_json: bool) -> None:
    if as_json:
        print_json({"source": name, **asdict(detection)})
    else:
        minutes, seconds = divmod(detection.seconds, 60)
        say(f"  {int(minutes):3d}:{seconds:05.2f}  {detection.keyword}  {detection.confidence:.2f}")
