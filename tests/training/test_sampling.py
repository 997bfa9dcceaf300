"""The examples of an epoch and their order."""

import numpy as np
import pytest

from gossamer.data import arrays
from gossamer.errors import UserError
from gossamer.training import TrainingConfig
from gossamer.training.sampling import EpochOrder


@pytest.fixture(scope="module")
def uneven():
    """Class 0 has 20 training examples, class 1 has 40, class 2 has 200."""
    y = np.repeat([0, 1, 2], [20, 40, 200])
    x = np.arange(260, dtype=np.float32)[:, None] * np.ones((1, 4), np.float32)
    few = (x[[0, 20, 60]], y[[0, 20, 60]])
    return arrays((x, y), few, few, name="uneven")


def order(task, **settings):
    return EpochOrder(task, TrainingConfig(**settings))


def test_without_a_class_every_example_comes_once(uneven):
    plain = order(uneven)
    assert len(plain) == 260
    one, other = (plain.draw(np.random.default_rng(seed)) for seed in (0, 1))
    assert sorted(one) == sorted(other) == list(range(260))
    assert list(one) != list(other)
    assert list(one) == list(np.random.default_rng(0).permutation(260))


@pytest.mark.parametrize("share", [0.1, 0.25, 0.5])
def test_a_class_is_drawn_anew_to_its_share(uneven, share):
    drawing = order(uneven, redrawn_class="2", redrawn_share=share)
    seen = set()
    for seed in range(60):
        drawn = drawing.draw(np.random.default_rng(seed))
        assert len(drawn) == len(drawing) == len(set(drawn))
        labels = uneven.train.y[drawn]
        assert (labels == 2).mean() == pytest.approx(share, abs=0.01)
        assert sorted(drawn[labels != 2]) == list(range(60))  # the others all come
        seen |= set(drawn[labels == 2])
    assert len(seen) > 160  # of 200
    again = [drawing.draw(np.random.default_rng(3)) for _ in range(2)]
    assert np.array_equal(*again)


def test_a_class_of_too_few_examples_comes_again(uneven):
    drawn = order(uneven, redrawn_class="0", redrawn_share=0.5).draw(np.random.default_rng(0))
    counts = np.bincount(drawn, minlength=260)
    assert set(counts[:20]) == {12}  # 240 of 20 examples, as many as there are others
    assert set(counts[20:]) == {1}


@pytest.mark.parametrize("settings", [{}, {"redrawn_class": "2", "redrawn_share": 0.5}])
def test_a_share_of_the_examples_is_of_every_class_and_stays_the_same(uneven, settings):
    part = order(uneven, data_share=0.1, **settings)
    epochs = [part.draw(np.random.default_rng(seed)) for seed in (0, 1)]
    assert len(part) == len(epochs[0])
    assert part.examples == 2 + 4 + 20
    classes = np.bincount(uneven.train.y[epochs[0]])
    assert list(classes) == ([2, 4, 6] if settings else [2, 4, 20])
    if not settings:
        assert sorted(epochs[0]) == sorted(epochs[1])
        other = order(uneven, data_share=0.1, seed=1).draw(np.random.default_rng(0))
        assert sorted(other) != sorted(epochs[0])


def test_the_smallest_share_has_an_example_of_each_class(uneven):
    drawn = order(uneven, data_share=1e-6).draw(np.random.default_rng(0))
    assert sorted(uneven.train.y[drawn]) == [0, 1, 2]
    with pytest.raises(UserError, match="data_share must be between"):
        order(uneven, data_share=0.0)


def test_classes_that_cannot_be_drawn(uneven):
    with pytest.raises(UserError, match="redrawn_class: no 'unknwon'"):
        order(uneven, redrawn_class="unknwon")
    for share in (0.0, 1.0, -1.0):
        with pytest.raises(UserError, match="redrawn_share must be between"):
            order(uneven, redrawn_class="0", redrawn_share=share)
