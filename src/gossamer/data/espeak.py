"""Speech from text by the espeak-ng library, in a separate process.

The library has global state: its output depends on earlier output, a crash in it would end the
caller, and it can be initialized only once. A new child process speaks each list, so that the same
list always produces the same samples.

This file is also the child's program, which imports nothing of gossamer.
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from array import array
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Utterance:
    """Voice and manner of speech: rate in words per minute (80-450), pitch and its range 0-100."""

    text: str
    voice: str  # a language and a variant of it: "en-us+m3"
    rate: int = 175
    pitch: int = 50
    range: int = 50


def speak(utterances: list[Utterance]) -> tuple[int, list[memoryview]]:
    """Synthesize utterances; return the sampling rate and each utterance's samples (int16).

    Raises RuntimeError, with the reason, if the library is missing or fails.
    """
    request = json.dumps([astuple(utterance) for utterance in utterances])
    # -P: the folder of this file must not come before the installed packages
    command = [sys.executable, "-P", __file__]
    child = subprocess.run(command, input=request.encode(), capture_output=True, check=False)
    if child.returncode != 0:
        reason = child.stderr.decode(errors="replace").strip().splitlines()
        raise RuntimeError(reason[-1] if reason else f"exit status {child.returncode}")
    head = 8 * (1 + len(utterances))
    rate, *lengths = memoryview(child.stdout[:head]).cast("q")
    samples, start, spoken = memoryview(child.stdout[head:]).cast("h"), 0, []
    for length in lengths:
        spoken.append(samples[start : start + length])
        start += length
    return rate, spoken


def _main() -> None:
    import espeakng_loader

    synchronous, utf8, rate_parameter, pitch_parameter, range_parameter = 2, 1, 1, 3, 4
    library = ctypes.CDLL(espeakng_loader.get_library_path())
    parent = str(Path(espeakng_loader.get_data_path()).parent)
    samples_per_second = library.espeak_Initialize(synchronous, 0, parent.encode(), 0x8000)
    if samples_per_second <= 0:
        sys.exit(f"espeak-ng finds no voices in {parent}")
    library.espeak_ng_SetRandSeed(ctypes.c_long(1))  # else the clock seeds what breath some have
    samples = array("h")

    def collect(wave: int | None, count: int, _events: Any) -> int:
        if wave and count > 0:
            samples.frombytes(ctypes.string_at(wave, 2 * count))
        return 0

    signature = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p)
    callback = signature(collect)  # a name of its own: the library keeps only a pointer
    library.espeak_SetSynthCallback(callback)
    head, ends = array("q", [samples_per_second]), 0
    for text, voice, rate, pitch, pitch_range in json.load(sys.stdin):
        if library.espeak_SetVoiceByName(voice.encode()) != 0:
            sys.exit(f"espeak-ng has no voice {voice}")
        library.espeak_SetParameter(rate_parameter, rate, 0)
        library.espeak_SetParameter(pitch_parameter, pitch, 0)
        library.espeak_SetParameter(range_parameter, pitch_range, 0)
        raw = text.encode() + b"\0"
        library.espeak_Synth(raw, ctypes.c_size_t(len(raw)), 0, 1, 0, utf8, None, None)
        library.espeak_Synchronize()
        head.append(len(samples) - ends)
        ends = len(samples)
    sys.stdout.buffer.write(head.tobytes() + samples.tobytes())


if __name__ == "__main__":
    _main()
