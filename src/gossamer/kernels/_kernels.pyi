from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Name of a kind of operation -> its value as a C expression of v (and w, or a and b), in the order
# of the kernels' enumeration.
UNARY: dict[str, str]
BINARY: dict[str, str]

# The numbers before a list's indices; bytes of an address and behind data; inputs of a call;
# dimensions of an output; tiles of a call of "winograd".
LIST_HEADER: int
ALIGNMENT: int
SLACK: int
MOST_INPUTS: int
MOST_DIMENSIONS: int
MOST_WINOGRAD_TILES: int

def kernel_table() -> list[tuple[str, str, str, str, int, bool, bool, bool, str]]: ...

class Program:
    def __init__(self, threads: int, chunk: int) -> None: ...
    def slot(self, floats: int, position: int) -> int: ...
    def add(
        self,
        kernel: int,
        inputs: Sequence[int],
        outputs: Sequence[int],
        shape: Sequence[int],
        data: Sequence[NDArray[Any]],
        scratch: int,
        items: int,
    ) -> None: ...
    def finish(
        self,
        inputs: Sequence[int],
        outputs: Sequence[int],
        input_shapes: Sequence[Sequence[int]],
        output_shapes: Sequence[Sequence[int]],
    ) -> None: ...
    def single_threaded(self, steps: Sequence[int]) -> None: ...
    @property
    def finite_only(self) -> bool: ...
    def run(self, inputs: Sequence[NDArray[np.float32]], check_finite: bool) -> Any: ...
    def run_one(self, input: NDArray[np.float32], check_finite: bool) -> Any: ...
    def profile(
        self, inputs: Sequence[NDArray[np.float32]], repeats: int, processor_time: bool
    ) -> list[list[int]]: ...
