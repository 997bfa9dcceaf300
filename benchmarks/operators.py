"""Networks of one operator under the engine and onnxruntime: nanoseconds an element.

    python benchmarks/operators.py [--turns N] [--only NAME ...] [--before FILE.json] [--quiet]
        [--out FILE_WITHOUT_SUFFIX]

Both take turns in one process, on one thread, on changing inputs (``take_turns`` of ``gossamer
bench``); printed is the median over the turns of the processor time of a whole call over the
elements of the operator's input (of its output where that is larger), and how many times faster
than onnxruntime the engine is. ``--before`` adds the ratio of an earlier file: of the same
script, run with an earlier engine, or, where that file has such a ratio itself, that one.
``--quiet`` says on the page that nothing else used the machine; do not say it where it is not so.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "runtime"))
import networks
import onnxruntime
import results
from networks import Builder

from gossamer.deploy.bench import take_turns
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, machine

IMAGE = (64, 56, 56)
ROWS = (196, 64)  # as attention has them
Write = Callable[[Builder], Any]


def op(name: str, *constants: Any, **attributes: Any) -> Write:
    """One operator on the input, with constants behind it."""
    return lambda b: b.add(name, "x", *constants, **attributes)


def chain(*steps: tuple[str, *tuple[Any, ...]]) -> Write:
    """Operators one after the other; ``x`` is the input, None the result before."""

    def write(b: Builder) -> None:
        for name, *operands in steps:
            b.add(name, *(b.last if o is None else o for o in operands))

    return write


def number(value: float) -> Any:
    return np.float32(value)


def by_channel(value: float) -> Any:
    return np.linspace(value, value + 1, IMAGE[0], dtype=np.float32).reshape(-1, 1, 1)


def maximum_of_two(b: Builder) -> None:
    b.add("Max", "x", b.add("Neg", "x"))


def norm_of_channels(b: Builder) -> None:
    b.add("InstanceNormalization", "x", np.ones(64, np.float32), np.zeros(64, np.float32))


def gemm(outputs: int, inputs: int, *, float16: bool = False) -> Write:
    weight = np.random.default_rng(1).standard_normal((outputs, inputs), np.float32) / 40

    def write(b: Builder) -> None:
        b.add("Gemm", "x", weight, np.zeros(outputs, np.float32), transB=1)
        if float16:
            b.in_16_bits()

    return write


NONE = np.zeros(0, np.float32)
POOL: dict[str, Any] = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
WIDE: dict[str, Any] = {"kernel_shape": [5, 5], "pads": [2, 2, 2, 2]}
TWICE = np.array([1, 1, 2, 2], np.float32)

OPERATORS: dict[str, tuple[tuple[int, ...], Write]] = {
    "Relu": (IMAGE, op("Relu")),
    "Max with a number": (IMAGE, op("Max", number(0.1))),
    "Min with a number": (IMAGE, op("Min", number(0.1))),
    "Max of two (and Neg)": (IMAGE, maximum_of_two),
    "Tanh": (IMAGE, op("Tanh")),
    "Erf": (IMAGE, op("Erf")),
    "Gelu": (IMAGE, op("Gelu")),
    "Sigmoid": (IMAGE, op("Sigmoid")),
    "Exp": (IMAGE, op("Exp")),
    "LeakyRelu": (IMAGE, op("LeakyRelu", alpha=0.1)),
    "HardSwish": (IMAGE, op("HardSwish")),
    "Elu": (IMAGE, op("Elu")),
    "Softplus": (IMAGE, op("Softplus")),
    "Mish": (IMAGE, op("Mish")),
    "Sqrt (of Abs)": (IMAGE, chain(("Abs", "x"), ("Sqrt", None))),
    "Add, a number": (IMAGE, op("Add", number(0.1))),
    "Add, by channel": (IMAGE, op("Add", by_channel(0.1))),
    "Mul, by channel": (IMAGE, op("Mul", by_channel(0.1))),
    "Mul, by last axis": (ROWS, op("Mul", np.linspace(1, 2, 64, dtype=np.float32))),
    "Add, two values": (IMAGE, op("Add", "x")),
    "Div, a number": (IMAGE, op("Div", number(3))),
    "Div, by channel": (IMAGE, op("Div", by_channel(1.0))),
    "SiLU, decomposed": (IMAGE, chain(("Sigmoid", "x"), ("Mul", "x", None))),
    "GELU, decomposed": (
        IMAGE,
        chain(
            ("Div", "x", number(math.sqrt(2))),
            ("Erf", None),
            ("Add", None, number(1)),
            ("Mul", "x", None),
            ("Mul", None, number(0.5)),
        ),
    ),
    "MaxPool 3x3": (IMAGE, op("MaxPool", **POOL)),
    "MaxPool 3x3, stride 2": (IMAGE, op("MaxPool", strides=[2, 2], **POOL)),
    "AveragePool 3x3": (IMAGE, op("AveragePool", **POOL)),
    "MaxPool 5x5": (IMAGE, op("MaxPool", **WIDE)),
    "MaxPool 2x2, stride 2": (IMAGE, op("MaxPool", kernel_shape=[2, 2], strides=[2, 2])),
    "Resize x2, nearest": ((64, 28, 28), op("Resize", NONE, TWICE, mode="nearest",
        coordinate_transformation_mode="asymmetric", nearest_mode="floor")),
    "Transpose 0231": (IMAGE, op("Transpose", perm=[0, 2, 3, 1])),
    "Transpose 0312": ((56, 56, 64), op("Transpose", perm=[0, 3, 1, 2])),
    "Transpose 0213": ((196, 4, 64), op("Transpose", perm=[0, 2, 1, 3])),
    "Softmax over 32": ((196, 32), op("Softmax", axis=-1)),
    "Softmax over 196": ((4, 196, 196), op("Softmax", axis=-1)),
    "LayerNorm over 64": (ROWS, op("LayerNormalization", np.ones(64, np.float32),
        np.zeros(64, np.float32), axis=-1)),
    "InstanceNorm": (IMAGE, norm_of_channels),
    "GlobalAveragePool": (IMAGE, op("GlobalAveragePool")),
    "ReduceMean, last axis": ((64, 56, 64), op("ReduceMean", np.array([-1]))),
    "ReduceSum, last axis": ((64, 56, 64), op("ReduceSum", np.array([-1]))),
    "ReduceMax, last axis": ((64, 56, 64), op("ReduceMax", np.array([-1]))),
    "Gemm to 1,000": ((1600,), gemm(1000, 1600)),
    "Gemm to 1,000, weights of 16 bits": ((1600,), gemm(1000, 1600, float16=True)),
    "Gemm to 12": ((1000,), gemm(12, 1000)),
}  # fmt: skip


def measure(shape: tuple[int, ...], write: Write, turns: int) -> dict[str, Any]:
    b = Builder(*shape)
    write(b)
    model = b.model(opset=20)
    session = onnxruntime.InferenceSession(model, networks.session_options())
    rng = np.random.default_rng(0)
    inputs = [rng.standard_normal((1, *shape), np.float32) for _ in range(4)]
    engine = Engine(model, threads=1, sample=inputs[0])
    calls: dict[str, Callable[[Any], Any]] = {
        "engine": engine,
        "onnxruntime": lambda x: session.run(None, {"x": x})[0],
    }
    outputs, expected = (call(inputs[0]) for call in calls.values())
    np.testing.assert_allclose(outputs, expected, rtol=1e-4, atol=1e-5)
    elements = max(math.prod(shape), expected.size)
    times = take_turns(calls, inputs, turns=turns, threads=1)
    ns = {f"{name}_ns": turn.seconds / elements * 1e9 for name, turn in times.items()}
    return {"shape": list(shape), **ns, "ratio": ns["onnxruntime_ns"] / ns["engine_ns"]}


def table(rows: dict[str, dict[str, Any]]) -> str:
    lines = [
        "| operator | input | engine, ns an element | onnxruntime | ratio before | ratio |",
        "|---|---|---|---|---|---|",
    ]
    for name, row in rows.items():
        before = f"{row['ratio_before']:.2f}x" if "ratio_before" in row else ""
        shape = " x ".join(map(str, row["shape"]))
        ns = f"{row['engine_ns']:.2f} | {row['onnxruntime_ns']:.2f}"
        lines.append(f"| {name} | {shape} | {ns} | {before} | {row['ratio']:.2f}x |")
    return "\n".join(lines) + "\n"


PAGE = """# The engine operator by operator

