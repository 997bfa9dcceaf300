"""Inlining of branches and unrolling of loops, where conditions and iteration counts are constant.

Each time a graph is inlined its values get new names, since graphs may use the same names, and a
loop's body is inlined once for each iteration.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from gossamer.runtime.importer.mmap import Source
from gossamer.runtime.importer.parse import Parsed, parse_inner
from gossamer.runtime.operators.call import Call
from gossamer.runtime.operators.context import Context, shown
from gossamer.runtime.operators.unsupported import Unsupported

# Numbers that a call in a loop costs of those that a file may ask for (``Context.free``).
CALL = 1 << 9


@dataclass(frozen=True)
class Control:
    """Expansion of nodes that have graphs (branches and loops).

    Args:
        context: of the import.
        source: of the file's constants.
        graph: converts the nodes of a graph.
        call: converts one call.
    """

    context: Context
    source: Source
    graph: Callable[[Parsed], None]
    call: Callable[[Call], None]
    _graphs: dict[int, tuple[Any, Parsed]] = field(default_factory=dict)  # by the file's graph

    def write_out(self, call: Call) -> None:
        """Convert the graphs of an If or Loop in its place.

        Raises:
            Unsupported: its condition or number of iterations is not constant.
        """
        if call.operator == "If":
            self._branch(call)
        else:
            self._loop(call)

    def _parsed(self, call: Call, name: str) -> Parsed:
        if name not in call.graphs:
            raise Unsupported(f"{call.where}: its {name} is missing")
        graph = call.graphs[name]
        if id(graph) not in self._graphs:
            parsed = parse_inner(graph, self.source)
            self.context.free += parsed.size
            self._graphs[id(graph)] = graph, parsed
        return self._graphs[id(graph)][1]

    def _constant(self, value: str) -> bool | int | None:
        """Return the boolean or integer of a constant with one number, else None."""
        if not self.context.is_constant(value) or self.context.array(value).size != 1:
            return None
        number: bool | int = self.context.array(value).item()
        return number

    def _branch(self, call: Call) -> None:
        """Inline the branch of a constant condition; else both, and choose between results."""
        condition = call.value if call.inputs else ""
        if not condition:
            raise Unsupported(f"{call.where}: it has no condition; export it again")
        taken = self._constant(condition)
        if taken is not None:
            results = self._written_out(call, "then_branch" if taken else "else_branch")
            for value, output in zip(results, call.outputs, strict=True):
                self._name(call, value, output)
            return
        try:
            self._choose(call, condition)
        except Unsupported as error:
            raise Unsupported(f"{error}{self._hint(condition)}") from None

    def _choose(self, call: Call, condition: str) -> None:
        """Inline both branches and choose between their results by a computed condition."""
        both = [self._written_out(call, name) for name in ("then_branch", "else_branch")]
        for left, right, output in zip(*both, call.outputs, strict=True):
            shapes = self.context.shape(left), self.context.shape(right)
            if shapes[0] != shapes[1]:
                raise Unsupported(
                    f"{call.where}: its condition is computed, and its branches make "
                    f"{shown(shapes[0])} and {shown(shapes[1])}; only constant conditions can run"
                )
            self.call(Call("Where", call.name, [condition, left, right], [output], {}))

    def _written_out(self, call: Call, name: str) -> list[str]:
        """Inline a branch and return the names of its results."""
        branch = self._parsed(call, name)
        if len(branch.outputs) != len(call.outputs):
            raise Unsupported(f"{call.where}: its {name} has other outputs")
        own = branch.renamed(call.names, f"{_unique(call)} {name} ")
        self.graph(own)
        self._check(call, own)
        return own.outputs

    def _check(self, call: Call, graph: Parsed) -> None:
        for value in graph.outputs:
            if value not in self.context.values:
                raise Unsupported(f"{call.where}: nothing computes {value!r}")

    def _loop(self, call: Call) -> None:
        """Unroll a loop; its condition may change from one iteration to the next."""
        context = self.context
        limit, going, *states = [*call.inputs, "", ""][: max(2, len(call.inputs))]
        body = self._parsed(call, "body")
        carried, names = len(states), list(body.inputs)
        rows: list[list[str]] = [[] for _ in body.outputs[1 + carried :]]
        if len(names) != 2 + carried or len(call.outputs) > carried + len(rows):
            raise Unsupported(f"{call.where}: its body has other inputs or outputs")
        most = self._number(call, limit) if limit else None
        goes_on = bool(self._number(call, going)) if going else True
        rounds = 0
        while goes_on and (most is None or rounds < most):
            context.free -= CALL * (1 + len(body.calls))
            if context.free < 0:
                raise Unsupported(f"{call.where}: it has too many iterations to unroll")
            prefix = f"{_unique(call)} round {rounds} "
            count, again = f"{prefix}count", f"{prefix}condition"
            context.add_constant(count, np.array(rounds))
            context.add_constant(again, np.array(True))
            bound = dict(zip(names, [count, again, *states], strict=True))
            own = body.renamed({**call.names, **bound}, prefix)
            self.graph(own)
            self._check(call, own)
            goes_on, states = bool(self._number(call, own.outputs[0])), own.outputs[1 : 1 + carried]
            for row, value in zip(rows, own.outputs[1 + carried :], strict=True):
                row.append(value)
            rounds += 1
        results = [*states, *(self._joined(call, row, i) for i, row in enumerate(rows))]
        for value, output in zip(results, call.outputs, strict=False):
            self._name(call, value, output)

    def _number(self, call: Call, value: str) -> bool | int:
        number = self._constant(value)
        if number is None:
            raise Unsupported(
                f"{call.where}: its number of iterations is computed; only a constant one can run"
                f"{self._hint(value)}"
            )
        return number

    def _hint(self, value: str) -> str:
        """Return a hint for an error if a value depends on inputs of a single number only."""
        values = self.context.values
        made = {node.output: node.inputs for node in self.context.nodes}
        pending, seen, inputs = [value], set[str](), set[str]()
        while pending:
            name = pending.pop()
            if name in seen:  # else a value that is read twice doubles the ways
                continue
            seen.add(name)
            axis = values[name].batch_axis
            if axis is not None:
                pending.append(axis.source)
            elif name in made:
                pending += made[name]
            else:
                inputs.add(name)
        if not inputs or any(values[name].shape != (1,) for name in inputs):
            return ""
        names = " and ".join(map(repr, sorted(inputs)))
        return f"; fix the value of input {names} (values, or --value)"

    def _joined(self, call: Call, row: list[str], position: int) -> str:
        """Stack the results of all iterations along a new first dimension."""
        output = dict(enumerate(call.outputs)).get(len(call.inputs) - 2 + position, "")
        if not output:
            return ""
        if not row:
            raise Unsupported(f"{call.where}: it has no iteration, so {output!r} is empty")
        axes = f"{output} axes"
        self.context.add_constant(axes, np.zeros(1, np.int64))
        parts = [f"{output} of round {i}" for i in range(len(row))]
        for value, part in zip(row, parts, strict=True):
            self.call(Call("Unsqueeze", call.name, [value, axes], [part], {}))
        joined = f"{output} joined"
        self.call(Call("Concat", call.name, parts, [joined], {"axis": 0}))
        return joined

    def _name(self, call: Call, value: str, output: str) -> None:
        """Define a node's output as a value that is computed already."""
        if not output:
            return
        if self.context.is_constant(value):
            self.context.values[output] = self.context.values[value]
        else:
            self.call(Call("Identity", call.name, [value], [output], {}))


def _unique(call: Call) -> str:
    """Return a name that no other node has: an output's, since nodes' names may repeat."""
    return next(filter(None, call.outputs))
