"""The engine, which runs an ONNX file on NumPy arrays."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np

from gossamer.errors import UserError
from gossamer.kernels._kernels import Program
from gossamer.kernels.registry import ISAS, chosen_isa
from gossamer.runtime import planner
from gossamer.runtime.examples import synthetic
from gossamer.runtime.graph import Array, Graph, Shape
from gossamer.runtime.importer import read
from gossamer.runtime.lowered import Lowered, lower
from gossamer.runtime.machine import machine, usable_cores
from gossamer.runtime.plan import Plan
from gossamer.runtime.program import Step, assemble
from gossamer.runtime.sharing import single_threaded

EXACT = 1 << 24  # up to here float32 holds every integer


@dataclass(frozen=True)
class LayerProfile:
    """One kernel call of the network; all but ``bytes`` are per example.

    ``seconds`` is measured; ``macs`` (done, at the measured density of the activations) and
    ``dense_macs`` (of the dense layer) are counted; ``bytes`` are those of the packed weights,
    ``moved`` those of weights and values that the call touches. ``threads`` work on it, each on
    examples of its own if there are enough. ``value`` is what the node computes, empty for
    conversions; nodes that come from one operator of the file share its name as ``node``.
    """

    node: str
    kernel: str
    seconds: float
    macs: float
    dense_macs: float
    bytes: int
    moved: float
    threads: int = 1
    value: str = ""


class Engine:
    """A network that runs on NumPy arrays.

    Call it with the network's inputs, arrays of shape ``[batch, ...]``: float32 or, where the file
    declares them so (token ids, masks), integers or booleans. It returns the output, or a list of
    several, in the types that the file declares. What the file declares as a scalar is one here.
    The result does not depend on the number of threads; calls from several Python threads are safe
    and wait for one another.

    An input with infinities or NaN is computed by dense kernels, where zero times infinity is NaN.

    Args:
        model: path or bytes of an ONNX file, or the graph that ``read`` returned for one.
        threads: number of threads; by default all usable cores.
        plan: file of the plan. One that was measured on this machine for this network is used;
            otherwise the candidates are measured and the plan is written there.
        isa: instruction set to use (default: environment variable GOSSAMER_ISA, else the
            widest of this machine).
        sample: example inputs to measure on; by default normal noise.
        shapes: sizes of inputs with dynamic dimensions, by input: the engine's sizes are fixed
            except for the batch, which -1 as the first size leaves dynamic.
        values: numbers of inputs that are the same in every call, such as a sampling rate, by
            input; omit these inputs in calls.
        on_progress: called while the candidates are measured, with the number of the network's
            operations that are done and the number of all.

    Raises:
        UserError: the file cannot be read or run, or an argument is wrong.
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | bytes | Graph,
        *,
        threads: int | None = None,
        plan: str | os.PathLike[str] | Plan | None = None,
        isa: str | None = None,
        sample: Sequence[Array] | Array | None = None,
        shapes: Mapping[str, Shape] | None = None,
        values: Mapping[str, Any] | None = None,
        on_progress: Callable[[int, int], None] = lambda done, total: None,
    ) -> None:
        if threads is not None and not 1 <= threads <= 256:
            raise UserError(f"threads = {threads}: must be between 1 and 256")
        # What a copy in another process is opened from.
        self._path = os.path.abspath(model) if isinstance(model, str | os.PathLike) else None
        self._shapes, self._values = shapes, values
        # Why the plan in the file was made again; None where it was not, or there was none.
        self.stale: str | None = None
        self.threads = threads or usable_cores()
        self.isa = chosen_isa(isa)
        self.graph = model if isinstance(model, Graph) else read(model, shapes, values)
        # Input -> rows of the table that it looks up.
        self._rows = {name: self.graph.rows(name) for name in self.graph.dtypes}
        # Whether inputs and outputs are float32 arrays of the engine's shapes.
        self._plain = not (self._rows or self.graph.output_dtypes or self.graph.scalars)
        examples = [sample] if isinstance(sample, np.ndarray) else sample
        self._lowered: dict[str, Lowered] = {}  # by planning, until a program is made of it
        self.plan = self._planned(plan, examples, on_progress)
        self._programs: dict[str, Program] = {}
        self._steps: dict[str, list[Step]] = {}
        self._single = len(self.graph.inputs) == 1
        self._items = self.graph.input_items[0]
        self._few = self._items * (self.plan.smallest_batch if self.graph.dynamic else 2)
        self._single_program = self._program("single")
        self._batched = self._program("batched") if self.graph.dynamic else self._single_program
        self._share(None if isinstance(plan, Plan) else plan)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the path: a copy opens the same file again, with the same threads and plan.

        Raises:
            UserError: the engine was not opened from a file.
        """
        if self._path is None:
            raise UserError(
                "an engine that was not opened from a file cannot be copied or pickled; "
                "write the network to a file and open its path"
            )
        return _reopened, (self._path, self.threads, self.plan, self._shapes, self._values)

    def _planned(
        self,
        plan: str | os.PathLike[str] | Plan | None,
        sample: Sequence[Array] | None,
        on_progress: Callable[[int, int], None],
    ) -> Plan:
        if isinstance(plan, Plan):
            return plan
        if sample is not None:
            sample = self._checked(sample)
            sample = sample if all(len(x) for x in sample) else None
        chosen = None
        if plan is not None:
            chosen, self.stale = Plan.load(plan, self.graph, self.isa)
        if chosen is None:
            chosen, self._lowered = planner.make_lowered(
                self.graph, self.isa, sample, on_progress, self.threads
            )
            if plan is not None:
                chosen.save(plan)
        return chosen

    def _share(self, path: str | os.PathLike[str] | None) -> None:
        """Measure which steps one thread should compute alone, if the plan does not have them."""
        if self.threads == 1:
            return
        steps = range(len(self._steps["single"]))
        known = self.plan.single_threaded.get(str(self.threads))
        if known is None or not set(known) <= set(steps):
            known = single_threaded(self._single_program, self.graph, len(steps))
            self.plan.single_threaded[str(self.threads)] = known
            if path is not None:
                with suppress(UserError):  # a plan from where nothing can be written is as good
                    self.plan.save(path)
        self._single_program.single_threaded(known)

    def _program(self, kind: str) -> Program:
        """Return the program for single examples, batches or inputs with NaN, assembled once."""
        if kind not in self._programs:
            self.graph.check()
            batched = kind != "single" and self.graph.dynamic
            lowered = self._lowered.pop(kind, None)
            steps, inputs, outputs = lowered or lower(
                self.graph,
                self.isa,
                {"single": self.plan.single, "batched": self.plan.batched}.get(kind, {}),
                threads=self.threads,
                sparse=kind != "careful",
                batched=batched,
                densities=self.plan.densities,
            )
            self._steps[kind] = steps
            self._programs[kind] = assemble(
                steps,
                inputs,
                outputs,
                [self.graph.shapes[name] for name in self.graph.inputs],
                [self.graph.shapes[name] for name in self.graph.outputs],
                threads=self.threads,
                chunk=self.plan.chunk if batched else 1,
            )
            self.graph.release()
        return self._programs[kind]

    def __call__(self, *inputs: Array) -> Any:
        if not self._plain:
            return self._slow(inputs)
        try:
            program = self._single_program if len(inputs[0]) < self._few else self._batched
            if self._single and len(inputs) == 1:
                outputs = program.run_one(inputs[0], True)
            else:
                outputs = program.run(inputs, True)
        except (IndexError, TypeError, ValueError):
            return self._slow(inputs)
        return self._slow(inputs) if outputs is None else outputs

    def _slow(self, inputs: Sequence[Array]) -> Any:
        """Convert and check inputs that are not plain float32 arrays of the right shape."""
        accepted = self._checked(inputs)
        program = self._single_program if len(accepted[0]) < self._few else self._batched
        if program.finite_only and not all(np.isfinite(x).all() for x in accepted):
            program = self._program("careful")
        outputs = program.run(accepted, False)
        return outputs if self._plain else self._as_in_file(outputs)

    def _checked(self, inputs: Sequence[Array]) -> list[Array]:
        """Return the inputs as float32 arrays of the right shapes, as many examples in each."""
        if len(inputs) != len(self.graph.inputs):
            names = ", ".join(self.graph.inputs)
            raise UserError(
                f"{len(inputs)} inputs given, the network takes {len(self.graph.inputs)}: {names}"
            )
        accepted = [self._accepted(x, i) for i, x in enumerate(inputs)]
        examples = {len(x) // n for x, n in zip(accepted, self.graph.input_items, strict=True)}
        if len(examples) > 1:
            raise UserError(f"the inputs have different batches: {[len(x) for x in accepted]}")
        return accepted

    def _as_in_file(self, outputs: Any) -> Any:
        """Return outputs in the types that the file declares, and its scalars as scalars."""
        several = isinstance(outputs, list)
        named = zip(self.graph.outputs, outputs if several else [outputs], strict=True)
        results = []
        for name, array in named:
            single = name in self.graph.scalars and array.size == 1
            dtype = self.graph.output_dtypes.get(name, array.dtype)
            results.append((array.reshape(()) if single else array).astype(dtype, copy=False))
        return results if several else results[0]

    def _accepted(self, x: Array, position: int) -> Array:
        name = self.graph.inputs[position]
        items, *rest = self.graph.shapes[name]
        try:
            array = np.asarray(x)
        except (TypeError, ValueError, RuntimeError) as error:  # bfloat16 of torch, ragged lists
            raise UserError(
                f"input {name!r} is no array that NumPy can read ({error}); pass a float32 array"
            ) from None
        if not array.ndim and name in self.graph.scalars:
            array = array[None]
        if array.dtype.kind not in "fiub":
            raise UserError(f"input {name!r} holds {array.dtype}; pass a float32 array")
        if name in self.graph.dtypes:
            self._check_integers(name, array)
        converted = np.ascontiguousarray(array, dtype=np.float32)
        first = "batch" if self.graph.dynamic else str(items)  # several such batches run, too
        fits = list(array.shape[1:]) == rest and array.ndim == len(rest) + 1
        if not fits or array.shape[0] % items:
            wanted = ", ".join([first, *map(str, rest)])
            raise UserError(f"input {name!r} has shape {list(array.shape)}, wanted [{wanted}]")
        return converted

    def _check_integers(self, name: str, array: Array) -> None:
        wanted = self.graph.dtypes[name]
        if array.dtype.kind not in ("b" if wanted.kind == "b" else "iub"):
            raise UserError(f"input {name!r} holds {array.dtype}; pass a {wanted} array")
        if not array.size or wanted.kind == "b":
            return
        rows = self._rows[name]
        low, high = int(array.min()), int(array.max())
        if rows is not None and not -rows <= low <= high < rows:
            raise UserError(
                f"input {name!r} holds {low if low < -rows else high}; "
                f"its embedding has the rows 0 to {rows - 1}"
            )
        if max(-low, high) > EXACT:
            raise UserError(f"input {name!r} holds integers beyond {EXACT}, not exact in float32")

    def noise(self, batch: int | None = None, seed: int = 0) -> list[Array]:
        """Return normal noise for every input; integers are valid rows of tables, else 0 and 1.

        Args:
            batch: rows of the first input; by default one example or, if fixed, the batch.
            seed: the same seed gives the same numbers.

        Raises:
            UserError: the network's batch is fixed at another number.
        """
        batch = self._items if batch is None else batch
        self.graph.check_batch(batch)
        arrays = synthetic(self.graph, batch // self._items, seed)
        return [
            array.reshape(()) if name in self.graph.scalars and array.size == 1 else array
            for name, array in zip(self.graph.inputs, arrays, strict=True)
        ]

    def profile(self, *inputs: Array, repeats: int = 50) -> list[LayerProfile]:
        """Return the median time over runs of each kernel call, in order.

        It is wall time, since threads share a call: it includes the time that other processes take
        from the cores.
        """
        accepted = self._checked(inputs)
        examples = len(accepted[0]) // self._items
        if not examples:
            raise UserError("the batch is empty; pass at least one example")
        kind = "single" if examples * self._items < self._few else "batched"
        program = self._program(kind)
        program.profile(accepted, 1, False)
        times = np.median(np.array(program.profile(accepted, repeats, False)), axis=0)
        shared = examples < self.threads
        known = self.plan.single_threaded.get(str(self.threads), [])
        single_threaded = set(known if shared and kind == "single" else [])
        together = 1 if kind == "single" else min(examples, self.plan.chunk)
        return [
            LayerProfile(
                step.node or "(form)",
                str(step.kernel),
                float(time) * 1e-9 / examples,
                step.macs,
                step.dense_macs,
                step.bytes,
                self._moved(step, together),
                1 if number in single_threaded else self.threads,
                step.value,
            )
            for number, (step, time) in enumerate(zip(self._steps[kind], times, strict=True))
        ]

    def _moved(self, step: Step, together: int) -> float:
        """Return bytes per example: values in and out, and the weights that active inputs reach."""
        buffers = [buffer for buffer in (*step.inputs, *step.outputs) if buffer is not None]
        weights = float(step.bytes)
        if step.kernel.operation.startswith("active") and step.inputs[0] is not None:
            value = step.inputs[0].name.partition("|")[0]
            weights *= self.plan.densities.get(value, 1.0)
        return 4.0 * sum(buffer.floats for buffer in buffers) + weights / together


def _reopened(
    path: str,
    threads: int,
    plan: Plan,
    shapes: Mapping[str, Shape] | None = None,
    values: Mapping[str, Any] | None = None,
) -> Engine:
    """Open the engine of a pickle; on another machine, measure again."""
    here = plan.machine == machine() and plan.isa in ISAS
    return Engine(
        path,
        threads=threads,
        plan=plan if here else None,
        isa=plan.isa if here else None,
        shapes=shapes,
        values=values,
    )
