"""Distillation: the loss by hand, what a teacher changes, and which teachers are refused."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from gossamer.data import arrays
from gossamer.errors import UserError
from gossamer.training import Recipe, TrainingConfig, fit, predict, train
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
    for other in (None, same):
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
    few = [(s.x[s.y < 2], s.y[s.y < 2]) for s in (toy.train, toy.validation, toy.test)]
    with pytest.raises(UserError, match=r"has 3 classes .*'two' has 2 classes"):
        load_teacher(tmp_path, arrays(*few, name="two"))


def test_refused_teachers(toy, tmp_path):
    with pytest.raises(UserError, match="teacher_share has no effect without a teacher"):
        recipe(teacher_share=0.3)
    with pytest.raises(UserError, match="teacher must be a run directory, not 3"):
        recipe(teacher=3)
    with pytest.raises(UserError, match="is not a run directory"):
        train(recipe(teacher=str(tmp_path / "none")), toy)
    (tmp_path / "config.toml").write_text('task = "toy"\nmodel = "evil.py:f"\n[settings]\n')
    with pytest.raises(UserError, match=r"is Python code, evil\.py:f.*--trust"):
        train(recipe(teacher=str(tmp_path)), toy)
