"""The page in a real browser: the plots are drawn, nothing is complained about."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from report_fakes import ACCURACY, DENSITY, LATENCY, experiment, pair
from tests.browser import BROWSER, check_sizes, long_names

from gossamer.report import page


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_plots_are_drawn_without_a_complaint(tmp_path: Path) -> None:
    target = page(tmp_path / "report.html", pair(), experiment(60, (ACCURACY, DENSITY)))
    assert BROWSER is not None
    done = subprocess.run(
        [
            BROWSER,
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--enable-unsafe-swiftshader",
            "--disable-quic",
            "--no-first-run",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--enable-logging=stderr",
            # A pointer that hovers, without which there is no mode bar.
            "--blink-settings=primaryHoverType=2,availableHoverTypes=2",
            f"--user-data-dir={tmp_path / 'profile'}",
            "--virtual-time-budget=60000",
            "--dump-dom",
            target.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=180,
        check=True,
    )
    complaints = [
        line
        for line in done.stderr.splitlines()
        if "CONSOLE" in line and not re.search(r"WebGL|ReadPixels|willReadFrequently", line)
    ]
    assert complaints == []
    keys = re.findall(r'data-plot="([^"]+)"', done.stdout)
    assert len(keys) == 10
    places = re.split(r'class="canvas', done.stdout)[1:]
    assert len(places) == len(keys)
    for place in places:
        assert 'class="main-svg"' in place
    assert "could not be drawn" not in re.sub(r"<script.*?</script>", "", done.stdout, flags=re.S)
    # plotly has a button that uploads the plot; the page has its own list.
    buttons = set(re.findall(r'data-title="([^"]+)"', "".join(places)))
    assert buttons == {"Download plot as a PNG", "Zoom", "Pan", "Zoom in", "Zoom out", "Reset axes"}


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_nothing_is_cut_off_at_any_size_in_any_theme(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    searched, other = experiment(60), experiment(30, (ACCURACY, DENSITY, LATENCY))
    object.__setattr__(other, "name", "another experiment")
    target = page(tmp_path / "report.html", pair(), [searched, other])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 900})
        tab.goto(target.as_uri(), timeout=120_000)
        tab.wait_for_selector("#history-1 .main-svg")
        section = tab.locator(".experiment").first
        for box in section.locator("tbody input[data-pin]").all()[:3]:
            box.check()
        assert section.locator(".compared thead th").count() == 3
        check_sizes(tab, tmp_path)
        tab.set_viewport_size({"width": 390, "height": 900})
        assert tab.locator(".sides .gain").first.is_visible()
        plot = tab.locator("#history-0 .nsewdrag").bounding_box()
        assert plot["height"] > 180  # of 300: the legend is above the plot
        for theme, color in (("light", "rgb(31, 41, 51)"), ("dark", "rgb(230, 234, 240)")):
            tab.emulate_media(color_scheme=theme)
            ink = "document.querySelector('#history-0 .xtick text').style.fill"
            tab.wait_for_function(f"{ink} === '{color}'")
        tab.click("#theme")
        tab.wait_for_function(f"{ink} === 'rgb(31, 41, 51)'")
        browser.close()


@pytest.mark.slow
@pytest.mark.skipif(BROWSER is None, reason="no Chromium here")
def test_long_names_are_not_cut_off(tmp_path: Path) -> None:
    playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
    target = page(tmp_path / "report.html", {}, [long_names()])
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(executable_path=BROWSER, args=["--no-sandbox"])
        tab = browser.new_page(viewport={"width": 390, "height": 900})
        tab.goto(target.as_uri(), timeout=120_000)
        tab.wait_for_selector("#history-1 .main-svg")
        title = tab.locator("#history-1 .g-ytitle")
        assert re.fullmatch(r"naName\w+…\w+ \(minimize\)", title.text_content() or "")
        height = (title.bounding_box() or {})["height"]
        assert 100 < height < (tab.locator("#history-1").bounding_box() or {})["height"]
        check_sizes(tab, tmp_path)
        # Beside columns of long names: no heading letter by letter.
        tab.set_viewport_size({"width": 820, "height": 900})
        for heading in tab.locator("thead th").all():
            assert (heading.bounding_box() or {})["width"] > 50
        browser.close()
