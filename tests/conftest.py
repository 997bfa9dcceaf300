"""For all tests."""

import importlib
import os
from collections.abc import Iterator

import pytest
from hypothesis import settings

# How long an example takes says something of the machine's load, not of the code.
settings.register_profile("gossamer", deadline=None)
settings.load_profile("gossamer")


def pytest_configure(config: pytest.Config) -> None:
    """Hides GPUs from all tests but those marked ``cuda``, which are run by ``-m cuda``.

    Trainings choose a GPU where there is one; that the same numbers come out again, to the last
    bit, is a promise of the CPU.
    """
    if config.option.markexpr != "cuda":
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skips the tests marked ``cuda`` where they have no device."""
    marked = [item for item in items if item.get_closest_marker("cuda")]
    if not marked:
        return
    if config.option.markexpr == "cuda":
        import torch

        if torch.cuda.is_available():
            return
    skip = pytest.mark.skip(reason="needs a CUDA device, and 'make cuda'")
    for item in marked:
        item.add_marker(skip)


@pytest.fixture(scope="session", autouse=True)
def short_measurements() -> Iterator[None]:
    """Time kernels and networks for a moment: tests ask what is computed, not how fast.

    An engine without a plan would spend up to seconds on one, a training that is saved a second.
    """
    choices = importlib.import_module("gossamer.runtime.choices")
    sharing = importlib.import_module("gossamer.runtime.sharing")
    bench = importlib.import_module("gossamer.deploy.bench")  # the room has a function so named
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(choices, "MEASURE_NS", 100_000)
        patch.setattr(sharing, "SHARING_NS", 1_000_000)
        patch.setattr(bench, "TURN_SECONDS", 0.001)
        yield
