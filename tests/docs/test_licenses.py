"""docs/reference/licenses.md names every package of the lock files with its license.

    python tests/docs/test_licenses.py > docs/reference/licenses.md

writes the page anew, in an environment that was made from the lock files.
"""

from __future__ import annotations

import re
import sys
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/reference/licenses.md"
LOCKS = ("requirements.lock", "requirements-torch.lock")
EXTRAS = ("train", "search", "listen", "speech", "accelerate", "compare", "postgresql", "docs")
# Packages whose metadata name no license: what is known of their files.
STATED = {"espeakng-loader": "GPL-3.0-or-later, that of the espeak-ng library inside"}

HEAD = """---
title: Licenses
---
# Licenses of what is installed

gossamer itself is under Apache-2.0, and so is what it writes: networks, C sources, reports. These
are the packages of the lock files, each with the license that its own metadata name and the part
of gossamer that brings it: *base* is what `pip install gossamer` brings, then extras, else
development. Strong copyleft (GPL) is in `speech` alone: the voices of the embedded task
`spoken_words`, which no other task needs. From PyPI, `torch` for Linux also brings NVIDIA's
libraries, under NVIDIA's own license; the CPU build of PyTorch's own index does not.

| package | license | brought by |
| --- | --- | --- |
"""


def normalized(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


LOCKED = sorted(
    normalized(name)
    for lock in LOCKS
    for name in re.findall(r"^([\w.-]+)==", (ROOT / lock).read_text(), re.MULTILINE)
)


def closure(requirements: list[str], extra: str = "") -> set[str]:
    """The packages that requirements bring, with those of an extra of gossamer."""
    names: set[str] = set()
    todo = [(Requirement(line), extra) for line in requirements]
    while todo:
        requirement, context = todo.pop()
        name = normalized(requirement.name)
        if requirement.marker and not requirement.marker.evaluate({"extra": context}):
            continue
        if name not in names and name in LOCKED:
            names.add(name)
            brought = metadata.requires(name) or []
            for inner in requirement.extras or {""}:
                todo += [(Requirement(line), inner) for line in brought]
    return names


def license_of(name: str) -> str:
    about = metadata.metadata(name)
    classifiers = [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or []
        if line.startswith("License :: OSI Approved ::")
    ]
    stated = about["License-Expression"] or " and ".join(classifiers)
    return STATED.get(name) or stated or (about["License"] or "").strip().partition("\n")[0]


def page() -> str:
    requirements = metadata.requires("gossamer") or []
    brought = {"base": closure(requirements)}
    for extra in EXTRAS:
        brought[extra] = closure(requirements, extra) - brought["base"]
    rows = []
    for name in LOCKED:
        by = ", ".join(part for part, names in brought.items() if name in names)
        rows.append(f"| {name} | {license_of(name)} | {by or 'development'} |\n")
    return HEAD + "".join(rows)


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="other versions bring other packages")
def test_the_page_is_what_the_installed_packages_say() -> None:
    made = page()
    assert PAGE.read_text() == made, (
        "run: python tests/docs/test_licenses.py > docs/reference/licenses.md"
    )
    assert not re.findall(r"\|  \|", made), "a package without a license; look into its files"


def test_only_the_extra_speech_brings_gpl() -> None:
    strong = {
        row.split(" | ")[2].strip(" |")
        for row in page().splitlines()
        if re.search(r"(?<!L)GPL", row) and row.startswith("| ")
    }
    assert strong == {"speech"}


if __name__ == "__main__":
    print(page(), end="")
