import warnings

import numpy as np
import pytest
import soundfile

from gossamer.data import load
from gossamer.data.audio import int16
from gossamer.errors import UserError


def write(path, level, rate=16_000, channels=1, seconds=0.5, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, np.full((int(rate * seconds), channels), level), rate, **options)


@pytest.fixture
def words(tmp_path):
    """Two words of 10 speakers each, other words, and macOS's leftovers."""
    folder = tmp_path / "sounds"
    for number in range(10):
        write(folder / f"go/s{number}_nohash_0.wav", 0.1 + number / 100, subtype="FLOAT")
        write(folder / f"stop/s{number}_nohash_0.wav", 0.3 + number / 100, 8_000, channels=2)
        write(folder / f"_unknown_/bed_s{number}_nohash_1.flac", 0.5 + number / 100)
    (folder / "go/._a.wav").write_text("")
    (folder / "__MACOSX").mkdir()
    return folder


def heard(split, label):
    """The speakers of a class in a split, from the levels of their clips."""
    clips = split.x[split.y == label].astype(float) / 32768
    return {round((level - (0.1, 0.3, 0.5)[label]) * 100) for level in clips[:, 4_000]}


def test_speakers_of_the_splits_differ(words):
    task = load(words)
    assert task.name == "sounds"
    assert task.classes == ("go", "stop", "unknown")
    assert task.input_shape == (1, 32, 32)
    splits = (task.train, task.validation, task.test)
    speakers = [[heard(split, label) for label in range(3)] for split in splits]
    for one, two, three in speakers:
        assert one == two == three
    assert [len(one) for one, _, _ in speakers] == [6, 2, 2]
    assert set.union(*(one for one, _, _ in speakers)) == set(range(10))
    assert task.test.x.shape == (6, 16_000)
    assert not task.test.x[:, 8_100:].any(), "filled up at the end"
    np.testing.assert_array_equal(load(words).test.x, task.test.x)
    assert task.description["features"]["kind"] == "log_mel"


def test_noise_gives_silence_and_a_background(words):
    noise = int16(np.random.default_rng(0).uniform(-0.5, 0.5, 40_000))
    (words / "_background_noise_").mkdir()
    soundfile.write(words / "_background_noise_/fan.wav", noise, 16_000)
    task = load(words)
    assert task.classes == ("go", "stop", "unknown", "silence")
    assert np.bincount(task.train.y).tolist() == [6, 6, 6, 6]
    np.testing.assert_array_equal(task.domain.background, noise)


def test_words_without_speakers_are_split_each(tmp_path):
    for word, level in (("left", 0.2), ("right", 0.4)):
        for number in range(20):
            write(tmp_path / word / f"take{number}.wav", level + number / 1000)
    task = load(tmp_path)
    assert np.bincount(task.train.y).tolist() == [14, 14]
    assert np.bincount(task.validation.y).tolist() == np.bincount(task.test.y).tolist() == [3, 3]


def test_what_is_left_out_is_listed(words):
    (words / "later").mkdir()
    (words / "later/take.mp3").write_bytes(b"sound")
    write(words / "_background_noise_/click.wav", 0.1)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert load(words).classes == ("go", "stop", "unknown")
    messages = [str(warning.message) for warning in caught]
    assert messages == [
        f"{words / 'later'}: no WAV or FLAC file in it; left out",
        f"{words / '_background_noise_'}: 1 files shorter than 1 s; left out",
    ]


def test_sounds_that_are_not_read_are_warned_of(words):
    write(words / "loose.wav", 0.1)
    write(words / "go/deeper/s1_nohash_1.wav", 0.1)
    (words / "stop/take.mp3").write_bytes(b"sound")
    (words / "stop/notes.txt").write_text("left out as it should be")
    write(words / "__up/s1_nohash_1.wav", 0.1)
    told = "__up/s1_nohash_1.wav is not read, nor 3 others: .* does not begin with '__'"
    with pytest.warns(UserWarning, match=told):
        load(words)


def test_sounds_that_are_of_two_words_are_warned_of(words):
    write(words / "stop/s1_nohash_5.wav", 0.1, subtype="FLOAT")
    write(words / "go/s1_nohash_6.wav", 0.0)  # silence tells nothing of its word
    write(words / "stop/s1_nohash_6.wav", 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        load(words)
    assert [str(w.message) for w in caught if "two words" in str(w.message)] == [
        f"{words}/go/s0_nohash_0.wav and {words}/stop/s1_nohash_5.wav, of two words, contain the "
        "same second of sound; keep each in one word's folder"
    ]


def test_two_folders_of_one_class(words):
    write(words / "_go_/a.wav", 0.2)
    with pytest.raises(UserError, match=r"sounds: (go and _go_|_go_ and go) are one class's name"):
        load(words)


@pytest.mark.slow
def test_a_folder_is_trained_on_exported_in_8_bits_and_listened_with(
    words, tmp_path, monkeypatch, capsys
):
    from gossamer.cli.main import main

    def gossamer(*arguments):
        monkeypatch.setattr("sys.argv", ["gossamer", *map(str, arguments)])
        main()

    monkeypatch.chdir(tmp_path)
    small = ["--set", "channels=[4,4]", "--set", "hidden=8", "--set", "epochs=1"]
    small += ["--set", "batch_size=8", "--set", "noise_score=false"]
    write(words / "go/quiet.wav", 0.0)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        gossamer("train", "sounds", "--model", "speech_cnn", *small, "--out", "run")
    (line,) = [warnings.formatwarning(w.message, w.category, w.filename, w.lineno) for w in caught]
    assert line.startswith("gossamer: sounds/go/quiet.wav: is almost silent")
    assert line.count("\n") == 1
    gossamer("export", "run", "--int8", "-o", "small.onnx")
    for model in ("run/model.onnx", "small.onnx"):
        gossamer("listen", model, "--wav", "sounds/go/s0_nohash_0.wav", "--json")


def test_mistakes(tmp_path, words):
    write(tmp_path / "one/word/a.wav", 0.2)
    with pytest.raises(UserError, match="at least two folders with WAV or FLAC files"):
        load(tmp_path / "one")
    write(words / "rare/a.wav", 0.2)
    with pytest.raises(UserError, match="rare: no files for train"):
        load(words)
    with pytest.raises(UserError, match="leave --data and options out"):
        load(words, tmp_path)


@pytest.mark.parametrize(
    ("model", "size"), [("mlp", {"hidden": 8}), ("speech_cnn", {"channels": [2, 2], "hidden": 8})]
)
def test_a_search_trains_on_a_folder(words, model, size):
    from gossamer.search import Choice, Experiment, Maximize, Minimize, TrainNetwork

    experiment = Experiment(
        "sounds",
        parameters=[Choice("weight_density", [0.5, 1.0])],
        metrics=[Maximize("accuracy", threshold=0.1), Minimize("density", threshold=0.9)],
        budget=2,
        settings={
            "task": str(words), "model": model, **size, "epochs": 1, "batch_size": 8,
            "redrawn_class": "unknown", "redrawn_share": 0.25, "device": "cpu",
        },
    )  # fmt: skip
    experiment.run(TrainNetwork.for_experiment(experiment))
    assert [trial.state for trial in experiment.trials()] == ["complete", "complete"]
    densities = {t.parameters["weight_density"]: t.values["density"] for t in experiment.trials()}
    assert all(value == pytest.approx(wanted, abs=0.01) for wanted, value in densities.items())
