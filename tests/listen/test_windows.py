"""Windows of a stream have the features of clips."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.data.audio import RATE, Sound
from gossamer.errors import UserError
from gossamer.listen import Windows

SOUND = Sound(np.zeros(0, np.int16), mean=-40.0, std=15.0)


def noise(samples):
    rng = np.random.default_rng(samples)
    return (0.3 * rng.standard_normal(samples)).clip(-1, 1).astype(np.float32)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.integers(0, 9_000), min_size=1, max_size=12),
    st.integers(1, 40),
)
def test_windows_are_those_of_training_whatever_the_blocks(blocks, stride):
    stream = noise(sum(blocks) + RATE)
    windows = Windows(SOUND.description, stride)
    found = []
    start = 0
    for block in [*blocks, RATE]:
        found += list(windows.push(stream[start : start + block]))
        start += block
    starts = range(0, len(stream) - RATE + 1, stride * SOUND.log_mel.hop)
    assert [seconds for seconds, _ in found] == [(s + RATE) / RATE for s in starts]
    clips = np.stack([stream[s : s + RATE] for s in starts])
    np.testing.assert_allclose(
        np.stack([features for _, features in found]), SOUND.features(clips), atol=2e-5
    )


def test_a_clip_of_other_length_and_hop():
    description = SOUND.description | {"samples": 5_000, "hop": 300, "n_fft": 512}
    windows = Windows(description, stride=2)
    stream = noise(9_000)
    found = [features for _, features in windows.push(stream)]
    clips = np.stack([stream[s : s + 5_000] for s in range(0, 4_001, 600)])
    expected = (windows.log_mel(clips) - np.float32(-40)) / np.float32(15)
    np.testing.assert_allclose(np.stack(found), expected, atol=2e-5)


def test_windows_with_gaps_between_them():
    windows = Windows(SOUND.description, stride=40)
    stream = noise(4 * RATE)
    found = [
        s
        for start in range(0, len(stream), 16_000)
        for s, _ in windows.push(stream[start : start + 16_000])
    ]
    assert found == [1.0, 2.28, 3.56]


@pytest.mark.parametrize("change", [{"hop": "a"}, {"color": 1}, {"mean": None}])
def test_a_description_that_makes_no_sense(change):
    with pytest.raises(UserError, match="not trained on log-mel features"):
        Windows(SOUND.description | change)
