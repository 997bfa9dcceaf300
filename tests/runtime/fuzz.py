"""Reads mutated ONNX files under limits of memory and time; one seed after the other.

    python tests/runtime/fuzz.py FIRST_SEED COUNT FOLDER

Ends with status 0 if every file was read or refused by a ``UserError``; otherwise says which
seed it was, and the file lies in the folder.
"""

from __future__ import annotations

import random
import resource
import signal
import sys
from contextlib import suppress
from pathlib import Path

import networks
import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from networks import Builder, sparse
from onnx import TensorProto, helper

from gossamer.errors import UserError
from gossamer.runtime import store_sparse
from gossamer.runtime.importer import mapped, read

MORE_MEMORY = 512 << 20  # bytes that reading any of these files may take
SECONDS = 10  # for one file


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
    plain = [onnx.ModelProto.FromString(m) for m in (speech, attention(), functions(), images())]
    return [*plain, store_sparse(plain[0])]


NUMBERS = (-(1 << 63), -(1 << 31), -2, -1, 0, 1, 2, 3, 7, 255, 1 << 16, 1 << 31, 1 << 40, 1 << 62)
PLACES = ("w.bin", "../w.bin", "/etc/passwd", "", ".", "sub/../../w.bin", "/dev/zero", "w.bin\0")


def change(model: onnx.ModelProto, rng: random.Random) -> None:
    """One change that a file's format allows."""
    graph = model.graph
    node = rng.choice(graph.node)
    number = rng.choice(NUMBERS)
    names = [v for n in graph.node for v in (*n.input, *n.output)]
    names += [t.name for t in graph.initializer]
    match rng.randrange(14):
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
        case _:
            if len(graph.node) < 1000:
                graph.node.extend([rng.choice(graph.node) for _ in range(rng.randrange(1, 4))])


def mutated(seed: int, models: list[onnx.ModelProto]) -> bytes:
    rng = random.Random(seed)
    model = onnx.ModelProto()
    model.CopyFrom(rng.choice(models))
    if rng.random() < 0.7:
        for _ in range(rng.randrange(1, 4)):
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


def main(first: int, count: int, folder: Path) -> None:
    (folder / "w.bin").write_bytes(bytes(64))
    mapped.LARGE = 64  # so that the small constants of these networks are left in the file, too
    models = originals()
    for model in models:
        read(model.SerializeToString())
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + MORE_MEMORY, resource.RLIM_INFINITY))
    path = folder / "mutated.onnx"
    refused = 0
    for seed in range(first, first + count):
        path.write_bytes(mutated(seed, models))
        print(f"seed {seed}", file=sys.stderr)
        signal.alarm(SECONDS)
        try:
            read(path)
        except UserError as error:
            refused += 1
            if not str(error).isprintable():  # one line, no control characters
                sys.exit(f"seed {seed}: {str(error)!r}")
        signal.alarm(0)
    print(f"{refused} of {count} refused")


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
