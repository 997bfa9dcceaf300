"""The generated C file: a header comment, tables, functions, and the one that runs the network."""

from __future__ import annotations

import math
import os
import re
from pathlib import Path

from gossamer.errors import UserError
from gossamer.kernels._kernels import BINARY, UNARY
from gossamer.runtime.c import layers
from gossamer.runtime.c.int8 import with_rounding_inside
from gossamer.runtime.c.memory import planned
from gossamer.runtime.c.writer import Writer
from gossamer.runtime.graph import AnyNode, Graph
from gossamer.runtime.importer import read

# Names that need <math.h>: the functions of the kernels' expressions, and what else is written.
MATH = {
    *re.findall(r"\b([a-z]\w*)\(", " ".join([*UNARY.values(), *BINARY.values()])),
    *("expf", "logf", "sqrt", "isnan", "INFINITY", "NAN"),
}

# Floats of all values; the C counts in 32 bits.
LARGEST = 1 << 29

KEYWORDS = frozenset(
    """auto break case char const continue default do double else enum extern float for goto if
    inline int long main register restrict return short signed sizeof static struct switch
    typedef union unsigned void volatile while""".split()  # noqa: SIM905
)


def identifier(text: str) -> str:
    """Return a text as a C identifier.

    >>> identifier("7-bit net.v2"), identifier("int")
    ('n7_bit_net_v2', 'int_')
    """
    name = re.sub(r"\W", "_", text, flags=re.ASCII).strip("_")[:48] or "network"
    name = f"n{name}" if name[0].isdigit() else name
    return f"{name}_" if name in KEYWORDS else name


def to_c(model: str | os.PathLike[str] | bytes | Graph, name: str = "model") -> str:
    """Return a network as one C99 file that computes one example at a time.

    The file contains the weights, sparse ones as lists of their non-zeros, and the function
    ``void NAME_run(const float *in, float *out)`` (one pointer for each input and output).
    It uses one static block of memory, and ``<math.h>`` only if the network needs its functions.
    With ``NAME_MAIN`` defined it is a program that reads raw floats from standard input and
    writes raw floats to standard output.

    Args:
        model: path or bytes of an ONNX file, or the graph that ``read`` returned for one.
        name: prefix of all identifiers; characters that C does not allow are replaced.

    Raises:
        UserError: the file cannot be read, or one of its nodes cannot be written as C.
    """
    graph = model if isinstance(model, Graph) else read(model)
    source = "a network in memory" if isinstance(model, bytes | Graph) else Path(model).name
    graph = with_rounding_inside(graph)
    writer = Writer(graph, identifier(name))
    for node in graph.nodes:
        _check(source, node)
    if sum(math.prod(shape) for shape in graph.shapes.values()) > LARGEST:
        raise UserError(f"{source}: its values are too many for C; run it with the engine")
    for node in graph.nodes:
        node.operation.write(writer, node)
    return _assembled(writer, source)


def _check(source: str, node: AnyNode) -> None:
    if node.op in ("conv", "linear") and not layers.finite(node):
        raise UserError(
            f"{source}: the weights of node {node.name!r} are not finite; train it again"
        )


def _assembled(writer: Writer, source: str) -> str:
    graph, name, upper = writer.graph, writer.name, writer.name.upper()
    places, scratch, floats = planned(graph, writer.scratch)
    parameters = ", ".join(
        [f"const float *{each}" for each in _numbered("in", len(graph.inputs))]
        + [f"float *{each}" for each in _numbered("out", len(graph.outputs))]
    )

    def place(value: str) -> str:
        at = places[value]
        if value in writer.types:
            return f"({writer.types[value]} *)({at})"
        if at == "in0" and len(graph.inputs) == 1:
            return "in"
        return "out" if at == "out0" and len(graph.outputs) == 1 else at

    lines = []
    for node, function in writer.calls:
        inputs = [place(value) for value in (*node.inputs, node.output)]
        if node.output in scratch:
            inputs.append(f"memory + {scratch[node.output]}")
        lines.append(f"    {function}({', '.join(inputs)});")
    copies = [
        f"    for (i = 0; i < {writer.size(value)}; ++i) {out}[i] = {place(value)}[i];"
        for out, value in zip(_numbered("out", len(graph.outputs)), graph.outputs, strict=True)
        if place(value) != out
    ]
    ends = [
        *zip(_numbered("in", len(graph.inputs)), graph.inputs, strict=True),
        *zip(_numbered("out", len(graph.outputs)), graph.outputs, strict=True),
    ]
    sizes = [
        f"#define {upper}_{each.upper()} {writer.size(value)} /* floats: {_shown(graph, value)} */"
        for each, value in ends
    ]
    functions = "\n\n".join([*writer.helpers, *writer.functions])
    block = [f"static float memory[{floats}];"] if floats else []
    if writer.sums:
        block.append(f"static int32_t sums[{writer.sums}];")
    memory = 4 * (floats + writer.sums)
    tables = "\n".join(writer.tables.lines)
    words = re.findall(r"\w+", functions + tables)
    math_h = MATH & set(words)
    return "\n".join(
        [
            f"/* {_comment_text(source)} as C99, written by gossamer export --c.",
            "",
            f"   void {name}_run({parameters});",
            "",
            f"   Runs one example. Weights: {writer.tables.bytes} bytes, constant.",
            f"   Memory: {memory} bytes, static: calls must not overlap, nor may inputs and",
            f"   outputs. Define {upper}_MAIN for a program: raw floats, standard input to output.",
            "*/",
            "#include <stdint.h>",
            *(["#include <math.h>"] if math_h else []),
            "",
            *sizes,
            f"#define {upper}_WEIGHT_BYTES {writer.tables.bytes}",
            f"#define {upper}_MEMORY_BYTES {memory}",
            "",
            f"void {name}_run({parameters});",
            "",
            *block,
            "",
            tables,
            "",
            functions,
            "",
            f"void {name}_run({parameters})",
            "{",
            *(["    int32_t i;"] if copies else []),
            *lines,
            *copies,
            "}",
            "",
            *_main(writer),
            "",
        ]
    )


def _numbered(word: str, count: int) -> list[str]:
    return [word] if count == 1 else [f"{word}{i}" for i in range(count)]


def _shown(graph: Graph, value: str) -> str:
    return " x ".join(str(size) for size in graph.shapes[value])


def _comment_text(text: str) -> str:
    """Return a file's name with what could end a C comment replaced."""
    return re.sub(r"[^\w .-]", "_", text, flags=re.ASCII)


def _main(writer: Writer) -> list[str]:
    name, upper = writer.name, writer.name.upper()
    inputs = _numbered("in", len(writer.graph.inputs))
    made = _numbered("out", len(writer.graph.outputs))
    buffers = [f"static float {each}_[{upper}_{each.upper()}];" for each in inputs + made]
    first = f"fread({inputs[0]}_, sizeof {inputs[0]}_, 1, stdin) == 1"
    rest = [
        f"        if (fread({each}_, sizeof {each}_, 1, stdin) != 1) return 1;"
        for each in inputs[1:]
    ]
    writes = [
        f"        if (fwrite({each}_, sizeof {each}_, 1, stdout) != 1) return 1;" for each in made
    ]
    arguments = ", ".join(f"{each}_" for each in inputs + made)
    return [
        f"#ifdef {upper}_MAIN",
        "#include <stdio.h>",
        "",
        *buffers,
        "",
        "int main(void)",
        "{",
        f"    while ({first}) {{",
        *rest,
        f"        {name}_run({arguments});",
        *writes,
        "    }",
        "    return 0;",
        "}",
        "#endif",
    ]
