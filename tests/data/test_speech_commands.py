import csv
import hashlib
import re
import sys

import numpy as np
import pytest
import soundfile

from gossamer.data import load, speech_commands
from gossamer.errors import UserError

module = sys.modules["gossamer.data.speech_commands"]
_WORDS = ["yes", "no", "up", "down", "left", "right", "on", "off", "stop", "go"]
_SPEAKERS = [hashlib.sha1(bytes([number])).hexdigest()[:8] for number in range(24)]


def _sound(path, level, seconds=1.0):
    """A clip whose every sample is ``level``, so that it can be told from the others."""
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full(int(16_000 * seconds), level, np.int16), 16_000, subtype="PCM_16")


def _official_which_set(filename):
    """The data set's own rule, as its README gives it (validation and test 15 % each)."""
    name = re.sub(r"_nohash_.*$", "", filename)
    digest = hashlib.sha1(name.encode()).hexdigest()
    percentage = (int(digest, 16) % (2**27 - 1 + 1)) * (100.0 / (2**27 - 1))
    return "validation" if percentage < 15 else "testing" if percentage < 30 else "training"


def _test_archive(folder, suffix="wav"):
    for number, speaker in enumerate(_SPEAKERS):
        for label, word in enumerate(_WORDS):
            _sound(folder / word / f"{speaker}_nohash_0.{suffix}", 100 * label + 100 + number)
        _sound(folder / "_unknown_" / f"bed_{speaker}_nohash_0.{suffix}", 2_000 + number)
        _sound(folder / "_silence_" / f"{number}.{suffix}", 3_000 + number)


def _training_archive(folder, suffix="wav"):
    lists = {"validation": [], "test": []}
    for number, speaker in enumerate(_SPEAKERS[:10]):
        split = {0: "validation", 1: "test"}.get(number, "train")
        for label, word in enumerate([*_WORDS, "bed", "cat", "tree"]):
            _sound(folder / word / f"{speaker}_nohash_0.{suffix}", 100 * label + 100 + number)
            if split != "train":
                lists[split].append(f"{word}/{speaker}_nohash_0.wav")
    (folder / "validation_list.txt").write_text("\n".join(lists["validation"]) + "\n")
    (folder / "testing_list.txt").write_text("\n".join(lists["test"]) + "\n")
    for name, level in (("hum", 10_000), ("hiss", 20_000)):
        _sound(folder / "_background_noise_" / f"{name}.wav", level, 3)
    (folder / "_background_noise_" / "README.md").write_text("")
    (folder / "yes" / "._a_nohash_0.wav").write_text("of a Mac")


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_test_archive_is_split_by_the_official_hash(tmp_path, suffix):
    _test_archive(tmp_path / "speech_commands_test_set_v0.02", suffix)
    task = speech_commands(tmp_path)
    assert task.classes == (*_WORDS, "unknown", "silence")
    expected = {"training": set(), "validation": set(), "testing": set()}
    for number, speaker in enumerate(_SPEAKERS):
        expected[_official_which_set(f"{speaker}_nohash_0.wav")].add(number)
    for name, split in (
        ("training", task.train),
        ("validation", task.validation),
        ("testing", task.test),
    ):
        assert (split.x == split.x[:, :1]).all()
        for label in range(11):
            base = 2_000 if label == 10 else 100 + 100 * label
            assert set(split.x[split.y == label, 0] - base) == expected[name]
    assert sum(np.sum(split.y == 11) for split in (task.train, task.validation, task.test)) == 24
    # without recordings of background noise, augmentation draws on the silence of training
    assert len(task.domain.background) == 16_000 * np.sum(task.train.y == 11)


