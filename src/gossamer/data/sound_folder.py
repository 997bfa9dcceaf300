"""A user's sounds: a folder for each word."""

from __future__ import annotations

import hashlib
import os
import re
import warnings
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gossamer.data.audio import RATE, Sound, is_sound, read, read_clips, silence
from gossamer.data.task import SPLITS, Split, Task, warn_of_overlap
from gossamer.errors import UserError

_NOISE = "_background_noise_"
_SHARE = 0.15  # of the speakers, or of a word's files, for validation and for test each
_SEED = 1804
_OTHERS = (".aac", ".aif", ".aiff", ".m4a", ".mp3", ".ogg", ".opus", ".wma")
_SPEAKER = re.compile(r"(?:.*_)?([^_]+)_nohash_.*")


def from_folder(path: str | os.PathLike[str]) -> Task:
    """Make a task of sounds in ``path/WORD/*.wav`` (or FLAC), with classes in alphabetical order.

    Files may have any rate, width and number of channels; each becomes one second at 16 kHz, cut
    or filled up at its end. Files named ``SPEAKER_nohash_N.wav``, as in Speech Commands, are split
    by speaker, so that no speaker is in two splits; of others each word's files are split. 70 /
    15 / 15 % are for training, validation and test, always the same ones.

    ``_unknown_`` contains other words, ``_silence_`` no speech; both are classes. Augmentation
    mixes in recordings from ``_background_noise_``; without a folder ``_silence_``, that class is
    cut from them.

    Warns of folders without sounds, of sounds elsewhere or in other formats, of recordings of noise
    shorter than a second, which are left out, and of sounds that are in two splits or of two words.
    Raises UserError for fewer than two classes, two folders of one class's name, a word with too
    few files or speakers, and files that cannot be read.
    """
    root = Path(path)
    folders = sorted(f for f in root.iterdir() if f.is_dir() and not f.name.startswith((".", "__")))
    sounds = {folder.name: sorted(filter(is_sound, folder.iterdir())) for folder in folders}
    noise_files = sounds.pop(_NOISE, [])
    for word in sounds:
        if not sounds[word]:
            warnings.warn(f"{root / word}: no WAV or FLAC file in it; left out", stacklevel=2)
    sounds = {word: files for word, files in sounds.items() if files}
    unread = sorted(filter(is_sound, [*root.iterdir(), *root.glob("__*/*")])) + [
        file
        for word in sounds
        for file in sorted((root / word).iterdir())
        if file.suffix.lower() in _OTHERS or (file.is_dir() and not file.name.startswith("."))
    ]
    if unread:
        also = f", nor {len(unread) - 1:,} others" if len(unread) > 1 else ""
        warnings.warn(
            f"{unread[0]} is not read{also}: sounds are WAV or FLAC files in the word's own "
            "folder, whose name does not begin with '__'",
            stacklevel=2,
        )
    names = sorted(sounds, key=lambda word: word.strip("_"))
    if len(names) < 2:
        raise UserError(
            f"{root}: needs at least two folders with WAV or FLAC files, one for each word; "
            f"found {', '.join(names) or 'none'}"
        )
    split = _splits(sounds)
    noises = [n for n in (read(file) for file in noise_files) if len(n) >= RATE]
    if len(noises) < len(noise_files):
        short = len(noise_files) - len(noises)
        warnings.warn(f"{root / _NOISE}: {short} files shorter than 1 s; left out", stacklevel=2)
    classes = [name.strip("_") for name in names]
    for before, after in pairwise(names):
        if before.strip("_") == after.strip("_"):
            raise UserError(f"{root}: {before} and {after} are one class's name; rename a folder")
    if noises and "silence" not in classes:
        classes.append("silence")
    rng = np.random.default_rng(_SEED)
    parts = {}
    heard: dict[int, tuple[Path, int]] = {}
    alike: list[tuple[Path, Path]] = []
    for part in SPLITS:
        files = [
            (file, label)
            for label, word in enumerate(names)
            for file in sounds[word]
            if split[file] == part
        ]
        y = np.array([label for _, label in files], np.int64)
        absent = set(range(len(names))) - set(y.tolist())
        if absent:
            raise UserError(
                f"{root / names[min(absent)]}: no files for {part}; record more, of more speakers"
            )
        quiet = {file for file, label in files if classes[label] == "silence"}
        x = read_clips([file for file, _ in files], silent=quiet)
        for clip, (file, label) in zip(x, files, strict=True):
            other, others = heard.setdefault(hash(clip.tobytes()), (file, label))
            if others != label and clip.any():
                alike.append((other, file))
        if len(classes) > len(names):
            count = max(1, round(len(y) / len(names)))
            x = np.concatenate([x, silence(noises, count, rng)])
            y = np.append(y, np.full(count, len(names)))
        parts[part] = Split(x, y)
    if alike:
        one, two = sorted(alike[0])
        also = f", and so do {len(alike) - 1:,} more" if len(alike) > 1 else ""
        warnings.warn(
            f"{one} and {two}, of two words, contain the same second of sound{also}; keep each in "
            "one word's folder",
            stacklevel=2,
        )
    background: NDArray[np.int16] = np.concatenate(noises) if noises else np.zeros(0, np.int16)
    return warn_of_overlap(
        Task(
            name=root.resolve().name,
            classes=tuple(classes),
            train=parts["train"],
            validation=parts["validation"],
            test=parts["test"],
            domain=Sound.fitted(parts["train"].x, background),
            source="the user's own recordings",
        )
    )


def _splits(sounds: dict[str, list[Path]]) -> dict[Path, str]:
    """Return the split of each file: the split of its speaker, if its name contains one."""
    speakers: dict[str, list[Path]] = {}
    splits: dict[Path, str] = {}
    for word, files in sounds.items():
        others = {}
        for file in files:
            match = _SPEAKER.fullmatch(file.stem)
            if match:
                speakers.setdefault(match[1], []).append(file)
            else:
                others[f"{word}/{file.name}"] = [file]
        splits |= _divided(others)
    return splits | _divided(speakers)


def _divided(groups: dict[str, list[Path]]) -> dict[Path, str]:
    order = sorted(groups, key=lambda name: hashlib.sha1(name.encode()).hexdigest())
    each = max(1, round(_SHARE * len(order)))
    parts: Iterable[tuple[str, list[str]]] = (
        ("validation", order[:each]),
        ("test", order[each : 2 * each]),
        ("train", order[2 * each :]),
    )
    return {file: part for part, names in parts for name in names for file in groups[name]}
