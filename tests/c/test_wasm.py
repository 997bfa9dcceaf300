"""The C compiled to WebAssembly as docs/howto/c.md says, run by Node with the example's loader."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import networks
import numpy as np
import pytest

from gossamer.runtime import Engine
from gossamer.runtime.c.source import to_c

ROOT = Path(__file__).parents[2]
TOOLS = ("clang", "wasm-ld", "node")

pytestmark = pytest.mark.skipif(
    not all(map(shutil.which, TOOLS)), reason=f"needs {', '.join(TOOLS)} (Debian: clang lld nodejs)"
)

SCRIPT = """
import { readFileSync } from "node:fs";
const { load } = await import(process.argv[1]);
const network = await load(readFileSync("keywords.wasm"), "keywords", 12);
const given = JSON.parse(readFileSync("inputs.json"));
console.log(JSON.stringify(given.map((x) => Array.from(network(new Float32Array(x))))));
"""


def documented() -> list[str]:
    """The command of the documentation, word by word."""
    found = re.search(
        r"^\$ (clang --target=wasm32(?:.*\\\n)*.*)$", (ROOT / "docs/howto/c.md").read_text(), re.M
    )
    assert found is not None
    return shlex.split(found[1].replace("\\\n", " "))


@pytest.mark.parametrize("winners", [False, True])
def test_speech_network(tmp_path, winners: bool) -> None:
    model = networks.speech_cnn(0.05, winners=winners, width=16, hidden=100)
    (tmp_path / "keywords.c").write_text(to_c(model, "keywords"), encoding="ascii")
    subprocess.run(documented(), cwd=tmp_path, check=True)
    x = np.random.default_rng(0).standard_normal((2, 1, 32, 32)).astype(np.float32)
    (tmp_path / "inputs.json").write_text(json.dumps(x.reshape(2, -1).tolist()))
    loader = (ROOT / "examples/wasm/network.mjs").as_uri()
    done = subprocess.run(
        ["node", "--input-type=module", "-e", SCRIPT, loader],
        cwd=tmp_path, check=True, capture_output=True, text=True,
    )  # fmt: skip
    np.testing.assert_allclose(json.loads(done.stdout), Engine(model, threads=1)(x), atol=2e-5)
