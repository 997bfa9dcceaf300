"""Keyword spotters on long recordings: hits, false alarms an hour, work; side by side.

    gossamer train speech_commands --model speech_cnn --set epochs=30 batch_size=32 \
        learning_rate=0.03 --out runs/listen-dense
    python benchmarks/listen.py runs/listen-dense runs/listen-sparse --out docs/results/listen

Recordings are made from clips of the test split, whose speakers are not in the training split, at
random moments over the data's background noise, at stated signal-to-noise ratios: the power of
the clip in its loudest 300 ms over that of the noise under it. A keyword counts as hit when it is
reported between its start and a second after its end; every other report is a false alarm. Writes
``OUT.json`` and ``OUT.md``.
"""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
from results import write

from gossamer.data import Task, load
from gossamer.data.audio import RATE, floats
from gossamer.listen import Detector, Spotter
from gossamer.runtime import machine

THRESHOLDS = (0.5, 0.7, 0.8, 0.9, 0.95)
BACKGROUND = ("silence", "unknown")


@dataclass
class Recording:
    sound: np.ndarray  # float32 [samples]
    spoken: list[tuple[float, str]]  # start in seconds, keyword; other words are not listed


def recording(task: Task, snr: float, seconds: float, rng: np.random.Generator) -> Recording:
    """Clips at gaps of 0.5 to 2.5 seconds over background noise."""
    noise = floats(task.domain.background)  # type: ignore[attr-defined]
    start = int(rng.integers(len(noise)))
    sound = np.take(noise, np.arange(start, start + int(seconds * RATE)), mode="wrap")
    # A second of any noise is as loud as any other, -35 dB below full scale, and the words are
    # louder by the ratio: a level that the recordings of the data have themselves.
    power = scipy.ndimage.uniform_filter1d(sound**2, RATE)
    sound = sound * np.float32(10 ** (-35 / 20)) / np.sqrt(np.maximum(power, 1e-10))
    words = np.flatnonzero(task.test.y != task.classes.index("silence"))
    spoken = []
    at = rng.uniform(0.5, 2.5)
    while at + 2 < seconds:
        chosen = int(rng.choice(words))
        clip = floats(task.test.x[chosen])
        first = int(at * RATE)
        loud = np.sort((clip.reshape(-1, 160) ** 2).mean(axis=1))[-30:].mean()
        under = sound[first : first + RATE]
        noisy = float(np.mean(under**2))
        under += clip * np.float32(np.sqrt(10 ** (snr / 10) * noisy / max(float(loud), 1e-10)))
        name = task.classes[task.test.y[chosen]]
        if name not in BACKGROUND:
            spoken.append((at, name))
        at += 1 + rng.uniform(0.5, 2.5)
    return Recording(sound.clip(-1, 1), spoken)


def outputs(spotter: Spotter, sound: np.ndarray) -> list[tuple[float, np.ndarray]]:
    """The network's outputs over time, heard once for all thresholds."""
    blocks = np.array_split(sound, len(sound) // (RATE // 10))
    return [
        (seconds, spotter.engine(features[None])[0])
        for block in blocks
        for seconds, features in spotter.windows.push(block)
    ]


def judged(heard: list[tuple[float, np.ndarray]], spotter: Spotter, threshold: float, made: Any):
    detector = Detector(spotter.detector.classes, threshold)
    detections = [d for seconds, out in heard if (d := detector.push(seconds, out)) is not None]
    left = list(made.spoken)
    false = 0
    for detection in detections:
        fits = [
            word
            for word in left
            if word[1] == detection.keyword and word[0] < detection.seconds <= word[0] + 2.0
        ]
        if fits:
            left.remove(fits[0])
        else:
            false += 1
    return {"spoken": len(made.spoken), "hits": len(made.spoken) - len(left), "false": false}


def measured(run: Path, recordings: dict[float, Recording]) -> dict[str, Any]:
    """One network on all recordings."""
    rows = []
    processor = length = 0.0
    for snr, made in recordings.items():
        spotter = Spotter(run / "model.onnx")
        cpu = time.process_time()
        heard = outputs(spotter, made.sound)
        processor += time.process_time() - cpu
        seconds = len(made.sound) / RATE
        length += seconds
        for threshold in THRESHOLDS:
            outcome = judged(heard, spotter, threshold, made)
            per_hour = outcome["false"] * 3600 / seconds
            rows.append({"snr": snr, "threshold": threshold, **outcome, "false_per_hour": per_hour})
        print(f"{run.name}: {snr:g} dB done, {seconds / 60:.0f} min", file=sys.stderr, flush=True)
    metrics = json.loads((run / "metrics.json").read_text())
    return {
        "run": run.name,
        "model": metrics["model"],
        "accuracy": metrics["accuracy"],
        "file_bytes": (run / "model.onnx").stat().st_size,
        "processor_seconds_a_second": processor / length,
        "rows": rows,
    }


def written(result: dict[str, Any]) -> str:
    lines = [
        "# Listening",
        "",
        f"{result['minutes']:.0f} minutes of sound at each signal-to-noise ratio, made from clips "
        "of the test split over background noise. Hits and false alarms are *counted*, the work "
        "is *measured* (one thread).",
        "",
        "| network | test accuracy | file | processor time a second of sound | CPU share |",
        "|---|---|---|---|---|",
    ]
    for run in result["runs"]:
        share = run["processor_seconds_a_second"]
        lines.append(
            f"| {run['run']} ({run['model']}) | {run['accuracy']:.2%} | "
            f"{run['file_bytes'] / 1e3:,.0f} kB | {share * 1e3:.2f} ms | {share:.2%} |"
        )
    heads = [f"{run['run']}: hits | false alarms an hour" for run in result["runs"]]
    lines += ["", f"| SNR | threshold | {' | '.join(heads)} |", "|---" * (2 + 2 * len(heads)) + "|"]
    for rows in zip(*(run["rows"] for run in result["runs"]), strict=True):
        cells = [f"{r['hits'] / r['spoken']:.1%} | {r['false_per_hour']:.0f}" for r in rows]
        first = rows[0]
        lines.append(f"| {first['snr']:g} dB | {first['threshold']:g} | {' | '.join(cells)} |")
    lines += ["", f"Command: `{result['command']}`  ", f"Machine: {result['machine']}", ""]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("runs", nargs="+", type=Path, help="run directories on speech_commands")
    parser.add_argument("--task", default="speech_commands")
    parser.add_argument("--minutes", type=float, default=20.0, help="of sound at each ratio")
    parser.add_argument("--snr", type=float, nargs="+", default=[20.0, 10.0, 5.0, 0.0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("runs/listen"))
    arguments = parser.parse_args()
    task = load(arguments.task)
    recordings = {
        snr: recording(
            task, snr, arguments.minutes * 60, np.random.default_rng([arguments.seed, i])
        )
        for i, snr in enumerate(arguments.snr)
    }
    result = {
        "command": "python " + shlex.join(sys.argv),
        "machine": machine(),
        "data": task.source,
        "minutes": arguments.minutes,
        "runs": [measured(run, recordings) for run in arguments.runs],
    }
    text = written(result)
    write(arguments.out, result, text)
    print(text)


if __name__ == "__main__":
    main()
