"""The embedded default: twelve classes of synthetic speech, made on first use."""

from __future__ import annotations

import hashlib
import importlib.metadata
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gossamer.data.archives import read_npz
from gossamer.data.audio import RATE, Sound, cut, floats, int16, resample
from gossamer.data.download import Root, cache_folder
from gossamer.data.espeak import Utterance, speak
from gossamer.data.scenes import Wave, babble, colored, hum, level, reverberate
from gossamer.data.speech_commands import CLASSES, SILENCE, WORDS
from gossamer.data.task import Split, Task
from gossamer.errors import UserError
from gossamer.extras import needed
from gossamer.files import writing

_VERSION = 1  # raise it with every change to how clips are made: caches carry it in their name


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


_OTHERS = _names("bed cat eight five four happy house nine seven six three two")
_ACCENTS = _names("en en-us en-gb-scotland en-gb-x-gbcwmd en-gb-x-rp en-us-nyc")
# variants of espeak-ng that pass for people: not its whispers, robots and the few oddest ones,
# which a network that has not heard them mistakes for other words
_VOICES = _names(
    """
    Alex Andrea Andy Annie Denis Diogo Gene Gene2 Henrique Hugo Jacky Marco Mario Michael Mike
    Nguyen Reed RicishayMax RicishayMax2 Storm Tweaky adam anika announcer antonio aunty belinda
    benjamin boris caleb david ed edward edward2 f1 f2 f3 f4 f5 grandma grandpa gustave ian iven
    iven2 iven3 john klatt3 klatt4 klatt6 linda m1 m2 m3 m4 m5 m6 m7 m8 marcelo max michel miguel
    mike2 pablo paul pedro quincy rob robert sandro steph steph2 travis victor
    """
)
_SHARES = {"train": 0.70, "validation": 0.15, "test": 0.15}  # of the voices and of the clips
_NOISE_SECONDS = 20
_LOUDNESS = (-30.0, -15.0)  # of the word, dB below full scale
_SNR = (15.0, 40.0)  # of the word to the background, dB
_DECAY = (0.05, 0.4)  # of the reverberation by 60 dB, seconds
_WET = (0.0, 0.05)  # energy of the reverberation to that of the direct sound
_SHIFT = 0.15  # of the word from the middle of the clip, seconds
_RATE, _PITCH, _RANGE = (130, 230), (20, 80), (20, 80)  # words per minute, espeak's scales
_LEAST = 84  # clips: one of each class in validation and in test


def spoken_words(root: Root = None, *, clips: int = 2_400, seed: int = 0) -> Task:
    """Make ten command words, *unknown* and *silence*, spoken by the espeak-ng synthesizer.

    Synthetic speech is for a first look and for tests; it does not measure a network on real
    speech. There are ``clips`` clips (at least 84) of one second at 16 kHz, equally many of each
    class, 70 / 15 / 15 % for training, validation and test; no voice or noise is in two splits.
    Voice, accent, rate, pitch, intonation, loudness, reverberation, background noise and the
    position in the second vary at random, equally for equal ``seed``. *unknown* is one of twelve
    other words, *silence* background noise alone.

    The clips are made on first use and saved in ``root``, by default the cache folder. If it
    cannot be written, this warns, and the clips are made again next time. Raises UserError if the
    synthesizer fails.
    """
    if clips < _LEAST:
        raise UserError(f"spoken_words: clips must be at least {_LEAST}, not {clips}")
    folder = Path(root).expanduser() if root is not None else cache_folder()
    with needed("the task spoken_words", "speech"):
        synthesizer = importlib.metadata.version("espeakng-loader")
    speech = (synthesizer, clips, seed, WORDS, _OTHERS, _ACCENTS, _VOICES, _RATE, _PITCH, _RANGE)
    scene = (_LOUDNESS, _SNR, _DECAY, _WET, _SHIFT, _NOISE_SECONDS)
    digest = hashlib.sha256(repr((speech, scene)).encode()).hexdigest()[:12]
    path = folder / f"spoken_words-v{_VERSION}-{clips}-{digest}.npz"
    arrays = _read(path)
    if arrays is None:
        arrays = _synthesize(clips, seed)
        _write(path, arrays)
    splits = {name: Split(arrays[f"x_{name}"], arrays[f"y_{name}"]) for name in _SHARES}
    return Task(
        name="spoken_words",
        classes=CLASSES,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        domain=Sound.fitted(splits["train"].x, arrays["background"]),
        source=f"SYNTHETIC speech by espeak-ng (espeakng-loader {synthesizer}), no recordings",
        synthetic=True,
    )


