"""What a plot hands over to the page."""

from __future__ import annotations

import json

import plotly.graph_objects as go
import pytest

from gossamer.report.plots.base import Plot


@pytest.mark.parametrize("name", ["</script>", "<!-- <script>", "a & b", "\u2028\u2029", "ü×"])
def test_json_cannot_end_or_change_its_script_element(name: str) -> None:
    """Even where a name reached the figure as it is."""
    figure = go.Figure(go.Scatter(x=[1, 2], y=[3, 4], name=name), layout={"height": 100})
    written = Plot("key", "title", "alt", figure, ("counted",)).json
    assert not set(written) & set("<>&\u2028\u2029")
    assert json.loads(written)["data"][0]["name"] == name
