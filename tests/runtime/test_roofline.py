"""What profiles count, and the machine's limits."""

from __future__ import annotations

import networks
import numpy as np
import pytest

from gossamer.report import profile_table
from gossamer.runtime import Engine, measure_limits, network_profile


def test_limits_are_those_of_a_processor() -> None:
    engine = Engine(networks.speech_cnn(0.1, winners=True, width=8, hidden=16), threads=1)
    rows = engine.profile(*engine.noise(2), repeats=1)
    limits = measure_limits(engine, rows)
    # From the slowest board to the fastest server: a unit mistaken would be far outside.
    assert 1e7 < limits.macs < 1e13
    assert 1e7 < limits.bandwidth < 1e13
    assert limits.bytes >= 1 << 14


def test_a_profile_adds_up() -> None:
    engine = Engine(networks.speech_cnn(0.1, winners=True, width=8, hidden=16), threads=1)
    found = network_profile(engine, engine.noise(3))
    told = found.as_dict()
    assert found.batch == 3
    dense = 28 * 28 * 8 * 25 + 10 * 10 * 8 * 8 * 25 + 200 * 16 + 16 * 12
    assert told["total"]["dense_macs"] == dense
    assert told["total"]["macs"] < dense
    assert told["total"]["seconds"] == sum(row.seconds for row in found.rows)
    shares = [row["limit_share"] for row in told["layers"]]
    assert min(shares) <= found.share <= max(shares)
    assert found.seconds > 0


@pytest.mark.parametrize("rows", [-1, 2])
def test_figures_name_a_fixed_batch(rows: int) -> None:
    b = networks.Builder(6)
    b.add("MatMul", "x", np.ones((6, 5), np.float32))
    engine = Engine(b.model(), threads=1, shapes={"x": (rows, 6)})
    found = network_profile(engine, engine.noise(2))
    items = max(1, rows)
    assert found.as_dict()["items_per_example"] == items
    assert found.as_dict()["total"]["dense_macs"] == items * 6 * 5
    caption = str(profile_table(found).caption)
    assert ("Per example." in caption) == (rows == -1)
    assert ("Per 2 rows of the input" in caption) == (rows == 2)


def test_moved_bytes_follow_the_batch_and_the_active_inputs() -> None:
    engine = Engine(networks.linear_after_winners(), threads=1)
    for batch in (1, 16):
        for row in engine.profile(np.ones((batch, 64), np.float32), repeats=1):
            values = row.moved - row.bytes
            assert row.moved > 0
            if row.kernel.startswith("active"):
                assert values < 0  # a tenth of the inputs reaches a tenth of the weights
