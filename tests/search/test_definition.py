"""Experiment files: what they may hold, and how mistakes are named."""

from pathlib import Path

import pytest

from gossamer.errors import UserError
from gossamer.search import (
    AtLeast,
    AtMost,
    Choice,
    Experiment,
    Float,
    Grid,
    Int,
    LinearConstraint,
    Maximize,
    Minimize,
    Prior,
    WarmStart,
)
from gossamer.search.definition import from_mapping, to_mapping

GOOD = """
name = "small"
budget = 12
sampler = "tpe"
seed = 3

[settings]
task = "mnist"
epochs = 2

[metrics.accuracy]
goal = "maximize"
threshold = 0.9

[metrics.density]
goal = "minimize"

[metrics.latency]
goal = "at_most"
threshold = 5.0

[metrics.recall]
goal = "at_least"
threshold = 0.5

[[start]]
learning_rate = 1e-3
width = 16

[parameters.learning_rate]
type = "float"
low = 1e-4
high = 0.3
log = true
prior = { center = 1e-2, spread = 3.0 }

[parameters."weight_density.conv2"]
type = "float"
low = 0.1
high = 0.5
step = 0.1

[parameters.width]
type = "int"
low = 8
high = 64
step = 8

[parameters.optimizer]
type = "choice"
options = ["adam", "sgd"]

[parameters.momentum]
type = "float"
low = 0.0
high = 0.99
when = { optimizer = ["sgd"] }

[parameters.patience]
type = "grid"
values = [1, 3, 10]

[[constraints]]
coefficients = { learning_rate = 1.0, "weight_density.conv2" = -2.0 }
at_most = 0.0
"""


def read(tmp_path, text, **changes):
    path = tmp_path / "small.toml"
    path.write_text(text, encoding="utf-8")
    return Experiment.from_toml(path, **changes)


def test_a_file_gives_the_experiment(tmp_path):
    experiment = read(tmp_path, GOOD)
    assert experiment.name == "small"
    assert experiment.budget == 12
    assert experiment.settings == {"task": "mnist", "epochs": 2}
    assert experiment.metrics == [
        Maximize("accuracy", 0.9),
        Minimize("density"),
        AtMost("latency", 5.0),
        AtLeast("recall", 0.5),
    ]
    assert experiment.parameters == [
        Float("learning_rate", 1e-4, 0.3, log=True, prior=Prior(1e-2, 3.0)),
        Float("weight_density.conv2", 0.1, 0.5, step=0.1),
        Int("width", 8, 64, step=8),
        Choice("optimizer", ["adam", "sgd"]),
        Float("momentum", 0.0, 0.99, when={"optimizer": ["sgd"]}),
        Grid("patience", [1, 3, 10]),
    ]
    assert experiment.constraints == [
        LinearConstraint({"learning_rate": 1.0, "weight_density.conv2": -2.0}, 0.0)
    ]
    first = experiment.ask().parameters
    assert (first["learning_rate"], first["width"]) == (1e-3, 16)
    assert {p.name for p in experiment.parameters} - first.keys() <= {"momentum"}


