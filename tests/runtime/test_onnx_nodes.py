"""ONNX's own node tests: each case is right, or refused in one clear line.

The cases give weights, shapes and axes as inputs, where exported networks have constants. So each
runs as it is, and once for each of its inputs with all others as constants; what is not a float
comes out through a cast.
"""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from typing import Any

import networks
import numpy as np
import onnx
import pytest
from networks import Builder
from onnx import TensorProto, helper, numpy_helper

from gossamer.errors import UserError
from gossamer.kernels.registry import chosen_isa
from gossamer.runtime import Engine, Plan
from gossamer.runtime.importer import read

# The text of the operator and PyTorch take the length of the resized axis, a whole number; the
# data of these two cases was made with its fraction. ONNX Runtime reads the text as we do.
READ_OTHERWISE = {
    "test_resize_downsample_scales_linear_align_corners",
    "test_resize_downsample_scales_cubic_align_corners",
}


def variants(case: Any) -> Iterator[tuple[onnx.ModelProto, dict[str, Any]]]:
    names = [value.name for value in case.model.graph.input]
    values = dict(zip(names, case.data_sets[0][0], strict=False))
    yield case.model, values
    plain = {name: value for name, value in values.items() if isinstance(value, np.ndarray)}
    if len(plain) < len(values):  # sequences and optional values
        return
    for free in plain:
        model = onnx.ModelProto()
        model.CopyFrom(case.model)
        graph = model.graph
        inputs = [value for value in graph.input if value.name == free]
        del graph.input[:]
        graph.input.extend(inputs)
        graph.initializer.extend(
            numpy_helper.from_array(value, name) for name, value in plain.items() if name != free
        )
        for output in graph.output:
            kind = output.type.tensor_type
            if kind.elem_type != TensorProto.FLOAT:
                inner, output.name = output.name, f"{output.name} as float"
                kind.elem_type = TensorProto.FLOAT
                graph.node.append(helper.make_node("Cast", [inner], [output.name], to=1))
        yield model, {free: plain[free]}


def verdict(case: Any, model: onnx.ModelProto, values: dict[str, Any]) -> str:
    try:
        graph = read(model.SerializeToString())
        plan = Plan("any", chosen_isa(), graph.fingerprint())
        found = Engine(graph, threads=1, plan=plan)(*(values[name] for name in graph.inputs))
    except UserError as error:
        text = str(error)
        clear = text.isprintable() and len(text) < 400
        leaks = any(private in text for private in ("1000003", "newaxis", "Error"))
        return "refused" if clear and not leaks else f"refused badly: {text}"
    found = found if isinstance(found, list) else [found]
    expected = case.data_sets[0][1]
    if case.name in READ_OTHERWISE:
        expected = [networks.reference(model.SerializeToString(), *values.values())]
    for a, b in zip(found, expected, strict=True):
        if np.shape(a) != np.shape(b):
            return "wrong"
        if not np.allclose(a, b, rtol=case.rtol, atol=max(case.atol, 1e-6), equal_nan=True):
            return "wrong"
    return "right"


@pytest.mark.slow
def test_every_case_is_right_or_refused() -> None:
    from onnx.backend.test.case.node import collect_testcases

    np.random.seed(0)  # noqa: NPY002  (the cases draw from it)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        cases = collect_testcases(None)
    counts: Counter[str] = Counter()
    wrong = []
    for case in cases:
        if not hasattr(case.model, "graph") or not case.data_sets:
            continue
        for model, values in variants(case):
            result = verdict(case, model, values)
            counts[result] += 1
            if result not in ("right", "refused"):
                wrong.append(f"{case.name} {list(values)}: {result}")
    print(dict(counts))
    assert not wrong
    assert counts["right"] > 800
    assert counts["refused"] > 4000


def test_training_mode_is_refused() -> None:
    one = np.ones(3, np.float32)
    b = Builder(3, 4)
    b.add("BatchNormalization", "x", one, one, one, one, training_mode=1)
    with pytest.raises(UserError, match=r"BatchNormalization.*training mode.*evaluation mode"):
        read(b.model())
    for training in (False, True):
        b = Builder(3)
        b.add("Dropout", "x", np.float32(0.5), np.array(training))
        if training:
            with pytest.raises(UserError, match=r"Dropout.*training mode.*evaluation mode"):
                read(b.model())
        else:
            x = np.ones((2, 3), np.float32)
            np.testing.assert_array_equal(Engine(b.model(), threads=1)(x), x)


@pytest.mark.parametrize(("mode", "size"), [("linear", 0.6), ("cubic", 0.8), ("linear", 1.7)])
def test_align_corners_by_a_scale_is_what_torch_computes(mode: str, size: float) -> None:
    from torch import from_numpy
    from torch.nn.functional import interpolate

    b = Builder(1, 4, 5)
    none, scales = np.zeros(0, np.float32), np.array([1, 1, size, size], np.float32)
    b.add("Resize", "x", none, scales, mode=mode, coordinate_transformation_mode="align_corners")
    x = np.random.default_rng(0).standard_normal((2, 1, 4, 5)).astype(np.float32)
    found = Engine(b.model(), threads=1)(x)
    way = {"linear": "bilinear", "cubic": "bicubic"}[mode]
    expected = interpolate(from_numpy(x), scale_factor=size, mode=way, align_corners=True)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(found, networks.reference(b.model(), x), rtol=1e-4, atol=1e-5)
