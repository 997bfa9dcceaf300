"""The example's page in a real browser, with a WAV file; its features beside gossamer's."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import wave
from pathlib import Path

import networks
import numpy as np
import onnx
import pytest
from test_wasm import ROOT, TOOLS
from tests.browser import BROWSER

from gossamer.data.features import LogMel
from gossamer.runtime import Engine

sys.path.insert(0, str(ROOT / "examples/wasm"))
import make_page

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")


def chirp() -> np.ndarray:
    """A second of rising tone, as 16-bit samples."""
    t = np.arange(16_000) / 16_000
    return np.round(9000 * np.sin(2 * np.pi * (300 * t + 900 * t**2))).astype("<i2")


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_features_are_those_of_gossamer() -> None:
    script = """
    const { logMel } = await import(process.argv[1]);
    const sound = new Float32Array(JSON.parse(process.argv[2]));
    console.log(JSON.stringify(Array.from(logMel(sound))));
    """
    sound = np.concatenate([chirp()[::4], np.zeros(3000)]).astype(np.float32) / 32768
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script,
         (ROOT / "examples/wasm/features.mjs").as_uri(), json.dumps(sound.tolist())],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    wanted = LogMel()(sound[None])[0]
    np.testing.assert_allclose(json.loads(done.stdout), wanted.reshape(-1), atol=2e-2)


@pytest.mark.skipif(shutil.which("node") is None, reason="no node here")
def test_the_network_beside_the_page_runs() -> None:
    folder = ROOT / "examples/wasm"
    classes = json.loads((folder / "keywords.json").read_text())["classes"]
    assert (folder / "keywords.wasm").stat().st_size < 200_000
    script = """
    import { readFileSync } from "node:fs";
    const { load } = await import(process.argv[1] + "/network.mjs");
    const bytes = readFileSync(new URL(process.argv[1] + "/keywords.wasm"));
    const network = await load(bytes, "keywords", Number(process.argv[2]));
    console.log(JSON.stringify(Array.from(network(new Float32Array(1024)))));
    """
    done = subprocess.run(
        ["node", "--input-type=module", "-e", script, folder.as_uri(), str(len(classes))],
        check=True, capture_output=True, text=True,
    )  # fmt: skip
    scores = json.loads(done.stdout)
    assert len(scores) == 12
    assert len(set(scores)) == 12


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.mark.skipif(
    BROWSER is None or not all(map(shutil.which, TOOLS)), reason="no Chromium, clang or lld here"
)
def test_page_names_the_class_of_a_sound(tmp_path: Path) -> None:
    site, path = tmp_path / "site", tmp_path / "model.onnx"
    model = networks.speech_cnn(0.05, winners=True, width=16, hidden=100)
    features = {"kind": "log_mel", **LogMel().settings(), "samples": 16_000, "mean": -50, "std": 9}
    said = {"classes": [f"class{i}" for i in range(12)], "features": features}
    whole = onnx.load_from_string(model)
    onnx.helper.set_model_props(whole, {"gossamer": json.dumps(said)})
    onnx.save(whole, path)
    make_page.build(path, site)
    with wave.open(str(site / "word.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(chirp().tobytes())
    x = (LogMel()(chirp()[None].astype(np.float32) / 32768) - np.float32(-50)) / np.float32(9)
    wanted = f"class{int(Engine(model, threads=1)(x).argmax())}"
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
            tab = browser.new_page()
            tab.goto(f"http://127.0.0.1:{server.server_port}/index.html?sound=word.wav")
            tab.wait_for_selector("#told:has-text('the network took')", timeout=120_000)
            word, told = tab.inner_text("#word"), tab.inner_text("#told")
            browser.close()
    finally:
        server.shutdown()
        server.server_close()
    assert word == wanted, told
    assert "% sure" in told
