"""Where sound comes from: files, standard input, a microphone; always in blocks of 100 ms."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gossamer.data.audio import floats, read
from gossamer.errors import UserError
from gossamer.listen.windows import Wave

#: Formats of raw samples, little-endian.
FORMATS = {"s16le": "<i2", "f32le": "<f4"}


def from_file(path: Path, rate: int) -> Iterator[Wave]:
    """A WAV or FLAC file, mixed to one channel and resampled to ``rate``.

    Raises:
        UserError: it cannot be read.
    """
    sound = floats(read(path, rate))
    block = rate // 10
    for start in range(0, len(sound), block):
        yield sound[start : start + block]


def from_stream(
    stream: BinaryIO, rate: int, given: int | None = None, form: str = "s16le"
) -> Iterator[Wave]:
    """Raw samples of one channel, as ``arecord -t raw`` or ``ffmpeg -f s16le`` write them.

    Args:
        stream: bytes; read until it ends.
        rate: samples per second to give.
        given: samples per second that come in, ``rate`` if not said.
        form: a key of :data:`FORMATS`.

    Raises:
        UserError: an unknown format, or a rate that needs the package ``soxr`` and it is absent.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format '{form}': one of {', '.join(FORMATS)}")
    dtype = np.dtype(FORMATS[form])
    given = given or rate
    convert = None if given == rate else _converter(given, rate)
    while data := stream.read(given // 10 * dtype.itemsize):
        whole = len(data) // dtype.itemsize * dtype.itemsize
        block = floats(np.frombuffer(data[:whole], dtype).astype(dtype.newbyteorder("=")))
        yield block if convert is None else convert(block)


def _converter(given: int, rate: int) -> Callable[[Wave], Wave]:
    """A resampler that remembers the blocks before, so that their borders are not heard."""
    try:
        import soxr
    except ImportError:
        raise UserError(
            f"sound of {given} samples a second, the network takes {rate}: convert it, or "
            "pip install 'gossamer[listen]' for the package soxr, which does so here"
        ) from None
    stream = soxr.ResampleStream(given, rate, 1, dtype="float32")
    return lambda block: np.asarray(stream.resample_chunk(block), np.float32)


def from_microphone(rate: int, device: str | None = None) -> Iterator[Wave]:
    """The default microphone, or the named one, until interrupted.

    Raises:
        UserError: ``sounddevice`` is not installed, or there is no such microphone.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: the package without PortAudio
        raise UserError(
            f"a microphone needs the package sounddevice and PortAudio ({error}): "
            "pip install 'gossamer[listen]', or give --wav FILE or --stdin"
        ) from None
    blocks: queue.SimpleQueue[Wave] = queue.SimpleQueue()

    def take(data: Any, frames: int, moment: Any, status: Any) -> None:
        blocks.put(data[:, 0].copy())

    try:
        stream = sounddevice.InputStream(
            rate, rate // 10, device, channels=1, dtype="float32", callback=take
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(
            f"no microphone can be opened ({error}): give --wav FILE or --stdin"
        ) from None
    with stream:
        while True:
            yield blocks.get()
