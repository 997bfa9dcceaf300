"""Training in two processes: every rank has the same masks after every step."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from gossamer.sparsity import RULES

KINDS = [
    "ddp",
    pytest.param(
        "accelerate",
        marks=pytest.mark.skipif(find_spec("accelerate") is None, reason="needs accelerate"),
    ),
]


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("rule", [name for name in RULES if name != "static"])
def test_masks_are_the_same_on_all_ranks_at_every_step(tmp_path, kind, rule):
    common = {
        **os.environ,
        "MASTER_ADDR": "127.0.0.1",  # accelerate asks for it; the ranks meet in a file
        "MASTER_PORT": "0",
        "WORLD_SIZE": "2",
        "OMP_NUM_THREADS": "1",
    }
    script = Path(__file__).with_name("ranks.py")
    errors = [tmp_path / f"errors.{rank}" for rank in range(2)]
    ranks = []
    try:
        for rank in range(2):
            with errors[rank].open("w") as file:
                ranks.append(
                    subprocess.Popen(
                        [sys.executable, script, kind, rule, tmp_path / "told"],
                        env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
                        stderr=file,
                    )
                )
        # A rank ends by itself, with an error, where the other has died or hangs.
        codes = [rank.wait(timeout=300) for rank in ranks]
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    assert codes == [0, 0], "\n".join(file.read_text() for file in errors)
    one, other = (json.loads((tmp_path / f"told.{rank}").read_text()) for rank in range(2))
    assert one == other
    # One shot has one mask. The largest weights of AC/DC's sparse phases are the same ones in so
    # short a training.
    assert len(set(one["masks"])) >= {"one_shot": 1, "acdc": 2}.get(rule, 4), "masks move"
    # Half the steps of an accumulation are none of the optimizer's.
    assert one["steps"] == 12
    assert sum(kept for kept, _ in one["counts"].values()) == round(0.3 * (12 + 16) * 32)
