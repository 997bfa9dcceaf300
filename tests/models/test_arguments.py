"""Every argument of every reference network with every kind of wrong value: one line says so."""

import inspect

import numpy as np
import pytest
import torch

from gossamer.errors import UserError
from gossamer.models import MODELS
from gossamer.models.arguments import checked

NO_NUMBERS = ["16", None, float("nan"), float("inf"), -1, [], ["a"], [0.5, None], {}]
WRONG = {
    int: [*NO_NUMBERS, 0, 1.5, True, [16, 16], 10**30],
    float: [*NO_NUMBERS, True, [0.5, 0.5], 1e308],
    bool: ["yes", 1, None],
    str: [1, None, ["auto"]],
}
SEVERAL = [*NO_NUMBERS, 16, "16", [0], [1.5, 2], [True]]


def arguments():
    builds = {entry.build: entry for entry in MODELS.values()}
    for build in builds:
        for name, parameter in inspect.signature(build, eval_str=True).parameters.items():
            kind = parameter.annotation
            if name == "input_shape":
                wrong = [*SEVERAL, (0, 28, 28), (1, 28, 28, 1)]
            elif float in getattr(kind, "__args__", ()):
                wrong = ["0.1", None, float("nan"), -1, ["a"], [0.1, None], {}, [True]]
            else:
                wrong = WRONG.get(kind, SEVERAL)
            yield pytest.param(build, name, wrong, id=f"{build.__name__}-{name}")


@pytest.mark.parametrize(("build", "name", "wrong"), list(arguments()))
def test_a_wrong_value_is_one_line_that_names_the_argument(build, name, wrong):
    if name == "input_shape" and build.__name__ == "mlp":
        wrong = [value for value in wrong if value != (1, 28, 28, 1)]
    for value in wrong:
        with torch.device("meta"), pytest.raises(UserError, match=name) as caught:
            build(**{name: value})
        assert "\n" not in str(caught.value)


@checked
def example(count: int, share: float = 0.5, *, sizes: tuple[int, int] = (1, 2)):
    return count, share, sizes


def test_numbers_of_numpy_and_whole_floats_convert():
    found = example(np.int64(3), np.float32(0.25), sizes=[4.0, np.int8(5)])
    assert found == (3, 0.25, (4, 5))
    assert [type(value) for value in (found[0], *found[2], found[1])] == [int, int, int, float]
    assert example(share=1, count=2) == (2, 1.0, (1, 2))


def test_unknown_arguments_stay_errors_of_python():
    with pytest.raises(TypeError, match="other"):
        example(1, other=2)