def test_changes_replace_what_the_file_says(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    experiment = read(tmp_path, GOOD, storage=url, budget=5, sampler=None)
    assert experiment.budget == 5
    experiment.ask()
    assert Experiment.from_storage(url).name == "small"


def test_a_definition_survives_the_way_to_plain_data_and_back(tmp_path):
    experiment = read(tmp_path, GOOD)
    data = to_mapping(
        experiment.parameters, experiment.metrics, experiment.constraints, name="small"
    )
    assert from_mapping(data) == {
        "name": "small",
        "parameters": experiment.parameters,
        "metrics": experiment.metrics,
        "constraints": experiment.constraints,
    }


def test_all_that_a_file_can_say_is_stored_and_comes_back(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    experiment = read(tmp_path, GOOD, storage=url)
    twin = read(tmp_path, GOOD)
    for one in (experiment, twin):
        one.tell(one.ask(), error="no number")
    again = Experiment.from_storage(url)
    assert again.parameters == experiment.parameters
    assert again.metrics == experiment.metrics
    assert again.constraints == experiment.constraints
    assert again.ask().parameters == twin.ask().parameters


def test_a_prior_may_change_and_a_condition_may_not(tmp_path):
    url = f"sqlite:///{tmp_path}/x.db"
    read(tmp_path, GOOD, storage=url).ask()
    read(tmp_path, GOOD.replace("center = 1e-2", "center = 1e-3"), storage=url)
    with pytest.raises(UserError, match="'momentum' has when = "):
        read(tmp_path, GOOD.replace('when = { optimizer = ["sgd"] }', ""), storage=url)


def test_a_warm_start_as_a_table():
    data = {
        "name": "x",
        "metrics": {"a": {"goal": "minimize"}},
        "parameters": {"p": {"type": "float", "low": 0.0, "high": 1.0}},
        "warm_start": {"storage": "sqlite:///small.db", "experiment": "small", "best": 2},
    }
    wanted = WarmStart("sqlite:///small.db", "small", 2)
    assert from_mapping(data)["warm_start"] == wanted
    for wrong, words in [({}, "'storage' is missing"), ({"storage": "s", "bets": 1}, "'best'")]:
        with pytest.raises(UserError, match=words):
            from_mapping({**data, "warm_start": wrong})


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('when = { optimizer = ["sgd"] }', 'when = { optimzer = ["sgd"] }', "'optimizer'"),
        ('when = { optimizer = ["sgd"] }', 'when = { optimizer = ["sdg"] }', "is never 'sdg'"),
        ('when = { optimizer = ["sgd"] }', "when = { patience = 1 }", "list 'patience' before"),
        ('when = { optimizer = ["sgd"] }', "when = { learning_rate = 1 }", "without steps"),
        ("{ center = 1e-2, spread = 3.0 }", "{ center = 1e-2 }", "prior: 'spread' is missing"),
        ("{ center = 1e-2, spread = 3.0 }", "{ centre = 1, spread = 3 }", "'centre'; did you"),
        ("{ center = 1e-2, spread = 3.0 }", "{ center = 1.0, spread = 3.0 }", "not within"),
        ("{ center = 1e-2, spread = 3.0 }", "{ center = 0.1, spread = 1.0 }", "factor above 1"),
        ("values = [1, 3, 10]", "values = [3, 1, 10]", "must ascend; write [1, 3, 10]"),
        ("width = 16", "width = 17", "start 1: 'width' is never 17"),
        ("width = 16", "widht = 16", "start 1: unknown parameter 'widht'; did you mean 'width'"),
        ("threshold = 5.0", "", "metric 'latency': a metric that is not optimized needs"),
        ("budget = 12", "buget = 12", "unknown key 'buget'; did you mean 'budget'?"),
        ("budget = 12", 'budget = "12"', "'budget' must be a whole number, not '12'"),
        ("budget = 12", "budget = true", "'budget' must be a whole number"),
        ("budget = 12", 'minutes = "5"', "minutes must be a number above 0, not '5'"),
        ("budget = 12", "budget = 0", "budget must be a whole number of at least 1"),
        ('name = "small"', "", "'name' is missing"),
        ('name = "small"', "name = 3", "'name' must be a text"),
        ('sampler = "tpe"', 'sampler = "tpee"', "unknown sampler 'tpee'; did you mean 'tpe'"),
        ("[settings]", "[setings]", "unknown key 'setings'; did you mean 'settings'?"),
        ('goal = "minimize"', 'goal = "minimise"', "metrics.density: goal must be"),
        ('goal = "minimize"', "", "metrics.density: goal must be"),
        ("threshold = 0.9", "treshold = 0.9", "metrics.accuracy: unknown key 'treshold'"),
        ("threshold = 0.9", 'threshold = "0.9"', "metric 'accuracy': threshold must be"),
        ("low = 1e-4", "low = 0.4", "'learning_rate': low 0.4 is above high 0.3"),
        ("low = 1e-4", "low = 0.0", "'learning_rate': log = true needs low > 0"),
        ("low = 1e-4", 'low = "a"', "'learning_rate': low must be a finite number"),
        ("low = 1e-4", "", "parameters.learning_rate: 'low' is missing"),
        ("log = true", "lgo = true", "parameters.learning_rate: unknown key 'lgo'"),
        ("log = true", 'log = "yes"', "'learning_rate': log must be true or false"),
        ('type = "int"', 'type = "integer"', "parameters.width: type must be"),
        ('type = "choice"', "", "parameters.optimizer: type must be"),
        ('options = ["adam", "sgd"]', "options = []", "'optimizer': options is empty"),
        (
            'options = ["adam", "sgd"]',
            'options = ["adam"]\nlow = 1',
            "parameters.optimizer: unknown key 'low'",
        ),
        (
            '[parameters."weight_density.conv2"]',
            "[parameters.weight_density.conv2]",
            'must be quoted: [parameters."weight_density.conv2"]',
        ),
        ("{ learning_rate", "{ learning_rat", "did you mean 'learning_rate'"),
        ("at_most = 0.0", "", "constraint 1: 'at_most' is missing"),
        ("at_most = 0.0", "at_most = -9.0", "can not be met"),
        ("at_most = 0.0", "at_least = 0.0", "constraint 1: unknown key 'at_least'"),
        ("[[constraints]]", "[constraints]", "'constraints' must be a list of tables"),
        ('task = "mnist"', "task = 2020-01-01", "settings may hold"),
        ("budget = 12", "budget = = 12", "is not valid TOML"),
    ],
)
def test_a_mistake_is_one_line_naming_file_and_field(tmp_path, old, new, words):
    assert old in GOOD
    with pytest.raises(UserError) as error:
        read(tmp_path, GOOD.replace(old, new, 1))
    message = str(error.value)
    assert words in message
    assert "small.toml" in message
    assert "\n" not in message


def test_a_file_that_is_missing_or_no_text(tmp_path):
    with pytest.raises(UserError, match=r"nosuch\.toml does not exist"):
        Experiment.from_toml(tmp_path / "nosuch.toml")
    (tmp_path / "config.toml").write_text("of a run")
    with pytest.raises(UserError, match="is a folder; name an experiment file, or a storage"):
        Experiment.from_toml(tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UserError, match=r"bytes\.toml: line 1 is not UTF-8"):
        Experiment.from_toml(tmp_path / "bytes.toml")


def test_the_speech_experiment(tmp_path):
    path = Path(__file__).parents[2] / "experiments" / "speech.toml"
    experiment = Experiment.from_toml(path, storage=f"sqlite:///{tmp_path}/x.db")
    assert experiment.budget == 1000
    assert experiment.metrics == [Maximize("accuracy", 0.965), Minimize("density", 0.15)]
    assert len(experiment.parameters) == 10
    assert experiment.settings["task"] == "speech_commands"
    # Weights of the network's sparse layers, as FIELD's speech CNN has them.
    conv2, linear1 = 5 * 5 * 64 * 64, 1600 * 1000
    for _ in range(20):
        p = experiment.ask().parameters
        kept = conv2 * p["weight_density.conv2"] + linear1 * p["weight_density.linear1"]
        assert kept + 768 + 12_000 <= 0.15 * 1_716_000 + 1e-6
