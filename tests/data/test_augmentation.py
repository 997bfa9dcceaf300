"""Each variation of pictures does what it says, by itself and seeded."""

import numpy as np
import pytest

from gossamer.data import Augmentation
from gossamer.errors import UserError

X = np.random.default_rng(0).normal(5.0, 1.0, (200, 2, 6, 8)).astype(np.float32)


def varied(seed=0, **settings):
    before = X.copy()
    out = Augmentation(**settings)(X, np.random.default_rng(seed))
    np.testing.assert_array_equal(X, before)
    assert out.shape == X.shape
    assert out.dtype == np.float32
    return out


def test_half_are_flipped():
    out = varied(flip=True)
    flipped = [np.array_equal(new, old[:, :, ::-1]) for new, old in zip(out, X, strict=True)]
    same = [np.array_equal(new, old) for new, old in zip(out, X, strict=True)]
    assert sum(flipped) + sum(same) == len(X)
    assert 70 < sum(flipped) < 130


def test_crops_are_pieces_of_the_padded_picture():
    seen = set()
    for new, old in zip(varied(crop=2), X, strict=True):
        padded = np.pad(old, ((0, 0), (2, 2), (2, 2)))
        pieces = {(i, j): padded[:, i : i + 6, j : j + 8] for i in range(5) for j in range(5)}
        (place,) = [at for at, piece in pieces.items() if np.array_equal(piece, new)]
        seen.add(place)
    assert len(seen) == 25


def test_shifts_repeat_the_edge():
    seen = set()
    for new, old in zip(varied(shift=3), X, strict=True):
        columns = {s: old[:, :, np.clip(np.arange(8) + s, 0, 7)] for s in range(-3, 4)}
        (shift,) = [s for s, piece in columns.items() if np.array_equal(piece, new)]
        seen.add(shift)
    assert seen == set(range(-3, 4))


@pytest.mark.parametrize(("name", "axis"), [("time_mask", 2), ("frequency_mask", 1)])
def test_masks_are_one_band_up_to_the_widest(name, axis):
    widths, starts = [], set()
    for new, old in zip(varied(**{name: 4}), X, strict=True):
        masked = (new == 0).all(axis=tuple(a for a in range(3) if a != axis))
        np.testing.assert_array_equal(new[new != 0], old[new != 0])
        assert (new == 0).sum() == masked.sum() * new.size // new.shape[axis]
        at = np.flatnonzero(masked)
        assert len(at) == 0 or at[-1] - at[0] + 1 == len(at)
        widths.append(len(at))
        starts.update(at[:1])
    assert set(widths) == set(range(5))
    assert starts == set(range(X.shape[axis + 1]))


def test_gain_is_one_number_for_each_example():
    change = varied(gain=0.5) - X
    each = change.mean(axis=(1, 2, 3))
    np.testing.assert_allclose(change, each[:, None, None, None] * np.ones_like(X), atol=1e-5)
    assert -0.5 <= each.min() < -0.4
    assert 0.4 < each.max() <= 0.5


def test_all_together_are_seeded():
    every = {"flip": True, "crop": 1, "shift": 2, "time_mask": 3, "frequency_mask": 2, "gain": 0.1}
    np.testing.assert_array_equal(varied(1, **every), varied(1, **every))
    assert not np.array_equal(varied(1, **every), varied(2, **every))
    assert Augmentation(**every)
    assert not Augmentation()


@pytest.mark.parametrize(
    ("settings", "shape", "told"),
    [
        ({"flip": True}, (20,), r"pictures and spectrograms .*shape \[20\]"),
        ({"shift": 8}, (1, 6, 8), "shift must be below 8, the examples' columns, not 8"),
        ({"time_mask": 9}, (1, 6, 8), "time_mask must be below 8"),
        ({"frequency_mask": 6}, (1, 6, 8), "frequency_mask must be below 6, the examples' rows"),
    ],
)
def test_what_does_not_fit(settings, shape, told):
    with pytest.raises(UserError, match=told):
        Augmentation(**settings).check(shape)
    Augmentation().check(shape)
