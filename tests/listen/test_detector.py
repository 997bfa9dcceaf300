"""Detections worked by hand."""

import numpy as np
import pytest

from gossamer.errors import UserError
from gossamer.listen import Detection, Detector

CLASSES = ("yes", "no", "silence")


def outputs(*posteriors):
    return np.log(np.array(posteriors, np.float32))


def test_posteriors_are_averaged_and_the_refractory_time_is_respected():
    detector = Detector(CLASSES, threshold=0.7, smoothing=2, refractory=0.25)
    said = [
        (0.1, (0.9, 0.05, 0.05)),  # one window alone is never enough
        (0.2, (0.45, 0.1, 0.45)),  # mean .675
        (0.3, (0.97, 0.02, 0.01)),  # mean .71: heard
        (0.4, (0.97, 0.02, 0.01)),  # too soon
        (0.5, (0.97, 0.02, 0.01)),  # still
        (0.6, (0.97, 0.02, 0.01)),  # heard again
    ]
    found = [detector.push(seconds, outputs(*p)) for seconds, p in said]
    assert [f is not None for f in found] == [False, False, True, False, False, True]
    assert found[2] == Detection(0.3, "yes", pytest.approx(0.71))


def test_background_is_never_reported_and_does_not_mute():
    detector = Detector(CLASSES, threshold=0.5, smoothing=1, refractory=10)
    assert detector.push(0.1, outputs(0.1, 0.1, 0.8)) is None
    heard = detector.push(0.2, outputs(0.1, 0.8, 0.1))
    assert heard is not None
    assert heard.keyword == "no"


def test_large_logits_do_not_overflow():
    detector = Detector(CLASSES, smoothing=1)
    assert detector.push(0.0, np.array([1e4, 0, -1e4], np.float32)).confidence == 1.0


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ({"threshold": 0.0}, "above 0"),
        ({"threshold": 1.5}, "at most 1"),
        ({"smoothing": 0}, "smoothing must be a whole number of at least 1"),
        ({"refractory": -1.0}, "refractory must be a finite number of at least 0"),
    ],
)
def test_settings_out_of_range(arguments, told):
    with pytest.raises(UserError, match=told):
        Detector(CLASSES, **arguments)


def test_classes_without_a_keyword():
    with pytest.raises(UserError, match="no keyword among"):
        Detector(("silence", "_unknown_"))
