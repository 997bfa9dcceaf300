"""Options of the form NAME=VALUE."""

import pytest

from gossamer.cli.compress import thresholds
from gossamer.errors import UserError


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("accuracy=0.965", 0.965),
        ("density=15%", 0.15),
        ("file_bytes = 100k", 100_000.0),
        ("file_bytes=100K", 100_000.0),
        ("file_bytes=1.5M", 1.5e6),
        ("latency=200us", 2e-4),
        ("latency=2ms", 2e-3),
        ("loss=1e-2", 0.01),
        ("x=.5", 0.5),
    ],
)
def test_numbers_as_people_write_them(text, value):
    assert list(thresholds("--at-most", [text]).values()) == [pytest.approx(value)]


@pytest.mark.parametrize(
    "text", ["", "accuracy", "accuracy=", "=3", "accuracy=high", "accuracy=3x", "a=1=2", "a=1 2"]
)
def test_what_is_no_goal(text):
    with pytest.raises(UserError, match=r"--at-least .*write it as NAME=NUMBER"):
        thresholds("--at-least", [text])


def test_one_number_for_each():
    with pytest.raises(UserError, match="--at-least a appears twice"):
        thresholds("--at-least", ["a=1", "a=2"])
