"""The page: what it holds and loads, and its colors."""

from __future__ import annotations

import re
from typing import Any

from gossamer.report.panels import PANELS


def test_page_escapes_the_name_and_loads_nothing_from_elsewhere(page: Any) -> None:
    answer = page.get("/")
    text = answer.body.decode()
    assert answer.status == 200
    assert "some &lt;b&gt;trials&lt;/b&gt;" in text
    assert "<b>trials" not in text
    assert "http" not in text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    for asset in ("/plotly.js", "/page.js", "/page.css"):
        assert page.get(asset).status == 200
    script = page.get("/plotly.js").body.decode()
    assert len(script) > 1_000_000
    assert set(re.findall(r"""["'`]https?://([^/"'`]*)""", script)) == {"www.w3.org"}
    for asset in ("/page.js", "/page.css"):
        assert b"http" not in page.get(asset).body


def test_only_plotly_is_cached_for_good_and_its_address_has_its_version(page: Any) -> None:
    found = re.search(r'src="(/plotly.js\?[0-9.]+)"', page.get("/").body.decode())
    assert found is not None
    version = found[1].partition("?")[2]
    script = page.get(found[1])
    assert f"plotly.js v{version}\n".encode() in script.body[:200]
    assert "immutable" in script.headers["Cache-Control"]
    for changing in ("/", "/page.js", "/page.css", "/api/view", "/api/plots", "/api/trials"):
        assert page.get(changing).headers["Cache-Control"] == "no-cache"


def test_every_panel_of_the_report_has_its_place_and_is_answered(page: Any) -> None:
    keys = [panel.key for panel in PANELS]
    assert len(set(keys)) == len(keys)
    text = page.get("/").body.decode()
    for key in keys:
        assert text.count(f'id="{key}"') == 1
    answered = [*page.get("/api/view").json["plots"], *page.get("/api/plots").json]
    answered += page.get("/api/slow").json["plots"]
    assert sorted(answered) == sorted(keys)