def test_split_csv_is_followed(tmp_path):
    _test_archive(tmp_path)
    rows = []
    for number, speaker in enumerate(_SPEAKERS[:4]):
        split = ("train", "train", "validation", "test")[number]
        rows += [(f"{w}/{speaker}_nohash_0.wav", w, speaker, split) for w in _WORDS]
        rows += [(f"_silence_/{number}.wav", "_silence_", "noise", split)]
    with (tmp_path / "split.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("path", "label", "speaker", "split"), *rows])
    task = speech_commands(tmp_path)
    assert sorted(task.validation.x[:, 0]) == [*range(102, 1_100, 100), 3_002]
    assert (len(task.train), len(task.validation), len(task.test)) == (22, 11, 11)
    (tmp_path / "split.csv").write_text("path,label,speaker,split\nyes/a.wav,yes,a,dev\n")
    with pytest.raises(UserError, match=r"split\.csv, line 2: .*split dev"):
        speech_commands(tmp_path)
    (tmp_path / "split.csv").write_text("path,label,speaker,split\nyes/gone.wav,yes,a,train\n")
    with pytest.raises(UserError, match=r"gone\.wav"):
        speech_commands(tmp_path)


@pytest.mark.parametrize("suffix", ["wav", "flac"])
def test_training_archive(tmp_path, suffix):
    _training_archive(tmp_path / "speech_commands_v0.02", suffix)
    task = speech_commands(tmp_path)
    held = {"validation": {0}, "test": {1}, "train": set(range(2, 10))}
    for name, split in (
        ("train", task.train),
        ("validation", task.validation),
        ("test", task.test),
    ):
        each = len(held[name])
        assert np.bincount(split.y).tolist() == [each] * 12  # unknown and silence: the mean
        for label in range(10):
            assert set(split.x[split.y == label, 0] - 100 - 100 * label) == held[name]
        others = split.x[split.y == 10, 0]
        assert {int(level) % 100 for level in others} <= held[name]
        assert all(1_100 <= level < 1_400 for level in others)
        silence = split.x[split.y == 11]
        assert (silence == silence[:, :1]).all()
        assert (silence[:, 0] <= 20_000).all()
    assert len(task.domain.background) == 2 * 48_000
    again = speech_commands(tmp_path)
    np.testing.assert_array_equal(again.train.x, task.train.x)


def test_short_clips_are_padded_and_long_ones_cut(tmp_path):
    _test_archive(tmp_path)
    for speaker, seconds in ((_SPEAKERS[0], 0.5), (_SPEAKERS[1], 2.0)):
        _sound(tmp_path / "yes" / f"{speaker}_nohash_0.wav", 77, seconds)
    task = speech_commands(tmp_path)
    clips = np.concatenate([split.x for split in (task.train, task.validation, task.test)])
    lengths = sorted((clips[clips[:, 0] == 77] == 77).sum(axis=1))
    assert lengths == [8_000, 16_000]


@pytest.mark.parametrize(
    "gone", ["validation_list.txt", "_background_noise_", "bed cat tree", "left"]
)
def test_an_incomplete_training_archive(tmp_path, gone):
    _training_archive(tmp_path)
    for name in gone.split():
        (tmp_path / name).rename(tmp_path.parent / f"{tmp_path.name} {name}")
    with pytest.raises(UserError, match=r"speech_commands: no .*unpack the whole archive"):
        speech_commands(tmp_path)


def test_missing_says_where_and_how(tmp_path):
    with pytest.raises(UserError) as caught:
        load("speech_commands", tmp_path)
    message = str(caught.value)
    assert "\n" not in message
    for part in ("speech_commands_v0.02", str(tmp_path), "GOSSAMER_DATA", "download=True"):
        assert part in message


def test_a_damaged_clip_is_named(tmp_path):
    _test_archive(tmp_path)
    (tmp_path / "go" / f"{_SPEAKERS[3]}_nohash_0.wav").write_bytes(b"RIFF")
    with pytest.raises(UserError, match=rf"{_SPEAKERS[3]}_nohash_0\.wav"):
        speech_commands(tmp_path)


def test_too_few_speakers_for_a_split(tmp_path):
    for number, word in enumerate([*_WORDS, "_unknown_", "_silence_"]):
        _sound(tmp_path / word / f"{_SPEAKERS[0]}_nohash_0.wav", 100 + number)
    with pytest.raises(UserError, match="no clips for"):
        speech_commands(tmp_path)


def test_real_subset(real_data):
    folder = real_data / "speech_commands_v0.02_subset"
    if not folder.is_dir():
        pytest.skip(f"no Speech Commands subset in {real_data}")
    task = speech_commands(folder)
    assert (len(task.train), len(task.validation), len(task.test)) == (2_276, 492, 492)
    assert np.bincount(task.test.y).tolist() == [41, 42, 48, 43, 47, 44, 34, 38, 39, 41, 35, 40]
    out = task.features(task.train.x)
    assert out.mean() == pytest.approx(0, abs=1e-3)
    assert out.std() == pytest.approx(1, abs=1e-3)
