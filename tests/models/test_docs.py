"""What the pages on activations and on small to large promise is run as it is written."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from gossamer.models import MODELS, reference
from gossamer.sparsity import sparsifiable_layers

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "docs" / name for name in ("activations.md", "small_to_large.md")]
MODELS_PAGE = ROOT / "docs" / "models.md"


def test_every_network_of_the_table_is_described() -> None:
    text = MODELS_PAGE.read_text()
    for name in MODELS:
        base = name.removesuffix("_sparse").removesuffix("_super")
        assert f"`{base}`" in text, name


def test_stated_weights_are_the_counted_ones() -> None:
    rows = re.findall(
        r"^\| `(\w+)` \|.*\| (\S+?)(?: tokens)?, ([\d,]+) \| ([\d,]+)",
        MODELS_PAGE.read_text(),
        re.MULTILINE,
    )
    assert len(rows) == 9
    for name, shape, classes, weights in rows:
        ref = reference(name)
        given = {k: v for k, v in ref.settings.items() if k in ("blocks", "bottleneck")}
        with torch.device("meta"):
            model = ref.build(
                classes=int(classes.replace(",", "")),
                input_shape=tuple(map(int, shape.split("x"))),
                **given,
            )
        counted = sum(layer.weight.numel() for layer in sparsifiable_layers(model).values())
        assert counted == int(weights.replace(",", "").rstrip()), name


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_code_blocks_run_one_after_the_other(page: Path) -> None:
    blocks = re.findall(r"^```python\n(.*?)^```", page.read_text(), re.MULTILINE | re.DOTALL)
    assert blocks
    names: dict[str, object] = {}
    for block in blocks:
        exec(compile(block, str(page), "exec"), names)


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_run(page: Path, tmp_path: Path) -> None:
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments")
    commands = re.findall(r"^    (gossamer .+)$", page.read_text(), re.MULTILINE)
    assert commands
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    for command in commands:
        done = subprocess.run(
            shlex.split(command),
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("page", [*PAGES, MODELS_PAGE], ids=lambda page: page.stem)
def test_links_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
        assert (page.parent / link).exists(), link
