"""The microphone: a sound server's null device stands in for one; a stub where that is enough."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from tests.listen.loudness import bursts

from gossamer.data.audio import RATE, int16
from gossamer.errors import UserError
from gossamer.listen import from_microphone, sources

TOOLS = ("pulseaudio", "pactl", "paplay")
PLUGIN = list(Path("/usr/lib").glob("*/alsa-lib/libasound_module_pcm_pulse.so"))
BURSTS = (1.0, 3.5)  # seconds


def portaudio() -> bool:
    try:
        import sounddevice  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


class Card:
    """A sound card of its own: what is played on it is heard by its microphone."""

    def __init__(self, folder: Path) -> None:
        socket = folder / "native"
        config = folder / "alsa.conf"
        config.write_text("pcm.!default { type pulse }\nctl.!default { type pulse }\n")
        places = ("HOME", "XDG_RUNTIME_DIR", "PULSE_RUNTIME_PATH", "PULSE_STATE_PATH")
        self.env = {
            **os.environ,
            **dict.fromkeys(places, str(folder)),
            "PULSE_SERVER": f"unix:{socket}",
            "ALSA_CONFIG_PATH": f"/usr/share/alsa/alsa.conf:{config}",
        }
        self.server = subprocess.Popen(
            [
                *("pulseaudio", "-n", "--exit-idle-time=-1", "--daemonize=no"),
                *("--use-pid-file=no", "--disable-shm=yes"),
                *("-L", f"module-native-protocol-unix socket={socket} auth-anonymous=1"),
                *("-L", f"module-null-sink rate={RATE} channels=1"),
            ],
            env=self.env,
            stderr=subprocess.DEVNULL,
        )
        asked = ["pactl", "info"]
        for _ in range(100):
            if subprocess.run(asked, env=self.env, capture_output=True).returncode == 0:
                return
            time.sleep(0.1)
        self.unplug()
        pytest.skip("the sound server does not start here")

    def play(self, sound: np.ndarray) -> None:
        """Plays it, in real time."""
        played = ["paplay", "--raw", f"--rate={RATE}", "--channels=1", "--format=s16le"]
        subprocess.run(
            [*played, "/dev/stdin"], env=self.env, input=int16(sound).tobytes(), check=True
        )

    def unplug(self) -> None:
        self.server.kill()
        self.server.wait()

    def listen(self, *arguments: object) -> subprocess.Popen[str]:
        """The command, when it is listening."""
        call = "from gossamer.cli import main; main()"
        command = [sys.executable, "-c", call, "listen", *map(str, arguments)]
        started = subprocess.Popen(
            command, env=self.env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(300):
            heard = subprocess.run(
                ["pactl", "list", "short", "source-outputs"],
                env=self.env, capture_output=True, text=True,
            )  # fmt: skip
            if heard.stdout.strip() or started.poll() is not None:
                break
            time.sleep(0.1)
        return started


@pytest.fixture
def card() -> Iterator[Card]:
    if not (portaudio() and all(map(shutil.which, TOOLS)) and PLUGIN):
        pytest.skip(
            "needs sounddevice and (Debian) libportaudio2 libasound2-plugins pulseaudio "
            "pulseaudio-utils"
        )
    # Sockets have short names; the folders of tests do not.
    with tempfile.TemporaryDirectory() as folder:
        made = Card(Path(folder))
        yield made
        made.unplug()


@pytest.mark.slow
@pytest.mark.serial
def test_words_are_detected_when_spoken_and_ctrl_c_ends(card: Card, model: Path) -> None:
    command = card.listen(model, "--json", "--threshold", 0.9)
    card.play(bursts(*BURSTS, length=6))
    command.send_signal(signal.SIGINT)
    told, complaints = command.communicate(timeout=30)
    lines = [json.loads(line) for line in told.splitlines()]
    assert command.returncode == 0, complaints
    assert [line.get("keyword") for line in lines] == ["loud", "loud", None], told
    apart = lines[1]["seconds"] - lines[0]["seconds"]
    assert apart == pytest.approx(BURSTS[1] - BURSTS[0], abs=0.3)
    assert lines[-1]["source"] == "microphone"
    assert lines[-1]["detections"] == 2
    assert lines[-1]["sound_seconds"] > 5


@pytest.mark.slow
@pytest.mark.serial
def test_unplugged_while_listening(card: Card, model: Path) -> None:
    command = card.listen(model)
    card.play(bursts(1.0, length=3))
    card.unplug()
    told, complaints = command.communicate(timeout=30)
    assert command.returncode == 2
    assert "microphone: 1 keywords in" in told
    assert complaints.splitlines()[-1].endswith("is it still plugged in?")


@pytest.mark.slow
@pytest.mark.serial
def test_no_such_device(card: Card, model: Path) -> None:
    told, complaints = card.listen(model, "--device", "nosuch").communicate(timeout=30)
    assert told == ""
    assert "No input device matching 'nosuch'" in complaints
    assert "python -m sounddevice" in complaints


class Refused(Exception):
    pass


class Stub(types.ModuleType):
    """What is used of sounddevice, with a microphone that takes one rate and channels alone."""

    PortAudioError = Refused

    def __init__(self, rate: int, channels: int, sound: np.ndarray) -> None:
        super().__init__("sounddevice")
        self.own, self.sound, self.opened, self.closed = (rate, channels), sound, [], False

    def query_devices(self, device: object, kind: str) -> dict[str, float]:
        if device not in (None, 3):
            raise ValueError(f"No {kind} device matching {device!r}")
        return {"default_samplerate": float(self.own[0]), "max_input_channels": self.own[1]}

    def check_input_settings(
        self, device: object, channels: int, dtype: str, samplerate: float
    ) -> None:
        if (samplerate, channels) != self.own:
            raise Refused("Invalid sample rate")

    def InputStream(self, rate, blocksize, device, *, channels, dtype, callback):
        self.check_input_settings(device, channels, dtype, rate)
        self.opened.append((rate, channels, device))

        def start() -> None:
            for begin in range(0, len(self.sound), blocksize):
                block = self.sound[begin : begin + blocksize, None]
                callback(np.repeat(block, channels, axis=1), blocksize, None, None)

        def close(ignore_errors: bool) -> None:
            self.closed = True

        return types.SimpleNamespace(start=start, abort=close, close=close)


@pytest.mark.parametrize(("rate", "channels"), [(RATE, 1), (48_000, 1), (RATE, 2), (44_100, 2)])
def test_any_rate_and_channels(monkeypatch, rate: int, channels: int) -> None:
    if rate != RATE:
        pytest.importorskip("soxr")
    monkeypatch.setattr(sources, "_SILENT", 0.1)
    tone = np.sin(2 * np.pi * 440 * np.arange(rate) / rate).astype(np.float32)
    stub = Stub(rate, channels, tone)
    monkeypatch.setitem(sys.modules, "sounddevice", stub)
    blocks = from_microphone(RATE, "3")
    given = []

    def hear() -> None:
        for block in blocks:
            given.append(block)

    with pytest.raises(UserError, match=r"nothing for 0\.1 seconds: is it still plugged in\?"):
        hear()
    assert stub.opened == [(rate, channels, 3)]
    assert stub.closed
    sound = np.concatenate(given)
    assert sound.dtype == np.float32
    assert len(sound) == pytest.approx(RATE, abs=0.05 * RATE)
    crossings = np.count_nonzero(np.diff(np.signbit(sound)))
    assert crossings == pytest.approx(880 * len(sound) / RATE, abs=3)


def test_a_microphone_of_another_rate_without_a_resampler(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "sounddevice", Stub(48_000, 1, np.zeros(0, np.float32)))
    monkeypatch.setitem(sys.modules, "soxr", None)
    with pytest.raises(
        UserError, match=r"48000 samples a second.*pip install 'gossamer\[listen\]'"
    ):
        from_microphone(RATE)


def test_no_microphone_and_no_portaudio(monkeypatch) -> None:
    stub = Stub(RATE, 1, np.zeros(0, np.float32))
    monkeypatch.setitem(sys.modules, "sounddevice", stub)
    with pytest.raises(UserError, match=r"No input device matching 'nosuch'.*lists what there is"):
        from_microphone(RATE, "nosuch")
    monkeypatch.setitem(sys.modules, "sounddevice", None)
    with pytest.raises(UserError, match=r"apt install libportaudio2.*--stdin"):
        from_microphone(RATE)
