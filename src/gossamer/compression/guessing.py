"""The check that a network which is compressed answers better than by guessing."""

from __future__ import annotations

import warnings

from gossamer.errors import UserError

# Of the way from guessing to answering all correctly, a network must be so far.
_KNOWS = 0.1


def check_knows(title: str, accuracy: float, classes: int, weights: str | None = None) -> None:
    """Warn of a network whose accuracy is hardly above that of guessing.

    Args:
        title: of the network.
        accuracy: on validation examples.
        classes: number of classes.
        weights: how to give its weights, if it has none; then it is refused.

    Raises:
        UserError: the accuracy is that of guessing, and the network has no weights.
    """
    guessing = 1 / classes
    if accuracy >= guessing + _KNOWS * (1 - guessing):
        return
    fault = (
        f"{title} answers {accuracy:.1%} of the validation examples correctly, hardly more than by "
        "guessing"
    )
    if weights:
        raise UserError(f"{fault}: {weights}")
    warnings.warn(
        f"{fault}, so that losing little against it means nothing: train it further, or load its "
        "weights; if it has them, scale examples and number classes as in its training",
        stacklevel=3,
    )
