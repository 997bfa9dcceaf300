"""Reference networks, found by name in one table."""

from gossamer.models.convnet import image_cnn, speech_cnn
from gossamer.models.reference import MODELS, Reference, reference

__all__ = ["MODELS", "Reference", "image_cnn", "reference", "speech_cnn"]