def _synthesize(clips: int, seed: int) -> dict[str, NDArray[Any]]:
    voices = np.random.default_rng(seed).permutation(_VOICES).tolist()
    arrays: dict[str, NDArray[Any]] = {}
    first = 0
    for number, (name, share) in enumerate(_SHARES.items()):
        last = first + round(share * len(voices))
        rng = np.random.default_rng([seed, number])
        x, y, noise = _split(round(share * clips / len(CLASSES)), voices[first:last], rng)
        arrays[f"x_{name}"], arrays[f"y_{name}"] = x, y
        if name == "train":
            arrays["background"] = noise
        first = last
    return arrays


def _split(
    each: int, voices: list[str], rng: np.random.Generator
) -> tuple[NDArray[np.int16], NDArray[np.int64], NDArray[np.int16]]:
    """Return ``each`` clips of every class, their labels and the noise that was mixed in."""
    others = [_OTHERS[index % len(_OTHERS)] for index in range(each)]
    texts = [word for word in WORDS for _ in range(each)] + others
    spoken = _say(texts, voices, rng)
    noises = _noises(spoken[-each:], rng)
    y = np.repeat(np.arange(len(CLASSES)), each)
    x = np.empty((len(y), RATE), np.int16)
    for row, label in enumerate(y):
        noise = noises[rng.integers(len(noises))]
        start = rng.integers(0, len(noise) - RATE, 1, endpoint=True)
        background = cut(noise, start)[0]
        if label == SILENCE:
            x[row] = int16(level(background, rng.uniform(-60.0, -25.0)))
            continue
        loudness = rng.uniform(*_LOUDNESS)
        word = reverberate(spoken[row], rng.uniform(*_DECAY), rng.uniform(*_WET), rng)
        placed = _place(level(word, loudness), len(spoken[row]), rng)
        x[row] = int16(placed + level(background, loudness - rng.uniform(*_SNR)))
    order = rng.permutation(len(y))
    return x[order], y[order], int16(np.concatenate([level(noise, -20.0) for noise in noises]))


def _say(words: list[str], voices: list[str], rng: np.random.Generator) -> list[Wave]:
    """Speak each word with a random voice at 16 kHz, without the quiet before and after."""
    utterances = [
        Utterance(
            text=word + str(rng.choice(["", "?", "!", ","])),
            voice=f"{rng.choice(_ACCENTS)}+{rng.choice(voices)}",
            rate=int(rng.integers(*_RATE)),
            pitch=int(rng.integers(*_PITCH)),
            range=int(rng.integers(*_RANGE)),
        )
        for word in words
    ]
    try:
        rate, spoken = speak(utterances)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f"spoken_words: the speech synthesizer failed ({error}): reinstall espeakng-loader, "
            f"or choose another task"
        ) from error
    waves = []
    for samples in spoken:
        wave = resample(floats(np.array(samples, np.int16)), rate, RATE)
        loud = np.flatnonzero(np.abs(wave) > 0.01 * np.abs(wave).max(initial=1e-3))
        waves.append(wave[loud[0] : loud[-1] + 1] if len(loud) else wave)
    return waves


def _noises(words: list[Wave], rng: np.random.Generator) -> list[Wave]:
    samples = _NOISE_SECONDS * RATE
    tones = [colored(samples, exponent, rng) for exponent in (0.0, 1.0, 2.0)]
    return [*tones, hum(samples, rng), babble(samples, words, 6, rng)]


def _place(word: Wave, dry: int, rng: np.random.Generator) -> Wave:
    """Place a word near the middle of a second; a word that fits loses only reverberation."""
    start = (RATE - dry) // 2 + int(rng.uniform(-_SHIFT, _SHIFT) * RATE)
    start = min(max(start, 0), max(0, RATE - dry))
    out = np.zeros(RATE, np.float32)
    piece = word[: RATE - start]
    out[start : start + len(piece)] = piece
    return out


def _read(path: Path) -> dict[str, NDArray[Any]] | None:
    """Read the arrays of a cache file; None if it is absent or damaged (then it is made again)."""
    try:
        return read_npz(path)
    except (OSError, ValueError):
        return None


def _write(path: Path, arrays: dict[str, NDArray[Any]]) -> None:
    """Write to a temporary name, then rename, so that other processes see a whole file or none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path) as file:
            np.savez(file, **arrays)  # type: ignore[arg-type]
    except (OSError, UserError) as error:
        warnings.warn(f"spoken_words: not saved for next time: {error}", stacklevel=3)
