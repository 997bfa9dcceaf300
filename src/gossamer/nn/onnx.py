"""Export of a network as ONNX, with k-winners as a function of standard operators.

Every ONNX runtime can therefore run the network; one that implements the functions
``gossamer.KWinners`` and ``gossamer.KWinnersLocal`` runs it fast.
"""

from __future__ import annotations

import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, cast

import numpy as np
import onnx
import onnxscript
import torch
from onnx import defs, helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun
from onnx.reference.ops.op_conv_transpose import ConvTranspose as AnyConvTranspose
from onnx.reference.ops.op_dequantize_linear import DequantizeLinear_25
from onnx.reference.ops.op_quantize_linear import QuantizeLinear_25
from onnx.reference.ops.op_rnn import RNN_14
from torch import Tensor, nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from gossamer.errors import UserError
from gossamer.files import writing
from gossamer.nn.onnx_compact import compact
from gossamer.nn.onnx_norms import fold_norms
from gossamer.nn.onnx_recurrent import RECURRENT
from gossamer.nn.onnx_size import no_larger_in_8_bits
from gossamer.nn.quantized import exportable, quantized_layers, unrounded
from gossamer.runtime import store_half, store_sparse
from gossamer.runtime.onnx_functions import DOMAIN, OPSET, k_winners_functions
from gossamer.sparsity.layers import unwrap
from gossamer.sparsity.modes import evaluating
from gossamer.sparsity.packed_layers import plain_model


def _operator(name: str) -> Any:
    """Return the ONNX operator that torch's exporter uses for ``torch.ops.gossamer.k_winners``."""
    formal, number = defs.OpSchema.FormalParameter, defs.OpSchema.Attribute
    schema = defs.OpSchema(
        name,
        DOMAIN,
        1,
        inputs=[formal("X", "tensor(float)"), formal("boost", "tensor(float)")],
        outputs=[formal("Y", "tensor(float)")],
        attributes=[number("k", defs.OpSchema.AttrType.INT, required=True)],
    )
    return onnxscript.values.Op(onnxscript.values.Opset(DOMAIN, 1), name, schema)


_NUMPY_FLOATS = (torch.float16, torch.float32, torch.float64)
_OPSET = onnxscript.opset18
_WHOLE, _LOCAL = _operator("KWinners"), _operator("KWinnersLocal")


def _translate(x: Any, boost: Any, k: int, whole_sample: bool) -> Any:
    return (_WHOLE if whole_sample else _LOCAL)(x, boost, k=k)


def _round_to_8_bits(x: Any, step: Any, zero: Any) -> Any:
    return _OPSET.DequantizeLinear(_OPSET.QuantizeLinear(x, step, zero), step, zero)


def _from_8_bits(codes: Any, steps: Any) -> Any:
    return _OPSET.DequantizeLinear(codes, steps, axis=0)


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the warnings of torch's exporter about itself and about optional packages."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _user_error(error: BaseException | None) -> UserError | None:
    """Return the error of one of gossamer's layers, from inside the errors that torch adds."""
    while error is not None and not isinstance(error, UserError):
        error = error.__cause__ or error.__context__
    return error


class _Fixed(nn.Module):
    """A model as a function of its tensor arguments; bools and numbers are constants."""

    def __init__(self, model: nn.Module, arguments: Sequence[Any]) -> None:
        super().__init__()
        self.model = model
        self.arguments = list(arguments)

    def forward(self, *tensors: Tensor) -> Any:
        left = iter(tensors)
        return self.model(*(next(left) if isinstance(a, Tensor) else a for a in self.arguments))


def _names(kind: str, count: int) -> list[str]:
    return [kind] if count == 1 else [f"{kind}{i}" for i in range(1, count + 1)]


def forward_arguments(example: Tensor | Sequence[Any]) -> list[Any]:
    """Return the arguments of ``forward`` in order.

    Raises:
        UserError: there is no tensor among them, or their batches differ.
    """
    arguments = list(example) if isinstance(example, list | tuple) else [example]
    batches = [tuple(a.shape[:1]) for a in arguments if isinstance(a, Tensor)]
    if not batches:
        kinds = ", ".join(type(a).__name__ for a in arguments) or "nothing"
        raise UserError(
            f"the example must be a torch tensor [batch, ...], or several; it is: {kinds}"
        )
    if () in batches or (0,) in batches or len(set(batches)) > 1:
        shapes = ", ".join(str(list(a.shape)) for a in arguments if isinstance(a, Tensor))
        raise UserError(
            "the tensors of the example must have the same batch size as first dimension, at "
            f"least 1; their shapes are {shapes}"
        )
    return arguments


