"""Reads and runs mutated ONNX files under limits of memory and time; one seed after the other.

    python tests/runtime/fuzz.py FIRST_SEED COUNT FOLDER

Ends with status 0 if every file was refused by a ``UserError``, or read and run, by kernels chosen
at random, with the values that ONNX Runtime computes; otherwise says which seed it was, and the
file lies in the folder. Differences that are right have a reason (see ``why_different``).
"""

from __future__ import annotations

import json
import random
import resource
import signal
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

import networks
import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, EncodeError
from networks import Builder, sparse
from onnx import TensorProto, helper, numpy_helper

from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, Plan, lowered, store_sparse
from gossamer.runtime.examples import synthetic
from gossamer.runtime.graph import Array, Graph
from gossamer.runtime.importer import mmap, read

MORE_MEMORY = 512 << 20  # bytes that any of these files may take
SECONDS = 10  # for one file
LARGEST_RUN = 1 << 22  # numbers of all values of a network that is run
BEYOND = 1e15  # sums of numbers so large have no digit that their order does not change


def attention() -> bytes:
    b = Builder(4, 6)
    b.add("MatMul", "x", sparse(np.random.default_rng(0), 6, 18))
    b.add("Reshape", b.last, np.array([0, 4, 3, 2, 3]))
    turned = b.add("Transpose", b.last, perm=[2, 0, 3, 1, 4])
    q, k = (b.add("Gather", turned, np.array(i), axis=0) for i in range(2))
    b.add("MatMul", q, b.add("Transpose", k, perm=[0, 1, 3, 2]))
    b.add("Softmax", b.last)
    padded = b.add("Pad", b.last, np.array([0, 0, 0, 1, 0, 0, 0, 1]))
    size = b.add("Concat", b.add("Shape", q, start=1, end=2), np.array([5]), axis=0)
    b.add("Expand", b.add("ConstantOfShape", size), np.array([3, 2, 5]))
    return b.model(padded)


def images() -> bytes:
    b = Builder(2, 5, 4)
    b.add("Pad", "x", np.array([0, 0, 1, 2, 0, 0, 1, 1]), mode="reflect")
    none, scales = np.zeros(0, np.float32), np.array([1, 1, 1.5, 2], np.float32)
    return b.model(b.add("Resize", b.last, none, scales, mode="linear"))


def functions() -> bytes:
    """Functions that call one another."""
    b = Builder(3)
    for i in range(4):
        inner = "Relu" if i == 0 else f"F{i - 1}"
        domain = "" if i == 0 else "other"
        nodes = [
            helper.make_node(inner, ["a"], ["t"], domain=domain),
            helper.make_node(inner, ["t"], ["b"], domain=domain),
        ]
        imports = [helper.make_opsetid("", 18), helper.make_opsetid("other", 1)]
        b.functions.append(helper.make_function("other", f"F{i}", ["a"], ["b"], nodes, imports))
    b.add("F3", "x", domain="other")
    model = onnx.ModelProto.FromString(b.model())
    model.opset_import.append(helper.make_opsetid("other", 1))
    return model.SerializeToString()


def originals() -> list[onnx.ModelProto]:
    speech = networks.speech_cnn(0.1, winners=True, width=4, hidden=12)
    int8 = networks.speech_cnn(0.1, width=4, hidden=12, int8=True)
    made = (speech, int8, attention(), functions(), images(), norms())
    plain = [onnx.ModelProto.FromString(m) for m in made]
    return [*plain, store_sparse(plain[0])]


