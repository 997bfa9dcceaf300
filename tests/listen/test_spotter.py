"""The spotter on a network that hears loudness, on every source, and its command."""

import io
import json

import numpy as np
import onnx
import pytest
import soundfile
import torch
from tests.listen.loudness import CLASSES, Loudness, bursts

from gossamer.cli.main import main
from gossamer.data.audio import RATE, int16
from gossamer.errors import UserError
from gossamer.listen import Spotter, from_file, from_stream
from gossamer.nn import export


def test_bursts_are_heard_where_they_are(model):
    spotter = Spotter(model, threshold=0.9)
    sound = bursts(2.0, 6.0)
    found = list(spotter.listen(np.array_split(sound, 77)))
    assert [d.keyword for d in found] == ["loud", "loud"]
    for detection, second in zip(found, (2.0, 6.0), strict=True):
        assert second < detection.seconds <= second + 1.3
    score = spotter.score
    assert score.sound_seconds == pytest.approx(10)
    assert score.windows == 1 + (9 * RATE) // (3 * 512)
    assert 0 < score.network_seconds < score.work_seconds
    assert score.detections == 2


def test_any_cut_into_blocks_hears_the_same(model):
    sound = bursts(1.0, 4.0, 7.5)
    heard = [list(Spotter(model).listen(np.array_split(sound, pieces))) for pieces in (1, 13, 997)]
    assert heard[0]
    assert heard[0] == heard[1] == heard[2]


def test_files_and_streams(model, tmp_path):
    sound = int16(bursts(3.0))
    soundfile.write(tmp_path / "a.wav", sound, RATE)
    expected = list(Spotter(model).listen([sound.astype(np.float32) / 32768]))
    assert list(Spotter(model).listen(from_file(tmp_path / "a.wav", RATE))) == expected
    for subtype in ("FLOAT", "DOUBLE", "PCM_24"):
        soundfile.write(tmp_path / "b.wav", sound / 32768, RATE, subtype, format="WAVEX")
        assert list(Spotter(model).listen(from_file(tmp_path / "b.wav", RATE))) == expected
    with pytest.raises(UserError, match="a sound file, not raw samples: give it as --wav FILE"):
        list(from_stream(io.BytesIO((tmp_path / "b.wav").read_bytes()), RATE))
    raw = io.BytesIO(sound.astype("<i2").tobytes() + b"\0")  # and half a sample
    assert list(Spotter(model).listen(from_stream(raw, RATE))) == expected
    raw = io.BytesIO((sound.astype(np.float32) / 32768).astype("<f4").tobytes())
    assert list(Spotter(model).listen(from_stream(raw, RATE, form="f32le"))) == expected
    with pytest.raises(UserError, match=r"no sound in format f32le: are its samples s16le\?"):
        list(from_stream(io.BytesIO(sound[3 * RATE :].tobytes()), RATE, form="f32le"))
    with pytest.raises(UserError, match="unknown format 'mp3'"):
        next(from_stream(io.BytesIO(b"1234"), RATE, form="mp3"))


def test_a_stream_of_another_rate(model):
    pytest.importorskip("soxr")
    sound = np.repeat(int16(bursts(3.0)), 2)  # 32 kHz
    found = list(Spotter(model).listen(from_stream(io.BytesIO(sound.tobytes()), RATE, 2 * RATE)))
    assert [d.keyword for d in found] == ["loud"]
    assert 3.0 < found[0].seconds <= 4.3


def test_networks_that_cannot_listen(tmp_path):
    path = tmp_path / "plain.onnx"
    export(Loudness(), torch.zeros(2, 1, 32, 32), path)
    with pytest.raises(UserError, match="does not say how its features are made; write it with"):
        Spotter(path)
    images = {"classes": CLASSES, "features": {"kind": "images", "mean": 0, "std": 1}}
    export(Loudness(), torch.zeros(2, 1, 32, 32), path, images)
    with pytest.raises(UserError, match="was trained on images, not on sound"):
        Spotter(path)


def test_labels_must_fit(model):
    with pytest.raises(UserError, match=r"3 labels for the 2 outputs of .*model\.onnx"):
        Spotter(model, classes=["a", "b", "c"])
    for labels in (["a", "a"], ["a", ""]):
        with pytest.raises(UserError, match="labels must differ, and none be empty: a, "):
            Spotter(model, classes=labels)


