"""Trials evaluated by a command line."""

import json
import sys
import time

import pytest

from gossamer.errors import UserError
from gossamer.search import (
    Choice,
    Command,
    Experiment,
    Float,
    Maximize,
    Minimize,
    Trial,
    Violated,
)
from gossamer.search.execution.commands import CommandError

PYTHON = f"'{sys.executable}'"


def program(folder, text):
    (folder / "p.py").write_text("import json, os, sys, time\n" + text)
    return f"{PYTHON} '{folder}/p.py'"


def collecting(number=0, **parameters):
    seen = []
    trial = Trial(number, parameters)
    return trial.reporting(lambda *report: seen.append(report)), seen


def test_values_stand_in_the_line_one_word_each(tmp_path):
    line = program(
        tmp_path,
        "print(sys.argv[1:], file=sys.stderr)\n"
        'print(json.dumps({"words": len(sys.argv) - 1, "rate": float(sys.argv[2]),'
        ' "env": json.loads(os.environ["GOSSAMER_PARAMETERS"])["net.rate"]}))\n',
    )
    trial = Trial(7, {"net.rate": 1e-4, "kind": "a b; rm $HOME"}, settings={"epochs": 3})
    found = Command(line + " --rate {net.rate} --kind={kind} {epochs} {trial}")(trial)
    assert found == {"words": 5, "rate": 1e-4, "env": 1e-4}


def test_the_last_line_wins_and_those_before_are_reports(tmp_path):
    line = program(
        tmp_path,
        "print('loading', flush=True)\n"
        "for i in range(1, 4): print(json.dumps({'epoch': i, 'of': 3, 'a': i / 10}), flush=True)\n"
        "print('{broken')\nprint('[1, 2]')\nprint(json.dumps({'a': 0.5, 'name': 'net'}))\n"
        "print('done')\n",
    )
    trial, seen = collecting()
    assert Command(line)(trial) == {"a": 0.5}
    assert seen == [(i, {"a": i / 10}, 3) for i in (1, 2, 3)]


@pytest.mark.parametrize("last", ['{"a": 0.9, "b', "{'a': 0.9}", '{\n"a": 0.9\n}', '{"a": }'])
def test_an_object_that_cannot_be_read_is_not_passed_over(tmp_path, last):
    """The line before it holds an older value, not the last one."""
    line = program(tmp_path, f"print(json.dumps({{'epoch': 1, 'a': 0.1}}))\nprint({last!r})\n")
    trial, _ = collecting()
    with pytest.raises(CommandError, match=r"cannot be read as JSON: \{.*one whole line of JSON"):
        Command(line)(trial)
    again = f"print({last!r})\nprint(json.dumps({{'a': 0.5}}))\nprint('{{epoch 1}} done')\n"
    assert Command(program(tmp_path, again))(trial) == {"a": 0.5}


def test_lines_without_a_step_are_counted(tmp_path):
    line = program(tmp_path, "for i in range(4): print(json.dumps({'a': i}), flush=True)\n")
    trial, seen = collecting()
    assert Command(line)(trial) == {"a": 3}
    assert seen == [(1, {"a": 0}, None), (2, {"a": 1}, None), (3, {"a": 2}, None)]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("print('{\"a\": 1}')\nprint('no such\\ndata', file=sys.stderr)\nsys.exit(3)", "status 3"),
        ("raise ValueError('no such data')", "status 1: Traceback .* no such data"),
        ("print('nothing')", "printed no line of JSON"),
        ("os.kill(os.getpid(), 9)", "ended with SIGKILL"),
    ],
)
def test_why_a_program_failed(tmp_path, text, words):
    with pytest.raises(CommandError, match=words) as error:
        Command(program(tmp_path, text))(Trial(0, {}))
    assert "\n" not in str(error.value)


def test_a_program_that_is_not_there():
    with pytest.raises(CommandError, match="'/no/such/program' cannot be started: No such file"):
        Command("/no/such/program {trial}")(Trial(0, {}))


