"""Sources of sound, in blocks of 100 ms: files, standard input, a microphone."""

from __future__ import annotations

import queue
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from gossamer.data.audio import floats, read
from gossamer.errors import UserError
from gossamer.extras import needed
from gossamer.listen.windows import Wave

#: Formats of raw samples, little-endian.
FORMATS = {"s16le": "<i2", "f32le": "<f4"}

_HEADERS = (b"RIFF", b"RIFX", b"RF64", b"fLaC", b"OggS", b"FORM", b"caff")
_LOUDEST = 1e6  # full scale is 1; bytes of another format, read as floats, go far beyond
_SILENT = 3  # seconds without a block after which a microphone counts as gone


def from_file(path: Path, rate: int) -> Iterator[Wave]:
    """Yield blocks of a WAV or FLAC file, mixed to one channel and resampled to ``rate`` hertz.

    Raises:
        UserError: it cannot be read.
    """
    sound = floats(read(path, rate, silence=True))  # the score tells of silence
    block = rate // 10
    return (sound[start : start + block] for start in range(0, len(sound), block))


def from_stream(
    stream: BinaryIO, rate: int, source_rate: int | None = None, form: str = "s16le"
) -> Iterator[Wave]:
    """Yield blocks of raw samples of one channel, from ``arecord -t raw`` or ``ffmpeg -f s16le``.

    Args:
        stream: stream of bytes; read until it ends.
        rate: samples per second of the blocks.
        source_rate: samples per second of the stream, ``rate`` by default.
        form: a key of :data:`FORMATS`.

    Raises:
        UserError: an unknown format, samples that are not of the format, or a rate that needs
            the package ``soxr`` and it is not installed.
    """
    if form not in FORMATS:
        raise UserError(f"unknown format '{form}': one of {', '.join(FORMATS)}")
    source_rate = source_rate or rate
    return _read(stream, source_rate, form, _converter(source_rate, rate))


def _read(
    stream: BinaryIO, source_rate: int, form: str, convert: Callable[[Wave], Wave]
) -> Iterator[Wave]:
    dtype = np.dtype(FORMATS[form])
    first = True
    while data := stream.read(source_rate // 10 * dtype.itemsize):
        if first and data.startswith(_HEADERS):
            raise UserError("the input is a sound file, not raw samples: give it as --wav FILE")
        first = False
        whole = len(data) // dtype.itemsize * dtype.itemsize
        block = floats(np.frombuffer(data[:whole], dtype).astype(dtype.newbyteorder("=")))
        if not (np.abs(block) < _LOUDEST).all():  # NaN too
            others = " or ".join(name for name in FORMATS if name != form)
            raise UserError(f"the input is no sound in format {form}: are its samples {others}?")
        yield convert(block)


def _converter(source_rate: int, rate: int) -> Callable[[Wave], Wave]:
    """Return a resampler with memory, so that there is no click between blocks."""
    if source_rate == rate:
        return lambda block: block
    with needed(f"sound of {source_rate} samples a second, where the network takes {rate},"):
        import soxr
    stream = soxr.ResampleStream(source_rate, rate, 1, dtype="float32")
    return lambda block: np.asarray(stream.resample_chunk(block), np.float32)


def from_microphone(rate: int, device: str | None = None) -> Iterator[Wave]:
    """Yield blocks of a microphone's first channel until interrupted, resampled if needed.

    Args:
        rate: samples per second of the blocks.
        device: number or part of the name of the device, by default the system's.

    Raises:
        UserError: ``sounddevice`` is not installed, there is no such microphone, it has another
            rate and the package ``soxr`` is not installed, or it is disconnected.
    """
    try:
        import sounddevice
    except (ImportError, OSError) as error:  # OSError: without the library PortAudio
        raise UserError(
            f"a microphone needs the package sounddevice and PortAudio ({error}): "
            "pip install 'gossamer[listen]', on Debian also apt install libportaudio2; or give "
            "--wav FILE or --stdin"
        ) from None
    blocks: queue.SimpleQueue[Wave] = queue.SimpleQueue()

    def take(data: Any, frames: int, moment: Any, status: Any) -> None:
        blocks.put(data[:, 0].copy())

    chosen = int(device) if device is not None and device.isdecimal() else device
    try:
        source_rate, channels = _accepted(sounddevice, chosen, rate)
        convert = _converter(source_rate, rate)
        stream = sounddevice.InputStream(
            source_rate,
            source_rate // 10,
            chosen,
            channels=channels,
            dtype="float32",
            callback=take,
        )
    except (sounddevice.PortAudioError, ValueError) as error:
        raise UserError(
            f"no microphone can be opened ({error}): 'python -m sounddevice' lists what there is, "
            "for --device; or give --wav FILE or --stdin"
        ) from None
    return _heard(stream, blocks, convert)


def _accepted(sounddevice: Any, device: int | str | None, rate: int) -> tuple[int, int]:
    """Return a rate and a number of channels of the microphone, ``rate`` and 1 if possible."""
    info = sounddevice.query_devices(device, "input")
    own, most = round(info["default_samplerate"]), int(info["max_input_channels"])
    for source_rate, channels in ((rate, 1), (own, 1), (rate, most)):
        try:
            sounddevice.check_input_settings(device, channels, "float32", samplerate=source_rate)
        except sounddevice.PortAudioError:
            continue
        return source_rate, channels
    return own, most  # opening it says what is wrong


def _heard(
    stream: Any, blocks: queue.SimpleQueue[Wave], convert: Callable[[Wave], Wave]
) -> Iterator[Wave]:
    try:
        stream.start()
        while True:
            yield convert(blocks.get(timeout=_SILENT))
    except queue.Empty:
        raise UserError(
            f"the microphone has sent nothing for {_SILENT} seconds: is it still plugged in?"
        ) from None
    finally:
        # Not stop(): that would wait for a device which may be gone.
        stream.abort(ignore_errors=True)
        stream.close(ignore_errors=True)
