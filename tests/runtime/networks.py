"""Small networks as ONNX files, and what ONNX Runtime makes of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

from gossamer.runtime.onnx_functions import k_winners_functions

Array = np.ndarray[Any, Any]


class Builder:
    """Writes an ONNX graph node by node."""

    def __init__(self, *shape: int, batch: int | None = None) -> None:
        first = "batch" if batch is None else batch
        self.inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [first, *shape])]
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.functions: list[onnx.FunctionProto] = []
        self.last = "x"

    def constant(self, value: Array) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.asarray(value), name))
        return name

    def add(self, op: str, *inputs: str | Array, domain: str = "", **attributes: Any) -> str:
        """A node over the last output (if no names are given) and constants."""
        names = [i if isinstance(i, str) else self.constant(i) for i in inputs]
        output = f"v{len(self.nodes)}"
        self.nodes.append(
            helper.make_node(
                op, names, [output], name=f"{op}{len(self.nodes)}", domain=domain, **attributes
            )
        )
        self.last = output
        return output

    def winners(self, k: int, shape: tuple[int, ...], *, local: bool = False) -> str:
        """A k-winners layer; its boost is one everywhere."""
        function = winners_function(local)
        if function.name not in [f.name for f in self.functions]:
            self.functions.append(function)
        boost = np.ones((shape[0], *[1] * (len(shape) - 1)), np.float32)
        return self.add(function.name, self.last, boost, domain="gossamer", k=k)

    def rounded(self, value: str, step: float, zero: Array) -> str:
        """The value quantized and dequantized, with a zero point of the wanted type."""
        grid = [self.constant(np.float32(step)), self.constant(zero)]
        codes = self.add("QuantizeLinear", value, *grid)
        return self.add("DequantizeLinear", codes, *grid)

    def in_8_bits(self, step: float = 0.0, zero: Array | None = None) -> Builder:
        """Every layer with 8-bit weights and, where a step is given, 8-bit inputs."""
        nodes, self.nodes = self.nodes, []
        constants = {tensor.name: tensor for tensor in self.constants}
        renamed: dict[str, str] = {}
        for node in nodes:
            node.input[:] = [renamed.get(name, name) for name in node.input]
            if node.op_type in ("Conv", "Gemm", "MatMul") and node.input[1] in constants:
                axis = 0 if node.op_type == "Conv" or list(node.attribute) else 1
                tensor = constants[node.input[1]]
                weight = numpy_helper.to_array(tensor)
                others = tuple(i for i in range(weight.ndim) if i != axis)
                steps = np.maximum(np.abs(weight).max(others, initial=0), 1e-9) / 127
                codes = np.rint(weight / np.expand_dims(steps, others)).astype(np.int8)
                tensor.CopyFrom(numpy_helper.from_array(codes, tensor.name))
                given = [steps.astype(np.float32), np.zeros(len(steps), np.int8)]
                node.input[1] = self.add("DequantizeLinear", tensor.name, *given, axis=axis)
                if step:
                    node.input[0] = self.rounded(
                        node.input[0], step, np.int8(0) if zero is None else zero
                    )
            made = node.output[0]
            node.output[0] = renamed[made] = self.last = f"v{len(self.nodes)}"
            self.nodes.append(node)
        return self

    def in_16_bits(self) -> Builder:
        """Every constant of two axes and more in 16 bits, cast to floats when the file is read."""
        casts = []
        for tensor in self.constants:
            if len(tensor.dims) >= 2 and tensor.data_type == TensorProto.FLOAT:
                half = numpy_helper.to_array(tensor).astype(np.float16)
                casts.append(helper.make_node("Cast", [f"{tensor.name}.half"], [tensor.name], to=1))
                tensor.CopyFrom(numpy_helper.from_array(half, f"{tensor.name}.half"))
        self.nodes = casts + self.nodes
        return self

    def model(self, *outputs: str, opset: int = 18) -> bytes:
        infos = [
            helper.make_tensor_value_info(o, TensorProto.FLOAT, None)
            for o in outputs or [self.last]
        ]
        graph = helper.make_graph(self.nodes, "test", self.inputs, infos, self.constants)
        imports = [helper.make_opsetid("", opset), helper.make_opsetid("gossamer", 1)]
        model = helper.make_model(
            graph, opset_imports=imports, functions=self.functions, ir_version=9
        )
        return model.SerializeToString()


def winners_function(local: bool) -> onnx.FunctionProto:
    """The ONNX function of a k-winners layer."""
    return k_winners_functions()[local]


def sparse(rng: np.random.Generator, *shape: int, density: float = 1.0, block: int = 1) -> Array:
    """Normal weights [outputs, ...], scaled for their fan-in; zeros in blocks of outputs."""
    fan_in = max(1.0, math.prod(shape[1:]) * density)
    weight = rng.standard_normal(shape) / math.sqrt(fan_in)
    rows = -(-shape[0] // block)
    mask = rng.random((rows, *shape[1:])) < density
    return (weight * np.repeat(mask, block, axis=0)[: shape[0]]).astype(np.float32)


def norm(rng: np.random.Generator, channels: int) -> list[Array]:
    """Scale, bias, mean and variance of a batch norm."""
    return [
        rng.uniform(0.5, 1.5, channels).astype(np.float32),
        rng.normal(0, 0.1, channels).astype(np.float32),
        rng.normal(0, 0.1, channels).astype(np.float32),
        rng.uniform(0.5, 1.5, channels).astype(np.float32),
    ]


def speech_cnn(
    density: float = 1.0,
    *,
    winners: bool = False,
    block: int = 1,
    width: int = 64,
    hidden: int = 1500,
    first: float | None = None,
    seed: int = 0,
    int8: bool = False,
) -> bytes:
    """The speech network of the benchmark: two convolutions, one hidden layer, 12 classes.

    ``first`` is the density of the first convolution (12 of 25 taps where sparse); ``int8`` gives
    8-bit weights and inputs of layers.
    """
    rng = np.random.default_rng(seed)
    first = (0.48 if density < 1.0 else 1.0) if first is None else first
    b = Builder(1, 32, 32)
    b.add("Conv", "x", sparse(rng, width, 1, 5, 5, density=first), np.zeros(width, np.float32))
    b.add("BatchNormalization", b.last, *norm(rng, width))
    b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    size = width * 14 * 14
    b.winners(round(0.095 * size), (width, 14, 14)) if winners else b.add("Relu", b.last)
    weight = sparse(rng, width, width, 5, 5, density=density, block=block)
    b.add("Conv", b.last, weight, np.zeros(width, np.float32))
    b.add("BatchNormalization", b.last, *norm(rng, width))
    b.add("MaxPool", b.last, kernel_shape=[2, 2], strides=[2, 2])
    size = width * 25
    b.winners(round(0.125 * size), (width, 5, 5)) if winners else b.add("Relu", b.last)
    b.add("Flatten", b.last)
    weight = sparse(rng, hidden, size, density=density, block=block)
    b.add("Gemm", b.last, weight, np.zeros(hidden, np.float32), transB=1)
    b.add("BatchNormalization", b.last, *norm(rng, hidden))
    b.winners(round(0.10 * hidden), (hidden,)) if winners else b.add("Relu", b.last)
    b.add("Gemm", b.last, sparse(rng, 12, hidden), np.zeros(12, np.float32), transB=1)
    return (b.in_8_bits(0.03) if int8 else b).model()


def reference(model: bytes, *inputs: Array, threads: int = 1) -> Array:
    """What ONNX Runtime computes."""
    session = onnxruntime.InferenceSession(model, session_options(threads))
    names = [i.name for i in session.get_inputs()]
    return session.run(None, dict(zip(names, inputs, strict=True)))[0]


def session_options(threads: int = 1) -> onnxruntime.SessionOptions:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Products of 8 bits would be added up in 16 on older processors, and saturate.
    options.add_session_config_entry("session.disable_quant_qdq", "1")
    return options


def linear_after_winners() -> bytes:
    """64 inputs, 6 of them winners, 512 outputs."""
    b = Builder(64)
    b.winners(6, (64,))
    b.add("Gemm", b.last, sparse(np.random.default_rng(0), 512, 64), transB=1)
    return b.model()
