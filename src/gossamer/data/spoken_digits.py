"""The Free Spoken Digit Dataset: ten digits, six speakers."""

from __future__ import annotations

import re

import numpy as np

from gossamer.data.audio import Sound, read_clips
from gossamer.data.download import Root, data_root, fetch, find, missing, unpack
from gossamer.data.task import Split, Task
from gossamer.errors import UserError

_NAMES = ("fsdd", "free-spoken-digit-dataset", "spoken_digits")
_PATTERN = re.compile(r"([0-9])_([^_]+)_(\d+)\.(?:wav|flac)", re.IGNORECASE)
# checksum: TensorFlow Datasets, spoken_digit/checksums.tsv
_URL = "https://github.com/Jakobovski/free-spoken-digit-dataset/archive/v1.0.9.tar.gz"
_CHECKSUM = "sha256:8bc44cde129d505cbbb6b365c09f80c663f2aa77578afc634e6141a2f87100c0"


def spoken_digits(root: Root = None, *, download: bool = False) -> Task:
    """Load Free Spoken Digits: 10 classes, ``recordings/{digit}_{speaker}_{index}.wav``.

    Test is the official split (index 0-4), validation index 5-9, training the rest; all speakers
    are in each. The recordings (8 kHz) are resampled to 16 kHz and padded, or cut, to one second.
    They are searched in ``root/fsdd``, ``root/free-spoken-digit-dataset``, ``root/spoken_digits``
    and ``root``. ``download=True`` fetches version 1.0.9, which has five of the six speakers.

    Raises UserError when recordings are missing, damaged or named otherwise, or a download fails.
    """
    folder = data_root(root)
    dataset = find(folder, _NAMES, ["recordings"])
    if dataset is None and download:
        dataset = folder / _NAMES[0]
        unpack(fetch(_URL, _CHECKSUM, folder), dataset)
    if dataset is None:
        raise missing("spoken_digits", folder, _NAMES, ["recordings"])
    matches = {
        path: match
        for path in sorted((dataset / "recordings").iterdir())
        if (match := _PATTERN.fullmatch(path.name))
    }
    index = np.array([int(match[3]) for match in matches.values()])
    y = np.array([int(match[1]) for match in matches.values()], np.int64)
    chosen = {"test": index < 5, "validation": (index >= 5) & (index < 10), "train": index >= 10}
    for split, mask in chosen.items():
        absent = set(range(10)) - set(y[mask].tolist()) if len(y) else set(range(10))
        if absent:
            raise UserError(
                f"{dataset / 'recordings'}: no recordings {{digit}}_{{speaker}}_{{index}}.wav of "
                f"digit {min(absent)} for {split} (test: index 0-4, validation: 5-9, train: 10 "
                f"and up): fetch the data set again"
            )
    x = read_clips(list(matches))
    splits = {split: Split(x[mask], y[mask]) for split, mask in chosen.items()}
    return Task(
        name="spoken_digits",
        classes=tuple("0123456789"),
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        domain=Sound.fitted(splits["train"].x, np.zeros(0, np.int16)),
        source="Free Spoken Digit Dataset, Zohar Jackson et al., CC BY-SA 4.0",
    )
