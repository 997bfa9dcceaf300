"""Export of ``nn.RNN`` as ONNX's ``RNN``, as torch's exporter does with ``nn.GRU`` and ``nn.LSTM``.

It takes a plain RNN apart instead, into steps that compute shapes from the batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnxscript
import torch

op: Any = onnxscript.opset18


def _translation(activation: str) -> Callable[..., Any]:
    def translate(
        x: Any,
        states: Any,
        params: Sequence[Any],
        has_biases: bool,
        num_layers: int,
        dropout: float,
        train: bool,
        bidirectional: bool,
        batch_first: bool,
    ) -> Any:
        """Translate the arguments of ``torch.ops.aten.rnn_tanh``, an evaluated model's."""
        directions, each = 1 + bidirectional, 4 if has_biases else 2
        if batch_first:
            x = op.Transpose(x, perm=[1, 0, 2])
        last = []
        for layer in range(num_layers):
            own = [params[(layer * directions + d) * each :][:each] for d in range(directions)]

            def stacked(part: Callable[[Any], Any], own: Sequence[Any] = own) -> Any:
                return op.Concat(*(op.Unsqueeze(part(p), [0]) for p in own), axis=0)

            bias = stacked(lambda p: op.Concat(p[2], p[3], axis=0)) if has_biases else None
            first = op.Slice(states, [layer * directions], [(layer + 1) * directions], [0])
            every, hidden = op.RNN(
                x,
                stacked(lambda p: p[0]),
                stacked(lambda p: p[1]),
                bias,
                None,
                first,
                activations=[activation] * directions,
                direction="bidirectional" if bidirectional else "forward",
                hidden_size=int(states.shape[2]),
            )
            x = op.Reshape(op.Transpose(every, perm=[0, 2, 1, 3]), [0, 0, -1])
            last.append(hidden)
        return op.Transpose(x, perm=[1, 0, 2]) if batch_first else x, op.Concat(*last, axis=0)

    return translate


#: For torch's exporter, as ``custom_translation_table``.
RECURRENT: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.ops.aten.rnn_tanh.input: _translation("Tanh"),
    torch.ops.aten.rnn_relu.input: _translation("Relu"),
}
