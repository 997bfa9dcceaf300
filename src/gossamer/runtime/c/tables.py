"""Constants as C tables; sparse weights as lists of their non-zeros."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from gossamer.runtime.graph import Array

LINE = 96  # characters


def number(value: float) -> str:
    """Return a float32 as a C literal that is read back as exactly the same float."""
    if math.isnan(value):
        return "NAN"
    if math.isinf(value):
        return "INFINITY" if value > 0 else "-INFINITY"
    text = f"{float(np.float32(value)):.9g}"
    return text + ("f" if "." in text or "e" in text else ".0f")


def unsigned(largest: int) -> tuple[str, int]:
    """Return the smallest unsigned C type that can hold a number, and its size in bytes."""
    for bits in (8, 16):
        if largest < 1 << bits:
            return f"uint{bits}_t", bits // 8
    return "uint32_t", 4


class Tables:
    """The tables of one C file, and their total size in bytes."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self.bytes = 0

    def floats(self, name: str, values: Array) -> str:
        flat = np.asarray(values, np.float32).reshape(-1)
        self._table("float", name, [number(value) for value in flat.tolist()], 4)
        return name

    def bytes_of(self, name: str, values: Array) -> str:
        self._table("int8_t", name, [str(value) for value in values.reshape(-1).tolist()], 1)
        return name

    def integers(self, name: str, values: Array, largest: int) -> str:
        kind, size = unsigned(largest)
        self._table(kind, name, [str(value) for value in values.tolist()], size)
        return name

    def _table(self, kind: str, name: str, texts: list[str], size: int) -> None:
        texts = texts or ["0"]  # C has no empty tables
        self.bytes += size * len(texts)
        self.lines.append(f"static const {kind} {name}[{len(texts)}] = {{")
        line = ""
        for text in texts:
            if len(line) + len(text) > LINE:
                self.lines.append(line)
                line = ""
            line += f"{text}, "
        self.lines += [line.rstrip(", "), "};"]


@dataclass
class Rows:
    """A weight matrix stored by rows: dense, or as columns and values of its non-zeros."""

    weight: str
    columns: int
    index: str = ""
    start: str = ""

    def loop(self, row: str, body: str) -> str:
        """Return a C loop of ``body`` over a row, indented; {o} is the column, {w} the weight."""
        if not self.index:
            fill = {"o": "e", "w": f"{self.weight}[{row} * {self.columns} + e]"}
            head = f"for (e = 0; e < {self.columns}; ++e) {{"
        else:
            fill = {"o": f"(int32_t){self.index}[e]", "w": f"{self.weight}[e]"}
            head = (
                f"for (e = (int32_t){self.start}[{row}]; e < (int32_t){self.start}[{row} + 1]; "
                "++e) {"
            )
        lines = [head, *("    " + line for line in body.format(**fill).split("\n")), "}"]
        return "\n".join(" " * 8 + line for line in lines)


def rows(tables: Tables, name: str, matrix: Array) -> Rows:
    """Store a float32 or int8 matrix, dense or sparse, whichever is smaller."""
    count, columns = matrix.shape
    store = tables.bytes_of if matrix.dtype == np.int8 else tables.floats
    row, column = np.nonzero(matrix)
    sparse = (
        len(row) * (matrix.itemsize + unsigned(columns - 1)[1])
        + (count + 1) * unsigned(len(row))[1]
    )
    if sparse >= matrix.nbytes:
        return Rows(store(f"{name}_weight", matrix), columns)
    starts = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=count))])
    return Rows(
        store(f"{name}_weight", matrix[row, column]),
        columns,
        tables.integers(f"{name}_index", column, columns - 1),
        tables.integers(f"{name}_start", starts, len(row)),
    )
