"""Google Speech Commands v0.02, twelve classes, in both official layouts."""

from __future__ import annotations

import csv
import hashlib
import re
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from gossamer.data.audio import RATE, Sound, is_sound, read, read_clips, silence
from gossamer.data.download import Root, data_root, fetch, find, missing, unpack
from gossamer.data.task import SPLITS, Split, Task
from gossamer.errors import UserError

WORDS = ("yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go")
CLASSES = (*WORDS, "unknown", "silence")
UNKNOWN, SILENCE = CLASSES.index("unknown"), CLASSES.index("silence")

_NAMES = (
    "speech_commands_v0.02",
    "speech_commands",
    "speech_commands_test_set_v0.02",
    "speech_commands_v0.02_subset",
)
_LANDMARKS = ("testing_list.txt", "_silence_")  # of the training and of the test archive
_URL = "http://download.tensorflow.org/data/"
# checksums: TensorFlow Datasets, url_checksums/speech_commands.txt
_ARCHIVES = {
    "speech_commands_v0.02": (
        "sha256:af14739ee7dc311471de98f5f9d2c9191b18aedfe957f4a6ff791c709868ff58"
    ),
    "speech_commands_test_set_v0.02": (
        "sha256:cc2a00c1147c2254e9be3fa0f779d8c17421dc349b86366567a8edfa9acd51df"
    ),
}
_SEED = 1804
Listing = dict[str, list[tuple[Path, int]]]  # split name: (file, class)


def speech_commands(root: Root = None, *, download: bool | str = False) -> Task:
    """Load Google Speech Commands v0.02: ten words, *unknown*, *silence*; one second at 16 kHz.

    It is searched in ``root/speech_commands_v0.02``, ``root/speech_commands``,
    ``root/speech_commands_test_set_v0.02``, ``root/speech_commands_v0.02_subset`` and ``root``
    itself, as WAV or FLAC, in either layout:

    - the *training archive* (35 word folders, ``validation_list.txt``, ``testing_list.txt``,
      ``_background_noise_``): its official split; *unknown* is drawn from the other 25 words,
      *silence* cut from the background recordings at random volume, each as many as the mean word
      class of the split (Warden 2018, arXiv 1804.03209), always the same ones;
    - the *test archive* (``yes/`` .. ``_unknown_/``, ``_silence_/``): split by the file
      ``split.csv`` (columns path, label, speaker, split) where there is one, else by a hash of
      the speaker, 70 / 15 / 15 %.

    ``download=True`` fetches the training archive (2.4 GB), ``download="test"`` the test archive
    (0.1 GB). Raises UserError when something is missing or damaged, or a download fails.
    """
    folder = data_root(root)
    dataset = find(folder, _NAMES, _LANDMARKS)
    if dataset is None and download:
        dataset = _fetch(folder, "speech_commands" + ("_test_set" if download == "test" else ""))
    if dataset is None:
        raise missing("speech_commands", folder, _NAMES, _LANDMARKS)
    noises = _background(dataset)
    if (dataset / "testing_list.txt").exists():
        splits = _training_archive(dataset, noises)
        note = ""
    else:
        splits = _test_archive(dataset)
        train = splits["train"]
        noises = noises or [train.x[train.y == SILENCE].ravel()]
        note = " (test archive)"
    return Task(
        name="speech_commands",
        classes=CLASSES,
        train=splits["train"],
        validation=splits["validation"],
        test=splits["test"],
        domain=Sound.fitted(splits["train"].x, np.concatenate(noises)),
        source=f"Google Speech Commands v0.02{note}, Pete Warden, arXiv 1804.03209, CC BY 4.0",
    )


def _fetch(folder: Path, prefix: str) -> Path:
    name = f"{prefix}_v0.02"
    archive = fetch(f"{_URL}{name}.tar.gz", _ARCHIVES[name], folder)
    unpack(archive, folder / name)
    return folder / name


