"""The browser that tests of pages use; None where there is none."""

import shutil
from pathlib import Path
from typing import Any

from gossamer.search import Choice, Experiment, Float, Maximize, Minimize

NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
BROWSER = next((found for name in NAMES if (found := shutil.which(name))), None)
# A phone, a tablet, and a desk.
WIDTHS = (390, 820, 1440)
# What reaches beyond the window, and what does not show all that it holds. Only regions that
# scroll by themselves may, on screens that are wider than a phone. Plotly measures texts beside
# the window.
_CUT = """() => {
  // Headings of rows that are blocks on a phone are for screen readers.
  const beside = `svg, .bar, .modebar, .handle${innerWidth > 640 ? "" : ", .stack thead"}`;
  const cut = [];
  for (const box of document.querySelectorAll("body *")) {
    if (!box.checkVisibility() || box.closest(beside)) continue;
    const words = box.textContent.trim().slice(0, 40);
    const name = [box.tagName, box.id, box.className, words].join(" ");
    const { left, right, width } = box.getBoundingClientRect();
    const scrolls = innerWidth > 640 && box.closest(".scroll");
    const beyond = left < -1 || right > innerWidth + 1;
    if (width > 1 && !scrolls && beyond) cut.push(`outside: ${name}`);
    const clipped = getComputedStyle(box).overflowX !== "visible";
    if (clipped && !scrolls && box.scrollWidth > box.clientWidth + 1) cut.push(`cut: ${name}`);
  }
  return cut;
}"""


def check_sizes(tab: Any, pictures: Path) -> None:
    """Assert that a page fits every width in both themes; leaves a picture of each.

    Args:
        tab: of Playwright's, with the page.
        pictures: folder for them, by theme and width.
    """
    tab.evaluate("document.querySelectorAll('details').forEach((part) => { part.open = true; })")
    for width in WIDTHS:
        tab.set_viewport_size({"width": width, "height": 900})
        for theme, ground in (("light", 243), ("dark", 15)):
            tab.emulate_media(color_scheme=theme)
            tab.evaluate("() => new Promise((done) => setTimeout(done, 300))")
            wide = tab.evaluate("[document.documentElement.scrollWidth, innerWidth]")
            assert wide[0] <= wide[1], (width, theme)
            cut = tab.evaluate(_CUT)
            assert cut == [], (width, theme, cut)
            color = tab.evaluate("getComputedStyle(document.body).backgroundColor")
            red = int(color.removeprefix("rgb(").split(",")[0])
            assert abs(red - ground) <= 12, (theme, color)
            tab.screenshot(path=pictures / f"{theme}-{width}.png")


def long_names(storage: str | None = None) -> Experiment:
    """Return an experiment whose names have no place to break at, and are wider than a phone."""
    name = "aNameThatSaysAllThereIsToSay" * 3
    found = Experiment(
        f"e{name}",
        [Float(f"p{name}", 0.0, 1.0), Choice("choice", [f"v{name}", "b"])],
        [Maximize(f"m{name}", 0.2), Minimize(f"n{name}", 0.8)],
        storage=storage,
        sampler="random",
    )
    for _ in range(6):
        trial = found.ask()
        value = trial.parameters[f"p{name}"]
        found.tell(trial, {f"m{name}": value, f"n{name}": value**2})
    return found
