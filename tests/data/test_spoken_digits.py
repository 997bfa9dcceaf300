import numpy as np
import pytest
import soundfile

from gossamer.data import load, spoken_digits
from gossamer.errors import UserError


def _write(folder):
    recordings = folder / "recordings"
    recordings.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for digit in range(10):
        for index in (0, 4, 5, 9, 10, 37):
            tone = rng.normal(0, 0.1, int(rng.integers(2_000, 10_000)))
            soundfile.write(recordings / f"{digit}_ann_{index}.wav", tone, 8_000)
    return recordings


@pytest.mark.parametrize("place", ["fsdd", "free-spoken-digit-dataset", "."])
def test_official_split_at_16_khz(tmp_path, place):
    recordings = _write(tmp_path / place)
    (recordings / "metadata.py").write_text("")
    task = spoken_digits(tmp_path)
    for split in (task.train, task.validation, task.test):
        assert split.x.shape == (20, 16_000)
        assert np.bincount(split.y).tolist() == [2] * 10
    assert task.input_shape == (1, 32, 32)
    samples, _ = soundfile.read(recordings / "3_ann_4.wav", dtype="int16")
    row = np.flatnonzero(task.test.y == 3)[1]  # 0 before 4
    length = min(16_000, 2 * len(samples))
    assert not task.test.x[row, length:].any()
    # every other sample of the doubled rate lies near the original
    near = task.test.x[row, :length:2].astype(float)
    assert np.corrcoef(near, samples[: len(near)])[0, 1] > 0.95


def test_missing_says_where(tmp_path):
    with pytest.raises(UserError, match=r"spoken_digits: no recordings in .*fsdd.*GOSSAMER_DATA"):
        load("spoken_digits", tmp_path)


def test_an_incomplete_set_names_digit_and_split(tmp_path):
    recordings = _write(tmp_path / "fsdd")
    for index in (0, 4):
        (recordings / f"7_ann_{index}.wav").unlink()
    with pytest.raises(UserError, match="of digit 7 for test"):
        spoken_digits(tmp_path)


def test_an_empty_folder(tmp_path):
    (tmp_path / "fsdd" / "recordings").mkdir(parents=True)
    with pytest.raises(UserError, match="no recordings"):
        spoken_digits(tmp_path)


def test_a_damaged_recording_is_named(tmp_path):
    recordings = _write(tmp_path / "fsdd")
    (recordings / "2_ann_9.wav").write_bytes(b"RIFFxxxx")
    with pytest.raises(UserError, match=r"2_ann_9\.wav"):
        spoken_digits(tmp_path)


def test_real(real_data):
    if not (real_data / "fsdd").is_dir():
        pytest.skip(f"no Free Spoken Digits in {real_data}")
    task = spoken_digits(real_data)
    assert (len(task.train), len(task.validation), len(task.test)) == (2_400, 300, 300)
    assert np.bincount(task.test.y).tolist() == [30] * 10
