"""A trained network in a browser: real clips through the page, beside the engine.

    python benchmarks/wasm.py runs/words/model.onnx --clips 492 --out docs/results/wasm

Builds the page of `examples/wasm`, opens it in a headless Chromium, uploads test clips of Speech
Commands as WAV files, as a visitor would, and counts how often it names the word, and how often
the engine does on the same clips. Needs the data, clang, lld, Chromium and playwright.
"""

from __future__ import annotations

import argparse
import functools
import http.server
import io
import json
import re
import shlex
import statistics
import sys
import tempfile
import threading
import wave
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples/wasm"))
from make_page import build
from playwright.sync_api import sync_playwright
from results import write
from tests.browser import BROWSER

from gossamer.data import load
from gossamer.data.audio import floats, int16
from gossamer.runtime import Engine, machine


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        pass


def wav(clip: np.ndarray) -> bytes:
    written = io.BytesIO()
    with wave.open(written, "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(int16(floats(clip)).astype("<i2").tobytes())
    return written.getvalue()


def shown(site: Path, clips: list[np.ndarray]) -> tuple[list[str], list[float], str]:
    """The class that the page names for each clip, its milliseconds, and the browser."""
    server = http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(site))
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    words, times = [], []
    with sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page()
        tab.goto(f"http://127.0.0.1:{server.server_port}/index.html")
        tab.wait_for_selector("#told:has-text('Ready')")
        for clip in clips:
            tab.evaluate("document.getElementById('told').textContent = ''")
            file: Any = {"name": "clip.wav", "mimeType": "audio/wav", "buffer": wav(clip)}
            tab.set_input_files("#file", file)
            tab.wait_for_selector("#told:has-text('the network took')")
            words.append(tab.inner_text("#word"))
            answer = re.search(r"took ([\d.]+) ms", tab.inner_text("#told"))
            assert answer is not None
            times.append(float(answer[1]))
        version = f"Chromium {browser.version}"
        browser.close()
    server.shutdown()
    server.server_close()
    return words, times, version


def page(result: dict[str, Any]) -> str:
    hits = result["hits"]
    lines = [
        "# A trained network in the browser",
        "",
        f"{result['clips']} clips of the test split of Speech Commands (subset, speakers unseen in "
        "training) passed to the page of `examples/wasm` as WAV files, in a headless "
        f"{result['browser']}. Hits are *counted*, times *measured* (by the page's clock, one "
        "clip at a time, other programs running).",
        "",
        "| class | clips | named by the page | by the engine |",
        "|---|---|---|---|",
    ]
    for name, (of, browser, engine) in hits.items():
        lines.append(f"| {name} | {of} | {browser} | {engine} |")
    of, browser, engine = (sum(column) for column in zip(*hits.values(), strict=True))
    lines += [
        f"| **all** | {of} | {browser} ({browser / of:.1%}) | {engine} ({engine / of:.1%}) |",
        "",
        f"Page and engine name the same class in {result['agree']} of {of} clips. The network has "
        f"{result['nonzero']:,} non-zero weights; `keywords.wasm` takes {result['wasm']:,} bytes, "
        f"code and weights. The network took {result['milliseconds']:.2f} ms a clip (median).",
        "",
        f"Trained with `{result['trained']}`  ",
        f"Command: `{result['command']}`  ",
        f"Data: {result['source']}  ",
        f"Machine: {machine()}",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model", type=Path)
    parser.add_argument("--clips", type=int, default=492)
    parser.add_argument("--out", type=Path, default=Path("docs/results/wasm"))
    arguments = parser.parse_args()
    task = load("speech_commands")
    count = min(arguments.clips, len(task.test))
    chosen = np.linspace(0, len(task.test), count, endpoint=False).astype(int)
    clips, wanted = task.test.x[chosen], task.test.y[chosen]
    engine = Engine(arguments.model, threads=1)
    answered = engine(np.asarray(task.features(clips), np.float32)).argmax(axis=1)
    with tempfile.TemporaryDirectory() as folder:
        site = build(arguments.model, Path(folder))
        named = json.loads((site / "keywords.json").read_text())["classes"]
        wasm = (site / "keywords.wasm").stat().st_size
        words, times, browser = shown(site, list(clips))
    metrics = json.loads((arguments.model.parent / "metrics.json").read_text())
    hits = {
        name: (
            int((wanted == index).sum()),
            sum(word == name for word, y in zip(words, wanted, strict=True) if y == index),
            int(((answered == index) & (wanted == index)).sum()),
        )
        for index, name in enumerate(named)
    }
    settings = " ".join(
        f"--set {shlex.quote(f'{name}={json.dumps(value)}')}"
        for name, value in metrics["settings"].items()
    )
    result = {
        "clips": len(clips),
        "hits": hits,
        "agree": sum(word == named[a] for word, a in zip(words, answered, strict=True)),
        "milliseconds": statistics.median(times),
        "wasm": wasm,
        "nonzero": metrics["weights"]["nonzero"],
        "browser": browser,
        "trained": f"gossamer train speech_commands --model {metrics['model']} {settings}",
        "command": "python " + shlex.join(sys.argv),
        "source": metrics["source"],
        "machine": machine(),
    }
    text = page(result)
    write(arguments.out, result, text)
    print(text)


if __name__ == "__main__":
    main()
