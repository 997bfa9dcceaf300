"""Reference networks, found by name in one table."""

from gossamer.models.convnet import image_cnn, speech_cnn
from gossamer.models.mlp import mlp
from gossamer.models.reference import MODELS, Reference, reference

__all__ = ["MODELS", "Reference", "image_cnn", "mlp", "reference", "speech_cnn"]