def _sounds(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(f"speech_commands: no folder {folder}: unpack the whole archive")
    return sorted(path for path in folder.iterdir() if is_sound(path))


def _background(dataset: Path) -> list[NDArray[np.int16]]:
    """Return the long noise recordings; the official test archive has none."""
    folder = dataset / "_background_noise_"
    recordings = [read(path) for path in _sounds(folder)] if folder.is_dir() else []
    return [recording for recording in recordings if len(recording) >= RATE]


def _speaker(path: Path) -> str:
    """Return ``ab12`` of ``yes/ab12_nohash_0.wav`` or ``_unknown_/bed_ab12_nohash_0.wav``."""
    return re.sub(r"_nohash_.*$", "", path.stem).rsplit("_", 1)[-1]


def _hashed_split(speaker: str) -> str:
    """Return a speaker's split by a SHA-1 hash as a percentage, like the data set's tools."""
    percentage = int(hashlib.sha1(speaker.encode()).hexdigest(), 16) % 2**27 * (100 / (2**27 - 1))
    return "validation" if percentage < 15 else "test" if percentage < 30 else "train"


def _test_archive(dataset: Path) -> dict[str, Split]:
    folders = {name: label for label, name in enumerate((*WORDS, "_unknown_", "_silence_"))}
    listing: Listing = {split: [] for split in SPLITS}
    table = dataset / "split.csv"
    if table.exists():
        with table.open(newline="", encoding="utf-8") as lines:
            for number, row in enumerate(csv.DictReader(lines), start=2):
                label, split = row.get("label"), row.get("split")
                if not row.get("path") or label not in folders or split not in listing:
                    raise UserError(
                        f"{table}, line {number}: path {row.get('path')}, label {label}, split "
                        f"{split}: label must be a class folder, split one of {', '.join(SPLITS)}"
                    )
                listing[split].append((dataset / row["path"], folders[label]))
    else:
        for name, label in folders.items():
            for path in _sounds(dataset / name):
                speaker = path.stem if name == "_silence_" else _speaker(path)
                listing[_hashed_split(speaker)].append((path, label))
    return {split: _decode(files, dataset, split) for split, files in listing.items()}


def _training_archive(dataset: Path, noises: list[NDArray[np.int16]]) -> dict[str, Split]:
    listed = {
        path: split
        for split, name in (("validation", "validation_list.txt"), ("test", "testing_list.txt"))
        for path in _lines(dataset / name)
    }
    others = sorted(
        path.name
        for path in dataset.iterdir()
        if path.is_dir() and path.name not in WORDS and path.name[0] not in "_."
    )
    if not others or not noises:
        absent = "_background_noise_ with recordings" if others else "folders of other words"
        raise UserError(f"speech_commands: no {absent} in {dataset}: unpack the whole archive")
    listing: Listing = {split: [] for split in SPLITS}
    unknown: dict[str, list[Path]] = {split: [] for split in SPLITS}
    for word in (*WORDS, *others):
        for path in _sounds(dataset / word):
            # the lists name .wav files, also where they were re-encoded
            split = listed.get(f"{word}/{path.stem}.wav", "train")
            if word in WORDS:
                listing[split].append((path, WORDS.index(word)))
            else:
                unknown[split].append(path)
    rng = np.random.default_rng(_SEED)
    splits = {}
    for split, files in listing.items():
        count = round(len(files) / len(WORDS))
        order = rng.permutation(len(unknown[split]))[:count]
        files.extend((unknown[split][index], UNKNOWN) for index in np.sort(order))
        words = _decode(files, dataset, split)
        x = np.concatenate([words.x, silence(noises, count, rng)])
        splits[split] = Split(x, np.concatenate([words.y, np.full(count, SILENCE)]))
    return splits


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise UserError(f"speech_commands: no {path}: unpack the whole archive")
    return path.read_text(encoding="utf-8").split()


def _decode(files: list[tuple[Path, int]], dataset: Path, split: str) -> Split:
    if not files:
        raise UserError(f"speech_commands: no clips for {split} in {dataset}: too few speakers")
    silent = {path for path, label in files if label == SILENCE}
    x = read_clips([path for path, _ in files], silent=silent)
    return Split(x, np.array([label for _, label in files], np.int64))