def _two(example: Tensor) -> Tensor:
    """Repeat a single example, because a batch of one would become a fixed dimension."""
    return torch.cat([example, example])[:2] if len(example) < 2 else example


def _fault(values: Any) -> str | None:
    """Return what keeps an entry of a state dict from being exported."""
    if not isinstance(values, Tensor):
        return None
    if is_lazy(values):
        return "has no numbers yet (lazy); run one batch through the model first"
    if values.is_meta:
        return (
            "is on the meta device and has no numbers; call model.to_empty(device=...) and load "
            "its weights first"
        )
    return "holds NaN" if values.isnan().any() else None


def to_onnx(model: nn.Module, example: Tensor | Sequence[Any]) -> onnx.ModelProto:
    """Convert ``model`` in evaluation mode to ONNX with a free batch dimension.

    Args:
        model: any network that ``torch.export`` takes, also inside ``torch.compile`` or a
            data-parallel wrapper; its mode is restored.
        example: an input ``[batch, ...]``, or the arguments of ``forward`` in order: tensors
            with the same batch size, and bools, numbers or None, which become constants.
            The input's name is ``input``, or ``input1``, ``input2`` ... if there are several;
            outputs likewise.

    Raises:
        UserError: torch cannot export the network (the message has torch's reason), a weight is
            NaN or has no numbers yet, or an LSTM has a projection.
    """
    arguments = forward_arguments(example)
    inputs = [_two(a) for a in arguments if isinstance(a, Tensor)]
    model = plain_model(unwrap(model))
    for name, values in model.state_dict().items():
        if fault := _fault(values):
            raise UserError(f"{type(model).__name__} cannot be exported: {name!r} {fault}")
    for name, module in model.named_modules():
        if isinstance(module, nn.LSTM) and module.proj_size:
            raise UserError(
                f"{type(model).__name__} cannot be exported: ONNX's LSTM has no projection, and "
                f"torch drops that of {name!r} (proj_size); use an nn.LSTM without it"
            )
    plain = len(arguments) == 1
    network = model if plain else _Fixed(model, arguments)
    batch = torch.export.Dim("batch")
    free = [{0: batch} for _ in inputs]
    try:
        with _quiet(), evaluating(model), exportable(model):
            with torch.no_grad():
                outputs = len(tree_leaves(network(*inputs)))
            program = torch.onnx.export(
                network,
                tuple(inputs),
                dynamo=True,
                dynamic_shapes=tuple(free) if plain else (tuple(free),),
                custom_translation_table={
                    torch.ops.gossamer.k_winners.default: _translate,
                    torch.ops.gossamer.round_to_8_bits.default: _round_to_8_bits,
                    torch.ops.gossamer.from_8_bits.default: _from_8_bits,
                    **RECURRENT,
                },
                input_names=_names("input", len(inputs)),
                output_names=_names("output", outputs),
                opset_version=OPSET,
                verbose=False,
            )
    except Exception as error:
        own = _user_error(error)
        if own is not None:
            raise UserError(f"{type(model).__name__} cannot be exported: {own}") from error
        cause: BaseException = error
        while cause.__cause__ is not None:  # torch's errors around it name steps of its exporter
            cause = cause.__cause__
        reason = str(cause).strip().splitlines()
        raise UserError(
            f"torch cannot export {type(model).__name__} to ONNX: "
            f"{reason[0] if reason else type(cause).__name__}"
        ) from error
    assert program is not None
    proto = program.model_proto
    for value in proto.graph.input:
        first = value.type.tensor_type.shape.dim[0]
        if not first.dim_param:
            raise UserError(
                f"{type(model).__name__} cannot be exported for any batch size: it fixes the first "
                f"dimension of {value.name!r} at {first.dim_value}; give the example as "
                "[batch, ...], a single one with unsqueeze(0), and let no operation of the network "
                "depend on the size of the batch"
            )
    fold_norms(proto.graph)
    compact(proto)
    used = {node.op_type for node in proto.graph.node if node.domain == DOMAIN}
    proto.functions.extend(f for f in k_winners_functions() if f.name in used)
    return proto