def norms() -> bytes:
    """Norms, reductions and numbers one by one, over values of several ranks."""
    rng = np.random.default_rng(1)
    b = Builder(3, 4, 6)
    b.add("LayerNormalization", "x", *(rng.random((2, 6)) + 0.5).astype(np.float32), axis=-1)
    b.add("Unsqueeze", b.last, np.array([1, 4]))
    b.add("Mul", b.last, sparse(rng, 2, 1, 1, 1, 6))
    b.add("ReduceMean", b.last, np.array([-1]), keepdims=1)
    b.add("Reshape", b.last, np.array([0, 2, 3, 4]))
    b.add("HardSigmoid", b.last, alpha=0.3)
    b.add("Transpose", b.last, perm=[0, 3, 1, 2])
    b.add("AveragePool", b.last, kernel_shape=[2, 2], pads=[0, 0, 1, 1], ceil_mode=1)
    return b.model(b.add("ReduceMax", b.last, np.array([2]), keepdims=0))


NUMBERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 7, 255, 1 << 16, 1 << 31, 1 << 40, 1 << 62)
FLOATS = (float("nan"), float("inf"), float("-inf"), 1e30, -1e30, 1e-30, 0.0, 0.5, -2.0, 100.0)
PLACES = ("w.bin", "../w.bin", "/etc/passwd", "", ".", "sub/../../w.bin", "/dev/zero", "w.bin\0")


