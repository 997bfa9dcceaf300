"""Every command with every option wrong: one line, status 2, and nothing is written."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest
import typer
from onnx import helper, numpy_helper

from gossamer.cli.app import app

# Arguments with which a command gets as far as its options.
RIGHT = {
    "bench": ["model.onnx"],
    "compress": ["net.py:build", "data.npz"],
    "dashboard": ["e.toml"],
    "demo": [],
    "export": ["run"],
    "frontier": ["e.toml"],
    "listen": ["model.onnx", "--wav", "none.wav"],
    "profile": ["model.onnx"],
    "report": ["run"],
    "robustness": ["run"],
    "run": ["model.onnx", "--input", "x.npy", "--output", "y.npy"],
    "search": ["e.toml"],
    "train": ["data.npz", "--model", "net.py:build"],
    "trials delete": ["e.toml", "0"],
    "trials export": ["e.toml", "--output", "trials.json"],
    "trials import": ["trials.json", "--storage", "sqlite:///new.db"],
    "trials list": ["e.toml"],
    "trials note": ["e.toml", "0", "x"],
    "trials show": ["e.toml", "0"],
    "trials set": ["e.toml", "0", "accuracy=1"],
}


def commands(group: typer.core.TyperGroup, before: str = "") -> dict[str, typer.core.TyperCommand]:
    """Name, with those of the groups that it is in, and command."""
    leaves = {}
    for name, command in group.commands.items():
        if isinstance(command, typer.core.TyperGroup):
            leaves |= commands(command, f"{before}{name} ")
        else:
            leaves[before + name] = command
    return dict(sorted(leaves.items()))


COMMANDS = commands(typer.main.get_command(app))
NUMBERS = ["", "x", "1e400", "-1", "nan"]
FILES = ["", "none/there", "folder", "junk", "junk/below", "x" * 300]
UNUSABLE = ["junk/below", "x" * 300]  # of an output, which may be any new file or folder
TEXTS = {
    "--against": ["", ",", "none"],
    "--at-least": ["", "accuracy", "accuracy=x", "none=3"],
    "--at-most": ["", "density", "none=3"],
    "--lose-at-most": ["", "accuracy=-1", "none=3"],
    "--maximize": ["", "none", "density"],
    "--minimize": ["", "none", "speedup"],
    "--files": [],  # any folder, which is made when it is needed
    "--format": ["", "mp3"],
    "--from": ["", "none.toml", "folder", "junk"],
    "--into": ["", "none.toml", "folder", "junk"],
    "--kind": ["", "none"],
    "--labels": [""],
    "--mlflow": [],  # an address that nobody answers at takes minutes to refuse
    "--model": ["", "none", ":f", "net.py:", "net.py:none", "junk:f", "none.py:f"],
    "--device": [],
    "--name": [],
    "--ray": [],
    "--rename": ["", "x"],
    "--wandb": [],  # a project, which its own service may refuse
    "--set": ["", "x", "=3", "none=3", "epochs=x", "hidden=-1"],
    "--shape": [
        "",
        "x",
        "none=1,3",
        "input=",
        "input=1,x",
        "input=0,3",
        "input=1,3,3",
        "input=1,4",
    ],
    "--study": ["none"],
    "--value": ["", "x", "none=3", "=3", "input=", "input=x", "input=1"],
    "--storage": ["", "x", "none://x", "sqlite:///none/there.db", "sqlite:///junk"],
}
OUTPUTS = ("--out", "--output", "--tensorboard")


def cases():
    for name, command in COMMANDS.items():
        assert name in RIGHT, f"{name}: say how it is called rightly"
        yield name, ["--no-such-option"]
        yield name, ["more", "arguments", "than", "it", "takes", "--", "so", "many"]
        if RIGHT[name]:
            yield name, None  # without its arguments
        for file in FILES:
            if RIGHT[name]:
                yield name, [file, *RIGHT[name][1:]]
        for option in command.params:
            if option.param_type_name != "option" or option.name == "help":
                continue
            longest = max(option.opts, key=len)
            kind = re.findall(r"\w+", str(option.bare_type()))[-1]  # "list[str]" and str alike
            if kind == "bool":
                yield name, [f"{longest}=3"]
                continue
            yield name, [longest]  # without its value
            if kind == "Path":
                values = UNUSABLE if longest in OUTPUTS else FILES
            else:
                values = NUMBERS if kind in ("int", "float") else TEXTS[longest]
            for value in values:
                yield name, [longest, value]


CASES = list(cases())


@pytest.fixture
def folder(place, experiment):
    experiment()
    (place / "folder").mkdir()
    (place / "run").mkdir()
    (place / "junk").write_bytes(b"\x00\xff junk \x80" * 50)
    weight = numpy_helper.from_array(np.eye(3, 4, dtype=np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["input", "w"], ["y"])],
        "small",
        [helper.make_tensor_value_info("input", 1, ["batch", 3])],
        [helper.make_tensor_value_info("y", 1, None)],
        [weight],
    )
    opset = [helper.make_opsetid("", 18)]
    onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=9), place / "model.onnx")
    np.save(place / "x.npy", np.zeros((2, 3), np.float32))
    return place


def without(option: str, arguments: list[str]) -> list[str]:
    """Without the option and its value, since one given twice is refused."""
    if option not in arguments:
        return arguments
    place = arguments.index(option)
    return arguments[:place] + arguments[place + 2 :]


def everything(folder: Path):
    return {
        path: path.read_bytes() if path.is_file() else None
        for path in folder.rglob("*")
        if "__pycache__" not in path.parts
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_wrong(folder, gossamer, name):
    before = everything(folder)
    wrong = []
    for command, tail in CASES:
        if command != name:
            continue
        if tail is None:
            arguments = name.split()
        elif tail[0].startswith("-"):
            arguments = [*name.split(), *without(tail[0], RIGHT[name]), *tail]
        else:
            arguments = [*name.split(), *tail]
        status, out, err = gossamer(*arguments)
        fine = (
            status == 2
            and out.strip() == ""
            and err.startswith("gossamer: ")
            and err.count("\n") == 1
            and everything(folder) == before
        )
        if not fine:
            wrong.append((arguments, status, out[-200:], err[-200:]))
    assert not wrong, "\n".join(map(str, wrong))