def run(monkeypatch, capsys, *arguments):
    monkeypatch.setattr("sys.argv", ["gossamer", "listen", *map(str, arguments)])
    code = 0
    try:
        main()
    except SystemExit as ended:
        code = ended.code or 0
    return code, capsys.readouterr()


def test_the_command(model, tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", bursts(2.0), RATE)
    code, told = run(monkeypatch, capsys, model, "--wav", tmp_path / "a.wav", "--threshold", 0.9)
    assert code == 0
    assert "listening for loud" in told.out
    assert "1 keywords in 10.0 s of sound" in told.out.replace("\n", " ")
    code, told = run(
        monkeypatch, capsys, model, "--wav", tmp_path / "a.wav", "--threshold", 0.9, "--json"
    )
    detection, summary = map(json.loads, told.out.splitlines())
    assert detection["keyword"] == "loud"
    assert 2.0 < detection["seconds"] <= 3.3
    assert summary["detections"] == 1
    assert summary["real_time_factor"] > 0
    assert summary["cpu_share"] > 0


def test_silence_is_warned_of(model, tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", np.zeros(2 * RATE), RATE)
    code, told = run(monkeypatch, capsys, model, "--wav", tmp_path / "a.wav", "--json")
    assert (code, json.loads(told.out)["peak"]) == (0, 0.0)
    assert told.err.strip().endswith("a.wav is almost silent (below -60 dB of full scale)")


def test_sound_too_short_for_a_detection_is_warned_of(model, tmp_path, monkeypatch, capsys):
    soundfile.write(tmp_path / "a.wav", bursts(0.5)[:RATE], RATE)
    file = ["--wav", tmp_path / "a.wav", "--json"]
    code, told = run(monkeypatch, capsys, model, *file)
    assert (code, json.loads(told.out)["windows"]) == (0, 1)
    assert (
        "a.wav is too short for a detection: --smoothing averages 3 windows, it has 1" in told.err
    )
    code, told = run(monkeypatch, capsys, model, *file, "--smoothing", 1)
    assert (code, told.err) == (0, "")


def test_a_network_whose_outputs_are_nan(model, tmp_path, monkeypatch, capsys):
    broken = onnx.load(model)
    last = broken.graph.output[0].name
    for node in broken.graph.node:
        node.output[:] = ["before" if name == last else name for name in node.output]
    broken.graph.node.append(onnx.helper.make_node("Sqrt", ["before"], [last]))  # one is negative
    onnx.save(broken, tmp_path / "nan.onnx")
    soundfile.write(tmp_path / "a.wav", bursts(2.0), RATE)
    code, told = run(monkeypatch, capsys, tmp_path / "nan.onnx", "--wav", tmp_path / "a.wav")
    assert (code, told.err.count("\n")) == (2, 1)
    assert "nan.onnx are not finite numbers at 1.00 s: its training may have diverged" in told.err


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--wav", "absent.wav"], "absent.wav: no such file"),
        (["--wav", __file__], "not a readable sound file"),
        (["--stdin", "--format", "mp3"], "unknown format 'mp3'"),
        (["--wav", "a.wav", "--refractory", "nan"], "must be a finite number of at least 0"),
        (["--wav", "a.wav", "--stdin"], "exclude each other"),
        (["--wav", "a.wav", "--device", "1"], "--device is for a microphone"),
        (["--wav", "a.wav", "--labels", ""], "labels for the"),
        (["--rate", "8000"], "are for --stdin only"),
        (["--wav", "a.wav", "--threshold", "2"], "must be above 0 and at most 1"),
    ],
)
def test_mistakes_at_the_command(model, monkeypatch, capsys, arguments, told):
    code, captured = run(monkeypatch, capsys, model, *arguments)
    assert (code, captured.out) == (2, "")
    assert told in captured.err
    assert len(captured.err.strip().splitlines()) == 1


def test_restarted_it_hears_a_stream_as_if_it_were_the_first(model):
    sound = bursts(2.0, 6.0)
    spotter = Spotter(model)
    first = list(spotter.listen([sound]))
    spotter.restart()
    assert spotter.score.windows == 0
    assert list(spotter.listen([sound])) == first
