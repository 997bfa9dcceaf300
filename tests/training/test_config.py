"""Settings: everything out of type or range is refused by name."""

import math

import pytest

from gossamer.errors import UserError
from gossamer.training import Recipe, TrainingConfig

BAD = [
    ("epochs", -1),
    ("epochs", 1.5),
    ("epochs", "20"),
    ("epochs", True),
    ("epochs", None),
    ("epochs", math.inf),
    ("epochs", math.nan),
    ("batch_size", 1),
    ("batch_size", [64]),
    ("learning_rate", 0.0),
    ("learning_rate", -0.1),
    ("learning_rate", math.nan),
    ("learning_rate", math.inf),
    ("learning_rate", "0.1"),
    ("optimizer", "sdg"),
    ("precision", "float16"),
    ("optimizer", 1),
    ("momentum", -0.1),
    ("momentum", 1.1),
    ("weight_decay", -1e-9),
    ("weight_decay", math.inf),
    ("schedule", "cosine"),
    ("schedule", None),
    ("warmup", -0.1),
    ("warmup", 1.5),
    ("warmup", math.nan),
    ("learning_rate_decay", 1.5),
    ("learning_rate_decay", -0.5),
    ("label_smoothing", 1.01),
    ("label_smoothing", -0.01),
    ("patience", -1),
    ("augment", 1),
    ("augment", "yes"),
    ("seed", -1),
    ("seed", 0.5),
    ("device", 0),
]


@pytest.mark.parametrize(("name", "value"), BAD)
def test_bad_value_is_refused_by_name(name, value):
    with pytest.raises(UserError, match=rf"^{name}\b") as caught:
        TrainingConfig(**{name: value})
    assert "\n" not in str(caught.value)


def test_nearest_name_and_nearest_choice_are_suggested():
    with pytest.raises(UserError, match=r"no setting 'learning_rat'.*mean 'learning_rate'"):
        Recipe("spoken_words", "mlp", {"learning_rat": 0.1})
    with pytest.raises(UserError, match="mean 'adam'"):
        TrainingConfig(optimizer="adm")
    with pytest.raises(UserError, match="mean 'one_cycle'"):
        TrainingConfig(schedule="onecycle")


def test_good_values_stay_and_take_their_type():
    settings = TrainingConfig.of(
        {"epochs": 5.0, "learning_rate": 1, "seed": 7, "pattern": "block8"}
    )
    assert (settings.epochs, settings.learning_rate, settings.seed) == (5, 1.0, 7)
    assert type(settings.epochs) is int
    assert type(settings.learning_rate) is float
    assert settings == TrainingConfig(epochs=5, learning_rate=1.0, seed=7)
    assert TrainingConfig.of({}) == TrainingConfig()


def test_names_are_those_of_the_arguments():
    assert set(TrainingConfig.names()) == set(vars(TrainingConfig()))


def test_sparse_kernels_compute_in_float32():
    with pytest.raises(UserError, match="accelerate computes in float32"):
        TrainingConfig(accelerate=True, precision="bfloat16")
