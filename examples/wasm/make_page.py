"""The page of a trained network: what a folder needs to spot keywords in a browser.

    python examples/wasm/make_page.py runs/words/model.onnx site
    python -m http.server --directory site

Needs clang and lld. The network must have been trained on sound, with the features of
``speech_commands``: one second at 16 kHz, 32 x 32 (others are refused by the page).
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from gossamer.runtime.c.source import to_c
from gossamer.runtime.importer import read

PAGE = ("index.html", "features.mjs", "network.mjs")
COMPILE = (
    *("clang", "--target=wasm32", "-O2", "-std=c99", "-ffreestanding", "-nostdlib"),
    *("-Wl,--no-entry", "-Wl,--export=keywords_run", "-Wl,--export=__heap_base"),
)


def build(model: Path, site: Path) -> Path:
    """Writes the page, ``keywords.wasm`` and what the network says of itself into ``site``.

    Raises:
        UserError: the model cannot be read or written in C.
        KeyError: the model does not say its classes: it was not exported from a run.
        subprocess.CalledProcessError, FileNotFoundError: clang fails, or is not there.
    """
    graph = read(model)
    said = json.loads(graph.metadata["gossamer"])
    site.mkdir(parents=True, exist_ok=True)
    source = site / "keywords.c"
    source.write_text(to_c(graph, "keywords"), encoding="ascii")
    subprocess.run([*COMPILE, source.name, "-o", "keywords.wasm"], cwd=site, check=True)
    source.unlink()
    (site / "keywords.json").write_text(json.dumps(said, indent=1) + "\n")
    for name in PAGE:
        shutil.copy(Path(__file__).parent / name, site / name)
    return site


if __name__ == "__main__":
    print(build(Path(sys.argv[1]), Path(sys.argv[2])))