Made by

    python benchmarks/operators.py --before docs/results/engine.json --out docs/results/engine

{about}

Networks of one operator (or of the few that spell out an activation), under the engine and
onnxruntime {onnxruntime}, interleaved in one process on one thread: *measured* processor time of a
whole call over the elements of the larger of input and output, the median over {turns} turns.
*Ratio* says how many times faster than onnxruntime the engine is; *ratio before* is that of its
kernels before they computed these operators in vectors, by the same script at commit 31a5312.

{table}
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--only", nargs="*", help="parts of operators' names")
    parser.add_argument("--before", type=Path, help="an earlier file")
    parser.add_argument("--quiet", action="store_true", help="nothing else uses the machine")
    parser.add_argument("--out", type=Path, help="where to write .json and .md")
    arguments = parser.parse_args()
    wanted = arguments.only or [""]
    rows = {
        name: measure(*operator, arguments.turns)
        for name, operator in OPERATORS.items()
        if any(part in name for part in wanted)
    }
    before = json.loads(arguments.before.read_text())["operators"] if arguments.before else {}
    for name in rows.keys() & before.keys():
        rows[name]["ratio_before"] = before[name].get("ratio_before", before[name]["ratio"])
    others = "used by nothing else" if arguments.quiet else "shared with other programs"
    about = f"on {machine()} (kernels for {chosen_isa()}), {others}."
    print(f"{about}\n\n{table(rows)}", end="")
    if arguments.out:
        text = PAGE.format(about=about, onnxruntime=onnxruntime.__version__,
                           turns=arguments.turns, table=table(rows).rstrip())  # fmt: skip
        results.write(arguments.out, {"about": about, "operators": rows}, text)


if __name__ == "__main__":
    main()