def test_a_program_that_takes_too_long_is_ended_with_all_that_it_started(tmp_path):
    line = program(
        tmp_path,
        "import subprocess\n"
        "print('{\"a\": 1}', flush=True)\n"
        f"subprocess.run([{sys.executable!r}, '-c', 'import time; time.sleep(60)'])\n",
    )
    started = time.monotonic()
    with pytest.raises(CommandError, match=r"took longer than 1\.5 seconds"):
        Command(line, timeout=1.5)(Trial(0, {}))
    assert time.monotonic() - started < 30


def test_a_stopped_trial_ends_its_program(tmp_path):
    line = program(
        tmp_path,
        "for i in range(1, 600):\n"
        "    print(json.dumps({'step': i, 'of': 600, 'density': 0.5}), flush=True)\n"
        "    time.sleep(0.1)\n",
    )
    experiment = Experiment(
        "x",
        [Float("a", 0, 1)],
        [Maximize("accuracy", 0.5), Minimize("density", 0.2)],
        budget=2,
        sampler="random",
        stopping=[Violated()],
        command=Command(line, timeout=60),
    )
    started = time.monotonic()
    experiment.run(progress=False)
    assert [r.state for r in experiment.trials()] == ["stopped"] * 2
    assert time.monotonic() - started < 40


def test_an_experiment_of_a_command(tmp_path):
    line = program(tmp_path, "print(json.dumps({'loss': float(sys.argv[1]) ** 2}))\n")
    url = f"sqlite:///{tmp_path}/x.db"
    experiment = Experiment(
        "x",
        [Float("a", -1, 1)],
        [Minimize("loss", 0.5)],
        budget=4,
        sampler="random",
        storage=url,
        command=Command(line + " {a}", timeout=60),
    )
    experiment.run(workers=2, progress=False)
    assert all(r.values["loss"] == r.parameters["a"] ** 2 for r in experiment.trials())
    assert Experiment.from_storage(url).command == experiment.command


def test_failures_are_the_trials_reasons(tmp_path):
    line = program(tmp_path, "sys.exit('no such data')")
    experiment = Experiment("x", [Choice("a", [1, 2])], [Minimize("loss")], command=line)
    with pytest.raises(UserError, match=r"first 5 trials all failed.*status 1: no such data"):
        experiment.run(progress=False)


def test_without_function_or_command():
    with pytest.raises(UserError, match="has no command; give run"):
        Experiment("x", [Float("a", 0, 1)], [Minimize("loss")]).run(progress=False)


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("", "command must be a command line"),
        (3, "a text or a table with 'line'"),
        ({"timeout": 3}, "a text or a table with 'line'"),
        ({"line": "a 'b"}, "No closing quotation"),
        ({"line": "a", "timeout": -1}, "timeout must be a number of seconds above 0"),
        ({"line": "a", "timout": 1}, "unknown key 'timout'; did you mean 'timeout'"),
    ],
)
def test_commands_of_nonsense(entry, words):
    with pytest.raises(UserError) as error:
        Command.from_entry(entry)
    assert words in str(error.value)


def test_an_unknown_name_is_an_error_before_anything_runs():
    with pytest.raises(UserError, match=r"no parameter or setting '\{rat\}'; did you mean 'rate'"):
        Command("train {rat}").check({"rate": None})


def test_the_command_line_searches_with_a_command(tmp_path, monkeypatch, capsys):
    from gossamer.cli import main

    line = program(tmp_path, "print(json.dumps({'loss': float(sys.argv[1])}))\n")
    text = f"""
name = "c"
budget = 3
sampler = "random"
storage = "sqlite:///c.db"
command = {json.dumps(line + " {a}")}
[metrics.loss]
goal = "minimize"
[parameters.a]
type = "float"
low = 0
high = 1
"""
    (tmp_path / "c.toml").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["gossamer", "search", "c.toml", "--json"])
    main()
    assert json.loads(capsys.readouterr().out)["trials"] == {"complete": 3}
    (tmp_path / "c.toml").write_text(text.replace("{a}", "{b}"))
    with pytest.raises(SystemExit):
        main()
    assert "no parameter or setting '{b}'" in capsys.readouterr().err
