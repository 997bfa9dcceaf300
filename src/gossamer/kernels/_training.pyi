import numpy as np
from numpy.typing import NDArray

Pair = tuple[int, int]

def training_kernels() -> list[tuple[str, str, str, int]]: ...
def pick_winners(
    rows: int,
    n: int,
    k: int,
    order: Pair,
    input: int,
    boost: int,
    output: int,
    mask: int,
    counts: int,
    threads: int,
    isa: str,
) -> None: ...
def zero_masked(count: int, weights: int, mask: int, threads: int, isa: str) -> None: ...

class SparseLayer:
    def __init__(
        self,
        outputs: int,
        channels: int,
        kernel: Pair,
        stride: Pair,
        padding: Pair,
        dilation: Pair,
        block: int,
        start: NDArray[np.int32],
        column: NDArray[np.int32],
        isa: str,
    ) -> None: ...
    def output_size(self, size: Pair) -> list[int]: ...
    def packed(self, examples: int, size: Pair) -> list[int]: ...
    def forward(
        self,
        examples: int,
        size: Pair,
        input: int,
        values: int,
        bias: int,
        packed_input: int,
        output: int,
        threads: int,
    ) -> None: ...
    def backward(
        self,
        examples: int,
        size: Pair,
        output_gradient: int,
        values: int,
        packed_input: int,
        packed_gradient: int,
        input_gradient: int,
        values_gradient: int,
        bias_gradient: int,
        threads: int,
    ) -> None: ...
    def active(self, examples: int, size: Pair) -> list[int]: ...
    def active_forward(
        self,
        examples: int,
        size: Pair,
        input: int,
        values: int,
        bias: int,
        lists: int,
        output: int,
        threads: int,
    ) -> None: ...
    def active_backward(
        self,
        examples: int,
        size: Pair,
        output_gradient: int,
        lists: int,
        spread_gradient: int,
        input_gradient: int,
        values_gradient: int,
        bias_gradient: int,
        threads: int,
    ) -> None: ...
