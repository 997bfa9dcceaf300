"""Private phrases that were replaced by plain ones stay away, and so does British spelling."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest
from tests.docs.workspace import ROOT

PHRASES = (
    r"\bmend(s|ed|ing)?\b",
    r"each search is another one",
    r"[Nn]othing is downloaded but",
    r"cut short at the very moment",
    r"they were told with",
    r"is told elsewhere",
    r"if they were said so",
    r"thoroughness with which",
    r"makes? no sense",
    r"goes on from here",
    r"all is taken",
    r"looked at three times",
    r"anyone's (loop|function)",
    r"give the (same )?command again",
    # In the libraries' spelling, names and sentences alike.
    r"optimis|normalis|quantis|initialis|maximis|minimis|recognis|standardis|parametris",
    r"neighbour|colour|centre|modelled|(?<!aria-)labelled|learnt|licence|grey|behaviour|metres?\b",
)
# Where a wrong word is tested to be refused.
EXPECTED = {"tests/search/test_definition.py", "tests/docs/test_words.py"}

FILES = [
    path
    for folder in ("docs", "src", "examples", "experiments", "tests")
    for path in sorted((ROOT / folder).rglob("*"))
    if path.suffix in (".md", ".py", ".toml", ".j2", ".css", ".js", ".h", ".cpp", ".inc")
    and path.relative_to(ROOT).as_posix() not in EXPECTED
]


@cache
def texts() -> dict[Path, str]:
    files = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *FILES]
    return {path: path.read_text() for path in files}


ROOMS = sorted(path.parent.name for path in (ROOT / "src/gossamer").glob("*/__init__.py"))


@pytest.mark.parametrize("phrase", PHRASES)
def test_a_phrase_that_was_replaced_stays_away(phrase: str) -> None:
    pattern = re.compile(phrase)
    places = [
        f"{path.relative_to(ROOT)}:{number}: {line.strip()}"
        for path, text in texts().items()
        if pattern.search(text)
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]
    assert not places, "\n".join(places)


# Words that meant several things each: what a name holds says more.
NAME = re.compile(
    r"_?(found|given|kept|held|said|told|mend)(_\w+)?|\w+_(given|kept|held|said|told)"
)


@pytest.mark.parametrize("room", ROOMS)
def test_names_are_plain_and_modules_open_with_a_noun(room: str) -> None:
    wrong = []
    for path in sorted((ROOT / "src/gossamer").glob(f"{room}/**/*.py")):
        tree = ast.parse(path.read_text())
        opening = (ast.get_docstring(tree) or "").partition(" ")[0]
        names = {opening} & {"What", "Which", "Where", "How", "Who", "When", "Whether", "If"}
        for node in ast.walk(tree):
            for field in ("id", "arg", "attr", "name"):
                name = getattr(node, field, None)
                if isinstance(name, str) and NAME.fullmatch(name):
                    names.add(name)
        wrong += [f"{path.relative_to(ROOT)}: {name}" for name in sorted(names)]
    assert not wrong


def test_functions_of_tests_have_plain_names() -> None:
    """Their local names are free."""
    private = {"found", "given", "kept", "held", "said", "told", "mend", "mended"}
    wrong = [
        f"{path.relative_to(ROOT)}: {name}"
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for name in re.findall(r"\bdef (\w+)", path.read_text())
        if private & set(name.replace("held_out", "").split("_"))
    ]
    assert not wrong
