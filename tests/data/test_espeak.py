import time

import pytest

from gossamer.data.espeak import Utterance, speak


def test_the_same_list_gives_the_same_samples():
    said = [Utterance("yes", "en+m3"), Utterance("no", "en-us+f3", rate=140), Utterance("", "en")]
    rate, first = speak(said)
    time.sleep(1.1)  # by itself the library seeds the breath of f3 with the clock's seconds
    again_rate, again = speak(said)
    assert rate == again_rate == 22_050
    assert [bytes(samples) for samples in first] == [bytes(samples) for samples in again]
    assert 0.2 < len(first[0]) / rate < 1.0
    assert len(first[2]) < len(first[0])


def test_slower_is_longer_and_voices_differ():
    _, (slow, fast, other) = speak(
        [
            Utterance("stop", "en+m3", rate=100),
            Utterance("stop", "en+m3", rate=300),
            Utterance("stop", "en+f2", rate=100),
        ]
    )
    assert len(slow) > 1.5 * len(fast)
    assert bytes(slow) != bytes(other)


def test_an_unknown_voice_is_named():
    with pytest.raises(RuntimeError, match="no voice nobody"):
        speak([Utterance("yes", "nobody")])