class QuantizeLinear(QuantizeLinear_25):
    """QuantizeLinear of opset 18 for the reference implementation, which has it from 19 on."""

    op_domain = ""


class DequantizeLinear(DequantizeLinear_25):
    """DequantizeLinear of opset 18, as :class:`QuantizeLinear`."""

    op_domain = ""


class RNN(RNN_14):
    """RNN for the reference implementation, which has no Relu in it."""

    op_domain = ""

    def choose_act(self, name: str, alpha: float | None, beta: float | None) -> Any:
        plain: Any = super()
        return partial(np.maximum, 0.0) if name == "Relu" else plain.choose_act(name, alpha, beta)


class ConvTranspose(AnyConvTranspose):
    """ConvTranspose for the reference implementation, which fails where there are groups."""

    op_domain = ""

    def _run(self, *inputs: Any, **settings: Any) -> tuple[np.ndarray, ...]:
        plain: Any = super()
        x, weight, *bias = inputs
        groups = settings.pop("group") or 1
        rows = (np.split(each, groups) for each in (weight, *bias))
        parts = zip(np.split(x, groups, 1), *rows, strict=True)
        outputs = [plain._run(*part, group=1, **settings)[0] for part in parts]
        return (np.concatenate(outputs, 1),)


_REPAIRED: list[type[OpRun]] = [QuantizeLinear, DequantizeLinear, RNN, ConvTranspose]


def export(
    model: nn.Module,
    example: Tensor,
    path: str | os.PathLike[str],
    description: Mapping[str, Any] | None = None,
    *,
    float16: bool = False,
) -> Path:
    """Write ``model`` as ONNX to ``path`` and check it against torch on ``example``.

    The check runs the file's standard operators with ONNX's reference implementation. 8-bit layers
    whose weights would take more bytes than in 32 bits, having few non-zeros, are exported in 32.

    Args:
        model: any network that ``torch.export`` takes.
        example: an input ``[batch, ...]``; one or two examples are enough.
        path: the file, usually ``.onnx``; replaced as a whole or not at all.
        description: JSON values, such as ``Task.description``, for the file's metadata entry
            ``gossamer``.
        float16: round the weights to 16 bits: half the bytes, and the engine reads those of linear
            layers faster. Runtimes compute in 32 bits as before.

    Raises:
        UserError: torch cannot export the network, the check fails, or the file cannot be
            written.
    """
    proto, floats = no_larger_in_8_bits(unwrap(model), lambda: to_onnx(model, example))
    if float16:
        proto = store_half(proto)
    with evaluating(model), torch.no_grad(), unrounded(unwrap(model), floats):
        answer = model(example)
    if not isinstance(answer, Tensor):
        raise UserError(
            f"{type(model).__name__} returns {type(answer).__name__}; return one tensor, "
            "or use to_onnx, which exports several"
        )
    for numbers in (example, answer):
        if numbers.dtype.is_floating_point and numbers.dtype not in _NUMPY_FLOATS:
            raise UserError(
                f"the export of {type(model).__name__} cannot be checked in {numbers.dtype}, which "
                "NumPy does not have: export model.float() with a float32 example"
            )
    expected = answer.cpu().numpy()
    try:
        reference = ReferenceEvaluator(proto, new_ops=_REPAIRED)
        outputs = reference.run(None, {"input": example.cpu().numpy()})
    except Exception as error:  # it raises what its NumPy code happens to raise
        raise UserError(
            f"the exported {type(model).__name__} cannot be checked, as ONNX's reference "
            f"implementation fails: {error}; nothing was written. to_onnx exports unchecked"
        ) from error
    (actual,) = cast("list[np.ndarray]", outputs)
    # The last bit of a sum may change an 8-bit code, which is a step of 1/127. Weights of 16 bits
    # are off by up to 1/2048.
    share = 0.05 if quantized_layers(model) else 0.01 if float16 else 0.0
    slack = 1e-4 + share * float(np.abs(expected).max(initial=0.0))
    if not np.allclose(actual, expected, rtol=1e-3, atol=slack, equal_nan=True):
        off = float(np.abs(actual - expected).max())
        raise UserError(
            f"the exported network differs from torch by up to {off:.2g}; "
            "nothing was written: some operation of the model is exported wrongly"
        )
    if description:
        helper.set_model_props(proto, {DOMAIN: json.dumps(description)})
    with writing(path) as file:
        file.write(store_sparse(proto).SerializeToString())
    return Path(path)
