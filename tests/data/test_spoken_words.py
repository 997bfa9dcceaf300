import sys

import numpy as np
import pytest

import gossamer.data.scenes as scenes
from gossamer.data import load, spoken_words
from gossamer.errors import UserError

module = sys.modules["gossamer.data.spoken_words"]  # the package's name is the function
_CLIPS = 84


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("words")


@pytest.fixture(scope="module")
def task(folder):
    return spoken_words(folder, clips=_CLIPS)


def test_balanced_twelve_classes_and_called_synthetic(task):
    assert task.classes[:4] == ("yes", "no", "up", "down")
    assert task.classes[10:] == ("unknown", "silence")
    assert np.bincount(task.train.y).tolist() == [5] * 12
    assert np.bincount(task.validation.y).tolist() == [1] * 12
    assert np.bincount(task.test.y).tolist() == [1] * 12
    assert task.synthetic
    assert "SYNTHETIC" in task.source
    assert task.train.x.dtype == np.int16
    assert task.train.x.shape == (60, 16_000)
    assert task.input_shape == (1, 32, 32)
    assert task.features(task.test.x).shape == (12, 1, 32, 32)


def test_every_word_is_heard_and_silence_is_softer(task):
    rms = np.sqrt(np.mean(np.square(task.train.x / 32768.0), axis=1))
    assert (rms > 0).all()
    peak = np.abs(task.train.x / 32768.0).max(axis=1)
    words, silence = peak[task.train.y < 11], peak[task.train.y == 11]
    assert words.min() > 10 ** (-35 / 20)
    assert np.median(words) > 2 * np.median(silence)


def test_the_second_time_the_cache_is_read(task, folder, monkeypatch):
    monkeypatch.setattr(module, "_synthesize", lambda *_: pytest.fail("synthesized again"))
    again = spoken_words(folder, clips=_CLIPS)
    np.testing.assert_array_equal(again.train.x, task.train.x)
    np.testing.assert_array_equal(again.domain.background, task.domain.background)
    assert [path.suffix for path in folder.iterdir()] == [".npz"]


@pytest.mark.parametrize("damage", ["truncated", "empty", "flipped"])
def test_a_damaged_cache_is_made_again_the_same(task, tmp_path, folder, damage):
    (whole,) = folder.glob("*.npz")
    content = bytearray(whole.read_bytes())
    path = tmp_path / whole.name
    content[100_000] ^= 255  # amid the samples: only the archive's checksum tells
    kept = {"truncated": content[:5_000], "empty": b"", "flipped": content}[damage]
    path.write_bytes(kept)
    again = spoken_words(tmp_path, clips=_CLIPS)
    np.testing.assert_array_equal(again.train.x, task.train.x)
    np.testing.assert_array_equal(again.test.y, task.test.y)
    assert path.read_bytes() != bytes(kept)


def test_another_seed_gives_other_clips(task, folder):
    other = spoken_words(folder, clips=_CLIPS, seed=1)
    assert not np.array_equal(other.train.x, task.train.x)


def test_no_voice_is_in_two_splits(monkeypatch):
    used = []

    def listen(utterances):
        used.append({utterance.voice.split("+")[1] for utterance in utterances})
        return 16_000, [memoryview(np.full(4_000, 999, np.int16)) for _ in utterances]

    monkeypatch.setattr(module, "speak", listen)
    module._synthesize(600, 0)
    train, validation, test = used
    assert not train & validation
    assert not train & test
    assert not validation & test
    assert len(train) > 40


def test_too_few_clips():
    with pytest.raises(UserError, match="clips must be at least 84, not 12"):
        load("spoken_words", clips=12)


def test_a_failing_synthesizer_is_one_clear_error(tmp_path, monkeypatch):
    def fail(_):
        raise RuntimeError("no library")

    monkeypatch.setattr(module, "speak", fail)
    with pytest.raises(UserError, match=r"no library.*espeakng-loader"):
        spoken_words(tmp_path, clips=_CLIPS)


def test_an_unwritable_folder_warns_and_goes_on(tmp_path, task):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    with pytest.warns(UserWarning, match="not saved for next time"):
        again = spoken_words(blocked / "cache", clips=_CLIPS)
    np.testing.assert_array_equal(again.test.x, task.test.x)


def test_without_a_root_the_cache_folder_is_used(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("GOSSAMER_DATA", str(tmp_path / "read only"))
    spoken_words(clips=_CLIPS)
    assert len(list((tmp_path / "gossamer").glob("spoken_words-*.npz"))) == 1


def test_level_sets_the_root_mean_square():
    wave = scenes.level(np.random.default_rng(0).normal(size=1_000).astype(np.float32), -20)
    assert np.sqrt(np.mean(wave**2)) == pytest.approx(0.1, rel=1e-4)
    assert not scenes.level(np.zeros(5, np.float32), -20).any()


def test_reverberation_keeps_the_direct_sound_and_decays():
    click = np.zeros(10, np.float32)
    click[0] = 1
    out = scenes.reverberate(click, 0.5, 0.2, np.random.default_rng(0))
    assert np.sum(out[1:8_000] ** 2) == pytest.approx(0.2, rel=0.02)
    early, late = np.sum(out[1:2_000] ** 2), np.sum(out[4_001:6_000] ** 2)
    # 60 dB in 8,000 samples: 30 dB from one stretch to another 4,000 later
    assert 10 * np.log10(early / late) == pytest.approx(30, abs=1.5)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0])
def test_colored_noise_falls_as_asked(exponent):
    wave = scenes.colored(160_000, exponent, np.random.default_rng(1))
    power = np.abs(np.fft.rfft(wave)) ** 2
    low, high = power[2_500:5_000].mean(), power[40_000:80_000].mean()  # four octaves apart
    assert 10 * np.log10(low / high) == pytest.approx(exponent * 40 * np.log10(2), abs=0.5)
