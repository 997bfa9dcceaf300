"""Distillation: the loss by hand, what a teacher changes, and which teachers are refused."""

import math
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional

from gossamer.data import arrays
from gossamer.errors import UserError
from gossamer.training import Ensemble, Recipe, TrainingConfig, fit, predict, train
from gossamer.training.distillation import fingerprint, load_teacher, soft_loss
from gossamer.training.trained import save_network

QUICK = TrainingConfig(epochs=2, batch_size=16, learning_rate=0.05, device="cpu")


def test_the_loss_is_the_divergence_times_the_temperature_squared():
    student, teacher = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(0))
    expected = torch.distributions.kl_divergence(
        *(torch.distributions.Categorical(logits=x / 3) for x in (teacher, student))
    ).mean()
    assert float(soft_loss(student, teacher, 3.0)) == pytest.approx(float(9 * expected), rel=1e-5)
    assert float(soft_loss(teacher, teacher, 3.0)) == pytest.approx(0, abs=1e-6)


def test_at_a_high_temperature_its_gradient_is_the_difference_of_the_logits():
    """Equation 4 of Hinton et al. 2015, for logits of mean zero."""
    logits, teacher = torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(1))
    teacher = teacher - teacher.mean(1, keepdim=True)
    student = (logits - logits.mean(1, keepdim=True)).requires_grad_()
    soft_loss(student, teacher, 1000.0).backward()
    assert torch.allclose(student.grad, (student - teacher).detach() / 4 / 5, atol=1e-3)


def test_the_target_of_two_teachers_is_the_mean_of_their_softened_probabilities():
    """By hand: at temperature 2, [2 ln 3, 0] is [3/4, 1/4] and [0, 0] is [1/2, 1/2]: mean 5/8."""
    answers = torch.tensor([[[2 * math.log(3), 0.0]], [[0.0, 0.0]]])
    student = torch.zeros(1, 2)  # [1/2, 1/2]
    expected = 4 * (5 / 8 * math.log(5 / 4) + 3 / 8 * math.log(3 / 4))
    assert float(soft_loss(student, answers, 2.0)) == pytest.approx(expected, rel=1e-5)


def test_of_two_teachers_both_are_believed(toy, network):
    """Where each is sure of another class, the student learns to give both one half."""
    student = network(1.0)[0]
    settings = replace(QUICK, epochs=20, teacher_share=1.0, teacher_temperature=1.0)
    fit(student, toy, settings, teacher=Ensemble([Sure(0), Sure(1)]))
    answers = predict(student, torch.from_numpy(toy.features(toy.test.x))).softmax(1).mean(0)
    assert answers.tolist() == pytest.approx([0.5, 0.5, 0.0], abs=0.05)


class Sure(nn.Module):
    """Answers one class whatever it sees."""

    def __init__(self, which):
        super().__init__()
        self.which = which

    def forward(self, x):
        return 10 * functional.one_hot(torch.full((len(x),), self.which), 3).float()


class Second(nn.Module):
    """Answers class 1 whatever it sees."""

    def forward(self, x):
        return torch.tensor([[0.0, 5.0, 0.0]]).repeat(len(x), 1)


def test_a_teacher_is_believed_as_far_as_its_share_says(toy, network):
    answers = {}
    for share in (0.0, 1.0):
        model, _ = network(1.0)
        fit(model, toy, replace(QUICK, epochs=6, teacher_share=share), teacher=Second())
        answers[share] = predict(model, torch.from_numpy(toy.features(toy.test.x))).argmax(1)
    assert (answers[1.0] == 1).all()
    assert (answers[0.0] == torch.from_numpy(toy.test.y)).float().mean() > 0.9


def test_a_checkpoint_knows_its_teacher(toy, network, tmp_path):
    file = tmp_path / "c.safetensors"
    one, same = network(1.0)[0], network(1.0)[0]
    fit(network(1.0)[0], toy, replace(QUICK, epochs=1), teacher=one, checkpoint=file)
    with torch.no_grad():
        assert fingerprint(one) == fingerprint(same) != fingerprint(None)
        same.conv1.weight[0, 0, 0, 0] += 1e-3
    for other in (None, same, Ensemble([one, same])):
        with pytest.raises(UserError, match="was made with another teacher"):
            fit(network(1.0)[0], toy, replace(QUICK, epochs=1), teacher=other, checkpoint=file)


def recipe(**settings):
    few = {"hidden": 8, "epochs": 1, "batch_size": 16, "device": "cpu"}
    return Recipe("toy", "mlp", {**few, **settings})


def test_a_run_teaches_another(toy, tmp_path):
    save_network(train(recipe(), toy), tmp_path)
    taught, alone = (
        train(recipe(seed=1, **extra), toy).model.state_dict()
        for extra in ({"teacher": str(tmp_path), "teacher_share": 0.9}, {})
    )
    assert any(not torch.equal(taught[name], alone[name]) for name in alone)
    both = recipe(seed=1, teacher=[str(tmp_path)] * 2, teacher_share=0.9)
    for name, weight in train(both, toy).model.state_dict().items():
        assert torch.allclose(weight, taught[name], atol=1e-4)  # the mean of equals
    few = [(s.x[s.y < 2], s.y[s.y < 2]) for s in (toy.train, toy.validation, toy.test)]
    with pytest.raises(UserError, match=r"has 3 classes .*'two' has 2 classes"):
        load_teacher(tmp_path, arrays(*few, name="two"))


def test_refused_teachers(toy, tmp_path):
    with pytest.raises(UserError, match="teacher_share has no effect without a teacher"):
        recipe(teacher_share=0.3)
    with pytest.raises(UserError, match=r"teacher must be a run directory, or a list .*, not 3"):
        recipe(teacher=3)
    for wrong in ([], ["runs/a", 3]):
        with pytest.raises(UserError, match="teacher must be a run directory, or a list"):
            recipe(teacher=wrong)
    with pytest.raises(UserError, match="is not a run directory"):
        train(recipe(teacher=str(tmp_path / "none")), toy)
    (tmp_path / "good").mkdir()
    save_network(train(recipe(), toy), tmp_path / "good")
    with pytest.raises(UserError, match="bad is not a run directory"):
        train(recipe(teacher=[str(tmp_path / "good"), str(tmp_path / "bad")]), toy)
    (tmp_path / "config.toml").write_text('task = "toy"\nmodel = "evil.py:f"\n[settings]\n')
    with pytest.raises(UserError, match=r"is Python code, evil\.py:f.*--trust"):
        train(recipe(teacher=str(tmp_path)), toy)
