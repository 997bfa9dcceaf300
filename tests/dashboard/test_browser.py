"""The page in headless Chromium: drawn without complaints, a threshold dragged and stored."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
import pytest
from tests.browser import BROWSER, check_sizes, long_names

from gossamer.search import Choice, Experiment, Fidelity, Float, Maximize, Minimize, Trial

playwright = pytest.importorskip("playwright.sync_api", reason="Playwright is not installed")
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(BROWSER is None, reason="no Chromium here"),
]
# Of the drawing of parallel coordinates without a graphics card.
HARMLESS = re.compile(r"WebGL|ReadPixels|willReadFrequently")


@contextmanager
def opened(address: str, width: int = 1400) -> Iterator[tuple[Any, list[str]]]:
    """The page once it is drawn, and what went wrong in it so far."""
    wrong: list[str] = []
    with playwright.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=BROWSER, args=["--no-sandbox", "--enable-unsafe-swiftshader"]
        )
        tab = browser.new_page(viewport={"width": width, "height": 900})
        tab.set_default_timeout(120_000)  # on a machine that does much else
        tab.on(
            "console",
            lambda said: None if HARMLESS.search(said.text) else wrong.append(said.text),
        )
        tab.on("pageerror", lambda error: wrong.append(str(error)))
        tab.on(
            "request",
            lambda asked: (
                None
                if asked.url.startswith((address, "data:", f"blob:{address}"))
                else wrong.append(f"asked for {asked.url}")
            ),
        )
        tab.goto(address)
        tab.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        yield tab, wrong
        browser.close()


def drag_up(tab: Any, far: int) -> None:
    """The threshold of the upright metric, by its handle."""
    handle = tab.locator("#scatter .handle.y")
    box = handle.bounding_box()
    x, y = box["x"] + 0.7 * box["width"], box["y"] + box["height"] / 2
    tab.mouse.move(x, y)
    tab.mouse.down()
    tab.mouse.move(x, y - far / 2)
    tab.mouse.move(x, y - far)


def test_dragged_threshold_changes_the_frontier_and_is_stored(
    storage: str, serve: Callable[..., Any]
) -> None:
    with serve(storage, write=True) as page, opened(page.address) as (tab, wrong):
        assert tab.inner_text("h1") == "some <b>trials</b>"
        assert tab.inner_text("#best-count") == "2"
        assert tab.is_hidden("#store")
        drag_up(tab, 200)
        # Still held: the page follows while the threshold moves.
        tab.wait_for_function("document.getElementById('best-count').textContent === '1'")
        assert [m.threshold for m in Experiment.from_storage(storage).metrics] == [0.92, 0.35]
        tab.mouse.up()
        moved = float(tab.input_value("#limit-0-value"))
        assert 0.95 < moved <= 0.97
        assert "threshold.accuracy" in tab.get_attribute("#csv", "href")
        tab.click("#store")
        tab.wait_for_function("document.getElementById('message').textContent.startsWith('Stored')")
        stored = Experiment.from_storage(storage).metrics[0].threshold
        assert stored == moved
        tab.wait_for_selector("#store", state="hidden")
        tab.click("#trials tbody tr:nth-child(2)")
        assert "loss, it is nan" in tab.inner_text("#detail")
        assert wrong == []


def test_threshold_moves_by_keyboard_and_by_number(page: Any) -> None:
    with opened(page.address) as (tab, wrong):
        tab.focus("#scatter .handle.y")
        tab.keyboard.press("Shift+ArrowUp")
        tab.wait_for_function("document.getElementById('limit-0-value').value !== '0.92'")
        tab.fill("#limit-0-value", "0.99")
        tab.press("#limit-0-value", "Enter")
        tab.wait_for_function(
            "document.getElementById('best-title').textContent.startsWith('Nearest')"
        )
        tab.click("#reset")
        tab.wait_for_function("document.getElementById('best-count').textContent === '2'")
        assert tab.locator("#store").count() == 0
        assert wrong == []


EVIL = """</script><img src=x onerror='hit = 1'><b onclick=hit>%&;"""


def test_names_are_words_and_run_nothing(tmp_path: Path, serve: Callable[..., Any]) -> None:
    storage = f"sqlite:///{tmp_path / 'evil.db'}"
    experiment = Experiment(
        f"name {EVIL}",
        [Float(f"x {EVIL}", 0.0, 1.0), Choice(f"rule {EVIL}", [f"a {EVIL}", f"b {EVIL}"])],
        [Maximize(f"up {EVIL}", 0.1), Minimize(f"down {EVIL}", 0.9)],
        storage=storage,
        sampler="random",
    )
    for number in range(12):
        trial = experiment.ask()
        values = {f"up {EVIL}": 0.05 * number, f"down {EVIL}": 0.5, f"loss {EVIL}": 1.0}
        trial.report(1, values)
        experiment.tell(trial, values)
    experiment.tell(experiment.ask(), error=f"reason {EVIL}")
    with serve(storage) as page, opened(page.address) as (tab, wrong):
        tab.fill("#limit-0-value", "0.2")  # the name goes through the address too
        tab.press("#limit-0-value", "Enter")
        tab.wait_for_function("document.getElementById('inside').textContent === '8'")
        tab.click("#trials tbody tr:first-child")
        assert f"reason {EVIL}" in tab.inner_text("#detail")
        assert tab.inner_text("h1") == f"name {EVIL}"
        assert tab.evaluate("typeof hit") == "undefined"
        assert tab.locator("img[src=x]").count() == 0
        assert wrong == []


def test_cheaper_trials_are_named_before_one_of_the_full_task(
    tmp_path: Path, serve: Callable[..., Any]
) -> None:
    storage = f"sqlite:///{tmp_path / 'cheap.db'}"
    experiment = Experiment(
        "cheap",
        [Float("x", 0.0, 1.0)],
        [Maximize("accuracy", 0.5)],
        fidelities=[Fidelity("small", {}, 0.1)],
        budget=10,
        storage=storage,
    )
    experiment.tell(experiment.ask(), {"accuracy": 0.7})
    with serve(storage) as page, opened(page.address) as (tab, wrong):
        tab.wait_for_selector("#trials td .state")
        told = tab.evaluate(
            "getComputedStyle(document.getElementById('scatter'), '::before').content"
        )
        assert "of the cheaper small the best is trial 0 with accuracy 0.7" in told
        assert "1 complete (1 of a cheaper task)" in tab.inner_text("#states")
        assert tab.inner_text("#trials td .note") == "small"
        assert wrong == []


def test_new_trials_appear(page: Any, storage: str) -> None:
    with opened(page.address) as (tab, wrong):
        experiment = Experiment.from_storage(storage)
        experiment.tell(experiment.ask(), {"accuracy": 0.98, "density": 0.1})
        tab.wait_for_function("document.getElementById('inside').textContent === '4'")
        # The process of the trial that runs is this one.
        assert tab.inner_text("#live") == "live, 1 running"
        tab.hover("#scatter .canvas")
        buttons = tab.locator("#scatter .modebar-btn").evaluate_all(
            "found => found.map((button) => button.dataset.title)"
        )
        assert "Download plot as a PNG" in buttons
        assert not [title for title in buttons if "hare" in title]
        experiment.tell(Trial(5, {}), error="ended")
        tab.wait_for_function(
            "document.getElementById('live').textContent === 'up to date, nothing runs'"
        )
        assert wrong == []


def test_nothing_is_cut_off_at_any_size_in_any_theme(
    storage: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    note = "a note that is longer than a row of a telephone is wide, " * 3
    Experiment.from_storage(storage).note(1, note)
    with serve(storage) as page, opened(page.address, width=390) as (tab, wrong):
        tab.wait_for_selector("#trials tbody tr")
        for box in tab.locator("#best input[data-pin]").all():
            box.check()
        assert note.strip() in tab.inner_text("#best")
        check_sizes(tab, tmp_path)
        tab.set_viewport_size({"width": 390, "height": 900})
        canvas = tab.locator("#scatter .canvas .nsewdrag").bounding_box()
        assert canvas["height"] > 300  # of 480: the legend is above the plot
        assert wrong == []


def test_long_names_are_not_cut_off(tmp_path: Path, serve: Callable[..., Any]) -> None:
    storage = f"sqlite:///{tmp_path}/long.db"
    long_names(storage)
    with serve(storage) as page, opened(page.address, width=390) as (tab, wrong):
        tab.wait_for_selector("#trials tbody tr")
        check_sizes(tab, tmp_path)
        assert wrong == []


def test_several_experiments_at_any_size(
    storage: str, serve: Callable[..., Any], tmp_path: Path
) -> None:
    other = Experiment(
        "other", [Float("x", 0.0, 1.0)], [Minimize("time")], storage=storage, sampler="random"
    )
    other.tell(other.ask(), {"time": 2.5})
    with serve(storage) as page, opened(page.address) as (tab, wrong):
        assert tab.inner_text("h1") == "2 experiments"
        check_sizes(tab, tmp_path)
        tab.click("text=some <b>trials</b>")
        tab.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        assert tab.inner_text("h1") == "some <b>trials</b>"
        assert tab.inner_text("#best-count") == "2"
        tab.click(".brand a")
        tab.wait_for_selector("text=2 experiments")
        assert wrong == []


def test_weights_name_a_trial_and_pinned_ones_are_compared(page: Any) -> None:
    with opened(page.address) as (tab, wrong):
        tab.wait_for_selector("#trials tbody tr")
        assert tab.inner_text("#choice .knee") == "The frontier has no knee."
        for metric, other, trial in (("0", "1", 2), ("1", "0", 1)):
            tab.fill(f"#choice-weight-{metric}", "100")
            tab.fill(f"#choice-weight-{other}", "0")
            assert f"trial {trial} with" in tab.inner_text("#choice .weighed")
            assert tab.locator("#best tr.weighed").get_attribute("data-number") == str(trial)
        assert tab.is_hidden(".compared")
        tab.check("#choice .weighed input")  # trial 1
        assert tab.is_checked("#best tr[data-number='1'] input")
        tab.check("#best tr[data-number='2'] input")
        rows = tab.locator(".compared tr").all_inner_texts()
        assert [row.split() for row in rows[:2]] == [
            ["trial", "1", "trial", "2"],
            ["Parameters", "that", "differ"],
        ]
        assert ["accuracy", "≥", "0.92", "0.95", "0.97"] in [row.split() for row in rows]
        assert ["loss", "0.5", "0.5"] in [row.split() for row in rows]
        tab.click(".compared thead input >> nth=0")
        assert not tab.is_checked("#choice .weighed input")
        # A new trial leaves weights and pins as they are.
        assert tab.input_value("#choice-weight-1") == "100"
        assert wrong == []


def test_theme_is_the_systems_until_one_is_chosen(page: Any) -> None:
    with opened(page.address) as (tab, wrong):
        ground = "getComputedStyle(document.body).backgroundColor"
        light, dark = "rgb(243, 245, 248)", "rgb(15, 20, 27)"
        assert tab.evaluate(ground) == light
        tab.emulate_media(color_scheme="dark")
        assert tab.evaluate(ground) == dark
        tab.click("#theme")
        assert tab.evaluate(ground) == light
        tab.reload()
        tab.wait_for_selector("html[data-ready=yes]", timeout=120_000)
        assert tab.evaluate(ground) == light
        assert tab.get_attribute("#theme", "aria-label") == "Switch to the dark theme"
        tab.click("#theme")
        ink = "document.querySelector('#scatter .xtick text').style.fill"
        tab.wait_for_function(f"{ink} === 'rgb(230, 234, 240)'")
        assert wrong == []


def test_thousand_trials_open(tmp_path: Path, serve: Callable[..., Any]) -> None:
    """How long it takes is printed (pytest -s), and in docs/howto/dashboard.md."""
    storage = many(tmp_path / "many.db", 1_000)
    with serve(storage) as page:
        begun = time.perf_counter()
        answer = page.get("/api/view")
        answered = time.perf_counter() - begun
        with opened(page.address) as (tab, wrong):
            assert tab.inner_text("#filters button[aria-pressed=true]") == "all 1,000"
            # The margins are not widened for the labels, for which all would be drawn twice.
            margins = (
                "(({l, b}) => [l, b])(document.querySelector('#scatter .canvas')._fullLayout._size)"
            )
            assert tab.evaluate(margins) == [84, 60]
            assert wrong == []
        profile = tmp_path / "profile"
        times = [timed(page.address, profile) for _ in range(3)]
    print(f"1,000 trials: {answered:.2f} s until the view is answered")
    for drawn, complete in times:
        print(f"opened: {drawn:.2f} s until drawn, {complete:.2f} s until complete")
    assert answer.json["states"]["complete"] == 1_000


def timed(address: str, profile: Path) -> tuple[float, float]:
    """Seconds until the upper part is drawn, and all of it, in a browser nobody looks into.

    Playwright listens to the console of the pages it opens, for which V8 parses plotly.js
    several times over; so it joins only when the page is drawn.
    """
    command = [BROWSER, "--headless", "--no-sandbox", "--enable-unsafe-swiftshader"]
    command += ["--window-size=1400,900", f"--user-data-dir={profile}", "--remote-debugging-port=0"]
    with subprocess.Popen([*command, address], stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        lines = iter(process.stderr.readline, "")
        socket = next(line.split()[-1] for line in lines if "DevTools listening on" in line)
        time.sleep(5)
        with playwright.sync_playwright() as driver:
            browser = driver.chromium.connect_over_cdp(socket)
            (tab,) = (tab for tab in browser.contexts[0].pages if tab.url == address)
            tab.wait_for_selector("html[data-ready=yes]", timeout=60_000)
            marks = [
                tab.evaluate(f"performance.getEntriesByName('{name}')[0].startTime / 1000")
                for name in ("drawn", "complete")
            ]
            browser.new_browser_cdp_session().send("Browser.close")
        process.stderr.read()  # until it has ended
    return marks[0], marks[1]


def many(path: Path, count: int) -> str:
    """A database of complete trials, written at once."""
    storage = f"sqlite:///{path}"
    experiment = Experiment(
        "many",
        [Float(name, 0.0, 1.0) for name in ("a", "b", "c", "d")],
        [Maximize("accuracy", 0.6), Minimize("density", 0.6)],
        budget=2 * count,
        storage=storage,
        sampler="random",
    )
    # The first trial creates the study in the database.
    experiment.tell(experiment.ask(), {"accuracy": 0.5, "density": 0.5})
    study = optuna.load_study(study_name="many", storage=storage)
    space = {name: optuna.distributions.FloatDistribution(0.0, 1.0) for name in "abcd"}
    made = []
    for index in range(1, count):
        point = {name: (index * step) % 1.0 for name, step in zip("abcd", STEPS, strict=True)}
        values = [point["a"], 0.5 * point["a"] + 0.5 * point["b"]]
        named = dict(zip(("accuracy", "density"), values, strict=True))
        made.append(
            optuna.trial.create_trial(
                values=values,
                params=point,
                distributions=space,
                user_attrs={f"gossamer:value:{name}": value for name, value in named.items()},
            )
        )
    study.add_trials(made)
    assert len(experiment.trials()) == count
    return storage


STEPS = (0.6180339887, 0.7548776662, 0.5698402910, 0.8191725134)
