"""How figures are known."""

from __future__ import annotations

import pytest

from gossamer.report import figures
from gossamer.report.provenance import PROVENANCE, metric_provenance


@pytest.mark.parametrize(
    ("name", "provenance"),
    [
        ("accuracy", "measured"),
        ("density", "counted"),
        ("energy", "modeled"),
        ("mine", "measured"),
    ],
)
def test_metric_provenance(name: str, provenance: str) -> None:
    assert metric_provenance(name) == provenance


def test_every_row_has_a_provenance_of_the_three() -> None:
    assert {row.provenance for row in figures.ROWS} <= set(PROVENANCE)
