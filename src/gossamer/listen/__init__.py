"""Keyword spotting in streams of sound: an exported network listens, without torch."""

from gossamer.listen.detector import Detection, Detector
from gossamer.listen.sources import from_file, from_microphone, from_stream
from gossamer.listen.spotter import Score, Spotter
from gossamer.listen.windows import Windows

__all__ = [
    "Detection",
    "Detector",
    "Score",
    "Spotter",
    "Windows",
    "from_file",
    "from_microphone",
    "from_stream",
]
__dir__ = __all__.copy
