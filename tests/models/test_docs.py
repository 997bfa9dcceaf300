"""The page on models states the counted figures (its code is run by tests/docs)."""

from __future__ import annotations

import re
from pathlib import Path

import torch

from gossamer.models import MODELS, reference
from gossamer.sparsity import sparsifiable_layers

ROOT = Path(__file__).parents[2]
MODELS_PAGE = ROOT / "docs" / "reference" / "models.md"


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
    assert len(rows) == 12
    for name, shape, classes, weights in rows:
        ref = reference(name)
        given = {k: v for k, v in ref.settings.items() if k in ("blocks", "bottleneck", "width")}
        with torch.device("meta"):
            model = ref.build(
                classes=int(classes.replace(",", "")),
                input_shape=tuple(map(int, shape.split("x"))),
                **given,
            )
        counted = sum(layer.weight.numel() for layer in sparsifiable_layers(model).values())
        assert counted == int(weights.replace(",", "").rstrip()), name