def change(model: onnx.ModelProto, rng: random.Random) -> None:
    """One change that a file's format allows."""
    graph = model.graph
    node = rng.choice(graph.node)
    number = rng.choice(NUMBERS)
    names = [v for n in graph.node for v in (*n.input, *n.output)]
    names += [t.name for t in graph.initializer]
    match rng.randrange(19):
        case 0 if graph.initializer:
            tensor = rng.choice(graph.initializer)
            tensor.dims.append(number)
        case 1 if graph.initializer:
            tensor = rng.choice(graph.initializer)
            if tensor.dims:
                tensor.dims[rng.randrange(len(tensor.dims))] = number
        case 2 if graph.initializer:
            rng.choice(graph.initializer).data_type = rng.randrange(25)
        case 3 if graph.initializer:  # external data, here or elsewhere
            tensor = rng.choice(graph.initializer)
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in (
                ("location", rng.choice(PLACES)),
                ("offset", rng.choice(["0", "-1", "nan", "4096", str(number)])),
                ("length", str(number)),
            ):
                tensor.external_data.add(key=key, value=value)
        case 4 if node.input:  # cycles and loose ends
            node.input[rng.randrange(len(node.input))] = rng.choice(names)
        case 5 if node.output:
            node.output[rng.randrange(len(node.output))] = rng.choice(names)
        case 6:
            other = rng.choice(graph.node)
            node.op_type, node.domain = other.op_type, other.domain
        case 7 if node.attribute:
            attribute = rng.choice(node.attribute)
            attribute.i = number
            attribute.ints.append(number)
            if attribute.ints:
                attribute.ints[rng.randrange(len(attribute.ints))] = number
        case 8 if node.attribute:
            rng.choice(node.attribute).type = rng.randrange(1, 13)
        case 9:
            dims = graph.input[0].type.tensor_type.shape.dim
            dims[rng.randrange(len(dims))].dim_value = number
        case 10:  # constants that are numbers of other constants
            for tensor in graph.initializer:
                if tensor.data_type == TensorProto.INT64 and len(tensor.raw_data) >= 8:
                    at = 8 * rng.randrange(len(tensor.raw_data) // 8)
                    raw = bytearray(tensor.raw_data)
                    raw[at : at + 8] = number.to_bytes(8, "little", signed=True)
                    tensor.raw_data = bytes(raw)
        case 11 if model.functions:
            function = rng.choice(model.functions)
            inner = rng.choice(function.node)
            inner.op_type, inner.domain = rng.choice(model.functions).name, function.domain
        case 12:  # a graph within a graph within a graph
            attribute = node.attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
            for _ in range(rng.choice([1, 20, 60])):
                inner = attribute.g.node.add(op_type="If")
                attribute = inner.attribute.add(name="body", type=onnx.AttributeProto.GRAPH)
        case 13 if node.attribute:  # settings in their own type
            attribute = rng.choice(node.attribute)
            attribute.f, attribute.i = rng.choice(FLOATS), rng.choice(NUMBERS)
        case 14 | 15 if graph.initializer:  # a weight
            tensor = rng.choice(graph.initializer)
            if tensor.data_type == TensorProto.FLOAT and len(tensor.raw_data) % 4 == 0 != len(
                tensor.raw_data
            ):
                values = np.frombuffer(tensor.raw_data, "<f4").copy()
                values[rng.randrange(values.size)] = rng.choice(FLOATS)
                tensor.raw_data = values.tobytes()
        case 16:  # another rank on the way
            _reshape(graph, rng)
        case 17 if model.functions:  # another body
            inner = rng.choice(rng.choice(model.functions).node)
            inner.op_type = rng.choice(["Mul", "Add", "Sub", "Identity", "Neg"])
        case _:
            if len(graph.node) < 1000:
                graph.node.extend([rng.choice(graph.node) for _ in range(rng.randrange(1, 4))])


def _reshape(graph: onnx.GraphProto, rng: random.Random) -> None:
    """Axes of size one put into a value, and taken out again or not."""
    at = rng.randrange(len(graph.node))
    if not graph.node[at].input:
        return
    value, name = graph.node[at].input[0], f"more {len(graph.node)}"
    rank = rng.choice([1, 2, 3, 5, 28, 33, 60, 64, 65, 130])
    axes = [rng.randrange(0, 4) + i for i in range(rank)]
    graph.initializer.append(numpy_helper.from_array(np.array(axes), f"{name} axes"))
    nodes = [helper.make_node("Unsqueeze", [value, f"{name} axes"], [name])]
    last = name
    if rng.random() < 0.7:
        perm = list(range(rank + 4))
        if rng.random() < 0.3:
            nodes.append(helper.make_node("Relu", [last], [f"{name} relu"]))
            last = f"{name} relu"
        elif rng.random() < 0.3:
            rng.shuffle(perm)
            nodes.append(helper.make_node("Transpose", [last], [f"{name} turned"], perm=perm))
            last = f"{name} turned"
        nodes.append(helper.make_node("Squeeze", [last, f"{name} axes"], [f"{name} back"]))
        last = f"{name} back"
    graph.node[at].input[0] = last
    after = list(graph.node)
    del graph.node[:]
    graph.node.extend([*after[:at], *nodes, *after[at:]])


def mutated(seed: int, models: list[onnx.ModelProto]) -> bytes:
    rng = random.Random(seed)
    model = onnx.ModelProto()
    model.CopyFrom(rng.choice(models))
    if rng.random() < 0.9:
        for _ in range(rng.choice([1, 1, 1, 2, 3])):
            with suppress(DecodeError, EncodeError):  # nested deeper than protobuf can copy
                change(model, rng)
        return model.SerializeToString()
    data = bytearray(model.SerializeToString())
    for _ in range(rng.randrange(1, 6)):
        at = rng.randrange(max(1, len(data)))
        match rng.randrange(4):
            case 0:
                del data[at:]
            case 1:
                data[at : at + 1] = bytes([rng.randrange(256)])
            case 2:
                data[at:at] = rng.randbytes(rng.randrange(8))
            case _:
                to = rng.randrange(max(1, len(data)))
                data[to : to + 16] = data[at : at + 16]
    return bytes(data)


def run(graph: Graph, inputs: list[Array], rng: random.Random) -> list[Array]:
    """What the engine computes by kernels that are chosen at random."""
    pick = lowered.pick
    lowered.pick = lambda candidates, name: rng.choice(candidates)
    try:
        plan = Plan("any", chosen_isa(), graph.fingerprint())
        found = Engine(graph, threads=1, plan=plan)(*inputs)
    finally:
        lowered.pick = pick
    return found if isinstance(found, list) else [found]


def reference(model: bytes, inputs: dict[str, Array]) -> list[Array] | None:
    """What ONNX Runtime computes, as the file says it, not optimized; None if it refuses."""
    options = networks.session_options()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    options.enable_mem_pattern = options.enable_cpu_mem_arena = False
    try:
        session = onnxruntime.InferenceSession(model, options)
        return session.run(None, inputs)
    except Exception:  # its C++ side throws whatever it likes
        return None


def alike(found: list[Array], expected: list[Array], tolerance: float) -> bool:
    """Whether outputs agree within a part of the largest number; NaN and infinities alike."""
    for a, b in zip(found, expected, strict=True):
        if a.shape != b.shape:
            return False
        scale = np.abs(b[np.isfinite(b)]).max(initial=0.0)
        if not np.allclose(a, b, rtol=tolerance, atol=tolerance * scale + 1e-6, equal_nan=True):
            return False
    return True


def values_of(model: bytes, inputs: dict[str, Array]) -> list[Array]:
    """Every value on the way, by ONNX Runtime; none where it refuses to show them."""
    whole = onnx.ModelProto.FromString(model)
    known = {value.name for value in whole.graph.output}
    names = {name for node in whole.graph.node for name in node.output if name} - known
    whole.graph.output.extend(onnx.ValueInfoProto(name=name) for name in sorted(names))
    shown = reference(whole.SerializeToString(), inputs) or []
    return [value for value in shown if value.dtype.kind == "f"]


def why_different(
    graph: Graph, model: bytes, inputs: dict[str, Array], expected: list[Array]
) -> str | None:
    """The reason for which two right answers differ here; None if there is none."""
    constants = [array for node in graph.nodes for array in node.constants.values()]
    values = [*values_of(model, inputs), *expected, *constants]
    if any(not np.isfinite(value).all() for value in values):
        # 0 * inf is NaN, and a kernel for sparse weights leaves out the zeros; the engine's dense
        # kernels are for infinities in its inputs.
        return "infinities or NaN within"
    if any(np.abs(value).max(initial=0.0) > BEYOND for value in values):
        return "numbers so large that sums depend on their order"
    return None


def compare(path: Path, graph: Graph, seed: int) -> str:
    """Runs a network and says how it compares; ends the process if it differs without a reason."""
    total = sum(graph.item(n.output) * graph.shapes[n.output][0] for n in graph.nodes)
    if total > LARGEST_RUN:
        return "too large to run"
    rng, model = random.Random(seed), path.read_bytes()
    eight = any(node.op == "round" for node in graph.nodes)
    tolerance = 0.05 if eight else 1e-4  # between two codes the last bit of a sum decides
    for attempt in range(3):
        inputs = synthetic(graph, 2 if graph.dynamic else 1, seed + attempt)
        with np.errstate(all="ignore"):
            found = run(graph, inputs, rng)
        expected = reference(model, named := dict(zip(graph.inputs, inputs, strict=True)))
        if expected is None:
            return "refused by ONNX Runtime"
        if alike(found, expected, tolerance):
            return "equal" if not attempt else "near a tie of winners or codes"
        if reason := why_different(graph, model, named, expected):
            return reason
    sys.exit(f"seed {seed}: the values differ from ONNX Runtime's")


def main(first: int, count: int, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(64))
    mmap.LARGE = 64  # so that the small constants of these networks are left in the file, too
    models = originals()
    path = folder / "mutated.onnx"
    for seed, model in enumerate(models):
        path.write_bytes(model.SerializeToString())
        assert compare(path, read(path), seed) == "equal"
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))
    results: Counter[str] = Counter()
    for seed in range(first, first + count):
        path.write_bytes(mutated(seed, models))
        print(f"seed {seed}", file=sys.stderr)
        signal.alarm(SECONDS)
        try:
            results[compare(path, read(path), seed)] += 1
        except UserError as error:
            results["refused"] += 1
            if not str(error).isprintable():  # one line, no control characters
                sys.exit(f"seed {seed}: {str(error)!r}")
        signal.alarm(0)
    print(json.dumps(results))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
